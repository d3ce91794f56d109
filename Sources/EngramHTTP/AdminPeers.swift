package import EngramCore

/// What the administrator sees of a peer.
package struct PeerDocument: Codable, Sendable, Equatable {
  package struct Failure: Codable, Sendable, Equatable {
    package var code: UInt16
    package var name: String
    package init(_ code: ErrorCode) { (self.code, name) = (code.rawValue, code.name) }
  }

  package var name: String
  package var nodeID: String
  package var endpoint: String
  /// `connected`, `dialling`, `backoff`, `refused` or `suspended`.
  package var state: String
  package var sinceMs: UInt64
  /// Messages that wait for the peer, in flight included.
  package var queued: Int
  package var inFlight: Int
  package var attempts: Int
  package var nextDialMs: UInt64?
  package var lastError: Failure?

  package init(
    name: String, nodeID: String, endpoint: String, state: String, sinceMs: UInt64, queued: Int,
    inFlight: Int,
    attempts: Int, nextDialMs: UInt64?, lastError: ErrorCode?
  ) {
    (self.name, self.nodeID, self.endpoint, self.state) = (name, nodeID, endpoint, state)
    (self.sinceMs, self.queued, self.inFlight, self.attempts) = (sinceMs, queued, inFlight, attempts)
    (self.nextDialMs, self.lastError) = (nextDialMs, lastError.map(Failure.init))
  }

  private enum CodingKeys: String, CodingKey {
    case name, endpoint, state, queued, attempts
    case nodeID = "node_id"
    case sinceMs = "since_ms"
    case inFlight = "in_flight"
    case nextDialMs = "next_dial_ms"
    case lastError = "last_error"
  }
}

/// The body of `POST /admin/v1/peers`, checked for shape.
package struct PeerAddition: Sendable, Equatable {
  package var name: NodeName
  package var nodeID: NodeID
  /// `host:port`.
  package var endpoint: String
  /// PEM text of the peer's certificate authority.
  package var authority: String
  /// A peer that is pinned already may get another node id or authority.
  package var mayReplace = false
}

/// Why a change of the peers was not made, in words for the administrator.
package struct AdminRefusal: Error, Sendable, Equatable {
  package var code: ErrorCode
  package var reason: String?
  /// What to do about it.
  package var hint: String?

  package init(_ code: ErrorCode, reason: String? = nil, hint: String? = nil) {
    (self.code, self.reason, self.hint) = (code, reason, hint)
  }
}

/// How the administration reaches the peers: configuration files and links are not this module's business, so
/// whoever puts the program together passes these in.
package struct AdminPeers: Sendable {
  package var list: @Sendable () async -> [PeerDocument]
  package var add: @Sendable (PeerAddition) async -> Result<PeerDocument, AdminRefusal>
  package var remove: @Sendable (NodeName) async -> Result<Void, AdminRefusal>

  package init(
    list: @escaping @Sendable () async -> [PeerDocument],
    add: @escaping @Sendable (PeerAddition) async -> Result<PeerDocument, AdminRefusal>,
    remove: @escaping @Sendable (NodeName) async -> Result<Void, AdminRefusal>
  ) { (self.list, self.add, self.remove) = (list, add, remove) }
}
