import EngramCore

/// The keys of each table. Names carry their unit; every number carries its bounds and the reason for them.
enum Schema {
  static let tables = ["federation", "limits", "node", "peer", "permissions", "queue"]

  static let nodeKeys = [
    "admin_socket", "advertise", "ca", "certificate", "data_dir", "identity_key", "listen", "log_format",
    "log_level", "metrics", "name", "private_key",
  ]

  static let peerKeys = ["ca", "enabled", "endpoint", "name", "node_id"]

  struct IntegerKey {
    let name: String
    let fallback: Int
    let range: ClosedRange<Int>
  }

  enum Limits {
    /// The protocol's own bound is the highest; a node may accept less, but has to leave room for a header
    /// and the wraps of a thousand recipients.
    static let envelopeBytes = IntegerKey(
      name: "max_envelope_bytes", fallback: EngramCore.Limits.envelopeBytesMax,
      range: 1 << 20...EngramCore.Limits.envelopeBytesMax)
    /// The life that the protocol allows an envelope (Envelope, Time): deduplication remembers no longer.
    static let ttlDays = IntegerKey(name: "max_ttl_days", fallback: 30, range: 1...30)
    /// Beyond a thousand rows a larger transaction is no cheaper per row, but holds the first one up.
    static let groupCommit = IntegerKey(name: "group_commit_max", fallback: 1000, range: 1...1000)
    /// Bounds the directory, and what one organisation's invites can grow it to.
    static let clients = IntegerKey(name: "clients_max", fallback: 10_000, range: 1...1_000_000)
    /// Connections of clients, HTTP and WebSocket together: an idle one costs tens of KiB, and each takes a
    /// file descriptor. Peers' links come on top.
    static let webSockets = IntegerKey(
      name: "websocket_connections_max", fallback: 10_000, range: 1...100_000)
    /// A stolen session token is worth this long; the protocol allows no more than 300.
    static let sessionSeconds = IntegerKey(name: "session_seconds", fallback: 300, range: 30...300)
    /// How long a stopping node waits for work in flight; a service manager has to allow it more than this.
    static let drainSeconds = IntegerKey(name: "drain_seconds", fallback: 10, range: 1...300)

    /// Each costs signature checks and a commit before anybody is known: 50 take about half a percent of one
    /// core.
    static let signInsPerSecond = IntegerKey(name: "sign_ins_per_second", fallback: 50, range: 1...10_000)

    static let all = [
      envelopeBytes, ttlDays, groupCommit, clients, webSockets, sessionSeconds, drainSeconds,
      signInsPerSecond,
    ]
  }

  enum Federation {
    /// Messages sent and not yet acknowledged: enough to hide a round trip of 100 ms at 10,000 messages/s.
    static let windowMessages = IntegerKey(name: "window_messages", fallback: 1024, range: 1...65_536)
    /// The same in bytes, so that large messages cannot take the memory of many small ones.
    static let windowBytes = IntegerKey(
      name: "window_bytes", fallback: 8 << 20, range: 64 << 10...256 << 20)
    /// The first wait after a dial that failed.
    static let backoffMinMilliseconds = IntegerKey(
      name: "dial_backoff_min_ms", fallback: 200, range: 10...60_000)
    /// The longest wait: a peer that comes back is found again within this time.
    static let backoffMaxMilliseconds = IntegerKey(
      name: "dial_backoff_max_ms", fallback: 60_000, range: 100...3_600_000)
    /// Below the idle timeouts of common firewalls, and how soon a dead link is noticed.
    static let idlePingSeconds = IntegerKey(name: "idle_ping_seconds", fallback: 15, range: 1...300)

    static let all = [
      windowMessages, windowBytes, backoffMinMilliseconds, backoffMaxMilliseconds, idlePingSeconds,
    ]
  }

  enum Queue {
    /// With the default rests the twentieth attempt is about an hour and a half after the first. More than a
    /// thousand would keep a message that fails by itself busy until it expires.
    static let attempts = IntegerKey(name: "attempts_max", fallback: 20, range: 1...1_000)
    /// The longest rest after the first failure; it doubles with each one.
    static let backoffMinMilliseconds = IntegerKey(
      name: "backoff_min_ms", fallback: 1_000, range: 10...3_600_000)
    /// The longest rest of all: what a worker that comes back waits at most. Beyond a day the messages whose
    /// life is a day would never be tried again.
    static let backoffMaxMilliseconds = IntegerKey(
      name: "backoff_max_ms", fallback: 600_000, range: 100...86_400_000)
    /// Long enough that URGENT is urgent, short enough that LOW waits four minutes longer at most.
    static let ageStepSeconds = IntegerKey(name: "age_step_seconds", fallback: 60, range: 1...3_600)
    /// Most devices are done by then and say so themselves, which saves a receipt for each message.
    static let deliveredMilliseconds = IntegerKey(
      name: "delivered_after_ms", fallback: 200, range: 0...60_000)
    /// What a poll gets that asks for a lease and does not say for how long; bounded as those that do.
    static let leaseSeconds = IntegerKey(
      name: "lease_seconds", fallback: Int(EngramCore.Limits.visibilityMsDefault / 1_000),
      range: Int(EngramCore.Limits.visibilityMsMin / 1_000)...Int(EngramCore.Limits.visibilityMsMax / 1_000))

    static let all = [
      attempts, backoffMinMilliseconds, backoffMaxMilliseconds, ageStepSeconds, deliveredMilliseconds,
      leaseSeconds,
    ]
  }

  enum Permissions {
    static let broadcast = "broadcast"
    /// Whoever may write to everybody is known by name; a longer list means everybody.
    static let broadcastersMax = 1_000
  }

  /// A file of this size is no configuration; reading stops there.
  static let fileBytesMax = 1 << 20
  /// Bounds the links, each with its own buffers and trust store, that one node keeps.
  static let peersMax = 1024
  /// `sun_path` of a Unix socket holds 108 bytes with its final zero.
  static let socketPathBytesMax = 107
}
