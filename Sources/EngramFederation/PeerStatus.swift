package import EngramCore

/// Another organisation as the operator configured it.
package struct FederationPeer: Sendable, Equatable {
  package var name: NodeName
  package var id: NodeID
  /// Where it is dialled; its certificate must carry `name`, wherever that is.
  package var host: String
  package var port: Int
  /// The certificate authority that is trusted for this peer and nobody else, as PEM text.
  package var authorityPEM: String
  /// False keeps the peer known, and neither dials nor admits it.
  package var isEnabled: Bool

  package init(
    name: NodeName, id: NodeID, host: String, port: Int, authorityPEM: String, isEnabled: Bool = true
  ) {
    (self.name, self.id, self.host, self.port) = (name, id, host, port)
    (self.authorityPEM, self.isEnabled) = (authorityPEM, isEnabled)
  }
}

/// What an operator sees of one peer.
package struct PeerStatus: Sendable, Equatable {
  package enum State: Sendable, Equatable {
    case backoff
    case connected
    case dialling
    /// One side turned the other away; dialling goes on, ever more slowly.
    case refused(ErrorCode)
    case suspended

    /// One word for tables and JSON.
    package var name: String {
      switch self {
      case .backoff: "backoff"
      case .connected: "connected"
      case .dialling: "dialling"
      case .refused: "refused"
      case .suspended: "suspended"
      }
    }
  }

  package var name: NodeName
  package var nodeID: NodeID
  package var endpoint: String
  package var state: State
  package var sinceMs: UInt64
  /// Deliveries waiting in the outbox, those in flight included.
  package var queued: Int
  /// Sent and not acknowledged.
  package var inFlight: Int
  /// Why the last link or dial ended.
  package var lastError: ErrorCode
  /// Dials since the last link.
  package var attempts: Int
  /// nil unless a dial is scheduled.
  package var nextDialMs: UInt64?
}

/// Why a list of peers was not taken over. Everything before the mistake stays as it was.
package enum PeerSetupError: Error, Equatable, Sendable {
  /// The PEM text of this peer holds no certificate authority.
  case authority(NodeName)
  case duplicateName(NodeName)
  case node(ErrorCode)
  /// A node cannot be its own peer.
  case ownName
}

/// Of two links between the same nodes, the one dialled by the lexicographically smaller node id stays; a new
/// link of the same dialler replaces the old one, whose peer evidently gave it up.
package func newLinkWins(existing: LinkRole, new: LinkRole, own: NodeID, peer: NodeID) -> Bool {
  if existing == new { return true }
  return (new == .dialler) == (own < peer)
}
