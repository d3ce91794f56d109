/// Bounds of one federation link, each with its unit and its reason. What an operator may tune is in
/// `LinkSettings`.
package enum LinkLimits {
  /// From TLS to the peer's verified hello. One signature and one round trip; more is a stuck or hostile
  /// peer.
  package static let helloTimeoutMs: UInt64 = 10_000
  /// Pings without any frame in return before the link counts as dead.
  package static let silentPingsMax = 3
  /// A link whose peer has just connected again is suspected dead: it must show life within this time.
  package static let probeMs: UInt64 = 5_000
  /// Payload after which a deliver or receipts frame is closed: large enough to amortise a frame's fixed
  /// costs, small enough that an acknowledgement never waits long behind it.
  package static let frameFillBytes = 256 << 10
  /// Smallest frame bound that a peer may announce: one part, certificate or directory answer must fit.
  package static let peerFrameBytesMin = 320 << 10
  /// Envelopes in parts at once from one peer; with 16 MiB each this bounds what half-arrived input can hold.
  package static let partStreamsMax = 2
  /// Bytes received and not decided yet before reading pauses: a few commits' worth.
  package static let undecidedBytesMax = 32 << 20
  /// Envelopes of small frames that are verified and committed together: enough to keep every core busy.
  package static let joinedEnvelopesMax = 256
  /// Frames that arrive while the answer to the peer's hello is being prepared.
  package static let heldFramesMax = 2_048
  /// Bytes of deliveries handed to the transport in one go; then others get their turn.
  package static let bulkQuantumBytes = 512 << 10
  /// Bytes of deliveries read and not yet handed to the transport. Enough to fill it twice; what is more
  /// urgent and not read yet waits for no more than this.
  package static let readAheadBytes = 1 << 20
  /// Bytes waiting in the transport before a peer that reads nothing is dropped.
  package static let unsentBytesMax = 32 << 20
  /// Directory questions without an answer, in either direction.
  package static let queriesMax = 256
  /// After this a directory question has failed; a client should not wait longer.
  package static let queryTimeoutMs: UInt64 = 10_000
  /// A stopping link waits this long for acknowledgements of what it sent.
  package static let drainMs: UInt64 = 1_000
  /// The mailboxes of a link are looked at this often even without a signal.
  package static let sweepMs: UInt64 = 5_000
  /// Links of one peer that have connected and not said hello yet.
  package static let unprovenLinksMax = 8
  /// Ed25519 verifications (about 60 µs each) in one turn of an event loop.
  package static let verificationsPerTurn = 16
}

/// What an operator may tune about links, with the defaults of `federation.toml`.
package struct LinkSettings: Sendable, Equatable {
  /// Messages on their way to a peer and not acknowledged; also announced as what we take.
  package var windowMessages = 1_024
  /// Bytes on their way to a peer and not acknowledged; as much again in envelopes that go in parts. One
  /// message of each kind may always go.
  package var windowBytes = 8 << 20
  /// A link that is silent for so long is pinged.
  package var idlePingMs: UInt64 = 15_000
  /// First and last bound of the wait after a failed dial.
  package var dialBackoffMinMs: UInt64 = 200
  package var dialBackoffMaxMs: UInt64 = 60_000
  package init() {}
}
