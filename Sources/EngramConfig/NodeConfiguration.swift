package import EngramCore

/// What `federation.toml`, `peers.d` and the environment together say, checked and with every default in
/// place.
///
/// File paths are absolute: those in a file are relative to the folder of that file, those left out are
/// relative to the data directory.
package struct NodeConfiguration: Sendable, Equatable {
  package let name: NodeName
  package let dataDirectory: String
  package let listen: HostPort
  /// Where others reach this node, when that is not where it listens.
  package let advertise: HostPort?
  /// PEM: the certificate chain that this node shows.
  package let certificatePath: String
  /// PEM: the key of that certificate.
  package let privateKeyPath: String
  /// PEM: this organisation's own certificate authority, which its clients trust.
  package let authorityPath: String
  package let identityKeyPath: String
  package let adminSocketPath: String
  package let logLevel: LogLevel
  package let logFormat: LogFormat
  package let metrics: MetricsAccess
  package let limits: Limits
  package let federation: Federation
  package let queue: Queue
  package let permissions: Permissions
  /// Ascending by name.
  package let peers: [PeerConfiguration]
  /// `file:line` of each peer's table, for messages about it.
  package let peerPlaces: [NodeName: String]

  package struct Limits: Sendable, Equatable {
    package let envelopeBytesMax: Int
    package let ttlMax: Duration
    package let groupCommitMax: Int
    package let clientsMax: Int
    package let webSocketConnectionsMax: Int
    package let sessionLifetime: Duration
    package let drainTime: Duration
    /// Registrations and session openings from one address.
    package let signInsPerSecond: Int
  }

  package struct Federation: Sendable, Equatable {
    package let windowMessages: Int
    package let windowBytes: Int
    package let dialBackoffMin: Duration
    package let dialBackoffMax: Duration
    package let idlePingInterval: Duration
  }
}

extension NodeConfiguration {
  /// How work is handed out, and how often it is tried.
  package struct Queue: Sendable, Equatable {
    /// Failures after which a message is a dead letter.
    package let attemptsMax: Int
    /// The longest rests after the first failure and after any.
    package let backoffMin: Duration
    package let backoffMax: Duration
    /// How much later a message of the next lower priority may have become ready and still go first.
    package let ageStep: Duration
    package let deliveredAfter: Duration
    package let lease: Duration
  }
}

/// What the operator allows beyond what every client may do.
extension NodeConfiguration {
  package struct Permissions: Sendable, Equatable {
    /// Clients of this node that may ask for the addresses of all others, ascending.
    package let broadcast: [Address]
  }
}

/// Another organisation's node, and how it is recognised.
package struct PeerConfiguration: Sendable, Equatable {
  package let name: NodeName
  package let endpoint: HostPort
  /// The pinned identity key.
  package let nodeID: NodeID
  /// PEM: the authority that the peer's certificate has to chain to, and no other.
  package let authorityPath: String
  package let isEnabled: Bool

  package init(
    name: NodeName, endpoint: HostPort, nodeID: NodeID, authorityPath: String, isEnabled: Bool = true
  ) {
    self.name = name
    self.endpoint = endpoint
    self.nodeID = nodeID
    self.authorityPath = authorityPath
    self.isEnabled = isEnabled
  }
}

/// From the most talkative to the least; the raw values are those of swift-log.
package enum LogLevel: String, Sendable, CaseIterable {
  case trace, debug, info, notice, warning, error, critical
}

package enum LogFormat: String, Sendable, CaseIterable {
  case json, text
}

/// Who may read `/metrics` on the public port without authentication.
package enum MetricsAccess: String, Sendable, CaseIterable {
  /// Connections from this machine.
  case local
  /// Nobody; the administration's socket still has them.
  case off
  /// Everybody who reaches the port.
  case open
}
