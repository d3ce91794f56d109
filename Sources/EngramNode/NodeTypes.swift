package import EngramCore
package import EngramCrypto

/// The node's time. Two implementations: `SteadyClock`, and the one that tests and the simulator turn by
/// hand.
package protocol Clock: Sendable {
  /// Milliseconds since 1970-01-01T00:00:00Z.
  func nowMs() -> UInt64
  /// Milliseconds since any fixed moment, for leases: nobody can set it.
  func monotonicMs() -> UInt64
  /// How far the machine's clock has jumped away from this one; nil when it has not.
  var jumpMs: Int64? { get }
  /// Follows small corrections of the machine's clock; called about once a second.
  func slew()
  /// Takes the machine's clock for right, however far it jumped.
  func accept()
}

extension Clock {
  package func monotonicMs() -> UInt64 { nowMs() }
  package var jumpMs: Int64? { nil }
  package func slew() {}
  package func accept() {}
}

/// Where identifiers, tokens and epochs come from.
package protocol RandomSource: Sendable {
  func bytes(_ count: Int) -> [UInt8]
}

/// Who this node is.
package struct NodeIdentity: Sendable {
  package let name: NodeName
  package let key: SigningKey
  package var id: NodeID { NodeID(key.publicKey) }
  package init(name: NodeName, key: SigningKey) { (self.name, self.key) = (name, key) }
}

/// A pinned organisation that we federate with.
package struct Peer: Sendable, Equatable {
  package let name: NodeName
  package let id: NodeID
  package var isEnabled: Bool
  package init(name: NodeName, id: NodeID, isEnabled: Bool = true) {
    (self.name, self.id, self.isEnabled) = (name, id, isEnabled)
  }
}

/// What an operator may tune, with the reasons for the defaults.
package struct NodeSettings: Sendable {
  /// Messages in one group commit: at 1,000 the fsync is 1 % of the work.
  package var groupCommitMax = 1_000
  /// Commands waiting for the commit loop before new ones are refused with `overloaded`.
  package var queuedMessagesMax = 20_000
  /// Lifetime of a session; renewal costs no signature.
  package var sessionMs: UInt64 = 300_000
  package var maxTTLMs: UInt64 = Limits.ttlMsMax
  /// Never above `Limits.envelopeBytesMax`, which is what peers may send.
  package var envelopeBytesMax = Limits.envelopeBytesMax
  /// Sessions in memory; a client needs one per device.
  package var sessionsMax = 100_000
  /// How long a directory answer of a peer is used without asking again: with what clients add to it, this is
  /// how long a new device may be left out. An answer costs the peer a read and a signature.
  package var directoryFreshMs: UInt64 = 300_000
  /// Clients of this node.
  package var clientsMax = 1_000_000
  /// Clients of one peer whose certificates are kept, about 2 KiB each. Whoever can name a device can invent
  /// another, so without a bound a peer could fill the disk.
  package var clientsPerPeerMax = 100_000
  /// Numbers that a mailbox may run ahead of its oldest receipt; older ones are dropped. Bounds what piles up
  /// for somebody who never comes back.
  package var noticeNumbersMax = 100_000
  /// Disk held back for the time when it is full: acknowledgements, which free space, then still find room
  /// for their commits, while new work is refused.
  package var diskReserveBytes: UInt64 = 8 << 20
  /// Who may ask for the addresses of all clients; nobody unless the operator says so.
  package var broadcasters: Set<Address> = []
  /// How often a delivery is tried and how long it rests in between.
  package var retry = RetryPolicy()
  /// How much later a message of the next lower priority may have become ready and still go first.
  package var ageStepMs = Ranking.ageStepMsDefault
  /// How long a device may take before the sender is told that it has the message; most say more by then.
  package var deliveredAfterMs: UInt64 = 200
  package init() {}
}

/// Where an envelope came in; decides the home check and the slot pattern.
package enum Source: Sendable {
  case client(ClientSession)
  case peer(NodeName)
}

/// A device that has proved itself to us for a while.
package struct ClientSession: Sendable, Hashable {
  package let address: Address
  package let kid: Kid
  /// The device's mailbox in the store.
  package let mailbox: Int64
  package let expiresMs: UInt64
}

package struct SessionGrant: Sendable {
  /// Opaque, 32 random bytes in lower-case hexadecimal.
  package let bearer: String
  package let expiresMs: UInt64
  package let session: ClientSession
}

/// What a link needs to know when it starts.
package struct LinkState: Sendable {
  /// Names our numbering towards the peer.
  package var outEpoch: UInt64
  /// The peer's numbering, as far as we committed it.
  package var inEpoch: UInt64
  package var inThrough: UInt64
  package var receiptsInEpoch: UInt64
  package var receiptsInThrough: UInt64
  /// The peer has acknowledged everything up to here.
  package var ackedThrough: UInt64
  /// The last number we gave to a delivery for the peer.
  package var highestAssigned: UInt64
  package var envelopesMailbox: Int64
  package var receiptsMailbox: Int64
}

package struct OutboundEnvelope: Sendable {
  package let seq: UInt64
  /// Pruned for the peer: full wraps exactly for its own clients.
  package let bytes: [UInt8]
  package let senderKid: Kid
  /// Version of the sender's device list: a link sends the certificate again when it has grown.
  package let senderListVersion: UInt64
}

package struct OutboundReceipts: Sendable {
  package let seq: UInt64
  package let receipts: [[UInt8]]
}

package struct ClientSummary: Sendable {
  package let address: Address
  package let identity: SigningPublicKey
  package let devices: [Kid]
  package let isDisabled: Bool
  package let createdMs: UInt64
  package let waiting: Int
}

package struct InviteSummary: Sendable {
  package let name: String
  package let expiresMs: UInt64
}

package struct NodeStatus: Sendable {
  package let name: NodeName
  package let id: NodeID
  package let startedMs: UInt64
  package let messages: Int
  package let openDeliveries: Int
  package let notices: Int
  package let clients: Int
  package let devices: Int
  package let sessions: Int
  package let storeBytes: Int
  package let isReady: Bool
}

/// Asks another organisation's directory; the federation sets it.
package protocol DirectoryPort: Sendable {
  func lookup(
    _ address: Address, at peer: NodeName,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void)
}
