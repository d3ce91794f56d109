import EngramCore
package import NIOCore

/// Bounds of the HTTP edge that are the same on every node. What an operator may tune is in
/// `ListenerSettings`.
package enum HTTPLimits {
  /// URL, names and values of one request's header: a token (2 KiB), an address twice, and what a proxy adds.
  static let headerBytesMax = 16 << 10
  static let headerFieldsMax = 64
  /// A session or a device token with room to spare.
  static let bearerBytesMax = 2 << 10

  /// One envelope of the largest size and half as much again; also the largest WebSocket message.
  package static let batchBytesMax = 24 << 20
  /// Certificate, device list, prekey and invite of one registration, with their lengths.
  static let registrationBytesMax = 16 << 10
  /// Certificate and device list of a further device, with their lengths.
  static let deviceBytesMax = Limits.certificateBytesMax + Limits.deviceListBytesMax + 1 << 10
  /// `Limits.envelopesPerBatchMax` acknowledgements with a receipt of the usual depth (about 1 KiB) each.
  static let acksBytesMax = 4 << 20
  /// Connections beyond `connectionsMax` that clients cannot take: peers' links and handshakes. Two links for
  /// each of a hundred peers, with some that reconnect.
  package static let foreignConnectionsReserved = 256

  /// Fragments of one WebSocket message: 6 KiB each when the message is as large as it may be.
  static let fragmentsMax = 4_096

  /// What a connection may have of an unfinished message before it draws on the bytes of all: with it a
  /// message of the usual size gets through however many large ones are under way. 10,000 connections hold
  /// 160 MiB so.
  static let partialBytesFree = 16 << 10
  /// Drawn at a time, so that a large message does not take the lock for each read.
  static let partialBytesStep = 64 << 10
  /// Of `signInsPerSecond` that may come at once: all clients of an organisation after a restart.
  static let signInBurstSeconds = 20
  /// Addresses whose sign-ins are remembered one by one, about 100 bytes each; others share one allowance.
  static let signInSourcesMax = 16_384

  /// Items of one answer or push.
  static let itemsPerReadMax = 256
  /// Bytes of one answer or push; a single larger item still goes out alone.
  static let itemsBytesMax = 1 << 20
  /// Longer polls outlive the idle timeouts of common middleboxes.
  static let pollSecondsMax = 30

  /// Signature checks of one event-loop turn: about 2 ms, so that no other connection of the loop waits
  /// longer.
  package static let verificationsPerTurn = 32
  /// What one loop takes of a batch at a time: half a turn, so that a batch of the usual size uses two loops.
  static let verificationsPerShare = 16
  /// Pause between two such turns. Tasks that are due at once would run before the loop looks at its sockets
  /// again. Setting the timer for it costs about 30 µs on virtual machines.
  static let turnPause = TimeAmount.microseconds(10)

  /// Sends that one WebSocket may have waiting for verification or commit before it is read no further.
  static let realtimeRequestsMax = 64
  static let realtimeBytesMax = 16 << 20
  /// More credit than this says nothing more.
  static let creditMax: UInt32 = 1 << 20
  /// Senders whose certificates one connection is known to have; beyond it they are sent again.
  static let knownSendersMax = 4_096
  static let pingInterval = TimeAmount.seconds(30)
  static let pingsMissedMax = 2
  /// How long the other side may take to answer a close frame.
  static let closeTimeout = TimeAmount.seconds(2)

  /// Addresses, or agents with their state, of one answer.
  static let agentsPerPageMax = 1_000
  /// A state and its note as JSON.
  static let statusBytesMax = 2 << 10

  /// Threads that read mailboxes for all connections: SQLite readers are bound by CPU, and there are two
  /// cores.
  package static let blockingThreads = 2
  /// `{"mode":"one"}` with room to spare.
  static let queueBodyBytesMax = 1 << 10
  /// Messages of one page that the operator looks at.
  static let queuePageMax = 1_000
  /// JSON bodies of the administration: a peer with its CA file.
  static let adminBodyBytesMax = 64 << 10
  /// Administrators at work at the same time.
  static let adminConnectionsMax = 64
  static let inviteHoursMax: UInt64 = 24 * 30
}

/// What an operator may tune about the public port, with the reasons for the defaults.
package struct ListenerSettings: Sendable {
  package var host: String
  /// 0 lets the system choose.
  package var port: Int
  /// Of clients, HTTP and WebSocket together; about 30 KiB each when idle.
  package var connectionsMax = 10_000
  package var backlog = 1_024
  /// From the end of the handshake to the end of the first request's header.
  package var firstRequestTimeout = TimeAmount.seconds(10)
  /// From the end of a response to the end of the next request's header.
  package var keepAliveTimeout = TimeAmount.seconds(75)
  /// From the end of a request's header to the end of its body: 24 MiB at 3.2 Mbit/s.
  package var bodyTimeout = TimeAmount.seconds(60)
  /// How long `drain` waits for what is in progress.
  package var drainTimeout = TimeAmount.seconds(10)
  /// Request bodies held in memory by all connections together.
  package var bodyBytesInFlightMax = 256 << 20
  /// WebSocket messages of which only a part has come, held in memory by all connections together.
  package var partialBytesMax = 256 << 20
  /// Registrations and session openings from one address, on average.
  package var signInsPerSecond = 50
  package var metrics = MetricsAccess.local

  package init(host: String, port: Int) { (self.host, self.port) = (host, port) }
}
