import EngramCore
import EngramNode
import FoundationEssentials

/// `GET /api/v1/topics/subscriptions`.
struct SubscriptionsDocument: Encodable {
  struct Subscription: Encodable {
    var topic: String
    var sinceMs: UInt64

    private enum CodingKeys: String, CodingKey {
      case topic
      case sinceMs = "since_ms"
    }
  }
  var subscriptions: [Subscription]

  init(_ rows: [(TopicAddress, sinceMs: UInt64)]) {
    subscriptions = rows.map { Subscription(topic: $0.0.text, sinceMs: $0.sinceMs) }
  }
}

/// `GET /api/v1/topics/{topic}/members`; the next page begins after the last member.
struct MembersDocument: Encodable {
  var members: [String]
  var hasMore: Bool

  private enum CodingKeys: String, CodingKey {
    case members
    case hasMore = "more"
  }
}

/// `GET /api/v1/agents`.
struct AddressesDocument: Encodable {
  var agents: [String]
  var hasMore: Bool

  /// - Parameter found: one more than the page holds, if there are more.
  init(_ found: [Address], maxCount: Int) {
    (agents, hasMore) = (found.prefix(maxCount).map(\.text), found.count > maxCount)
  }

  private enum CodingKeys: String, CodingKey {
    case agents
    case hasMore = "more"
  }
}

/// `GET /api/v1/agents/active`.
struct AgentsDocument: Encodable {
  var agents: [AgentDocument]
  var hasMore: Bool

  /// - Parameter found: one more than the page holds, if there are more.
  init(_ found: [AgentPresence], maxCount: Int) {
    (agents, hasMore) = (found.prefix(maxCount).map(AgentDocument.init), found.count > maxCount)
  }

  private enum CodingKeys: String, CodingKey {
    case agents
    case hasMore = "more"
  }
}

/// `GET /api/v1/agents/{id}/status`, and one element of the list above.
struct AgentDocument: Encodable {
  var address: String
  var state: String
  var isActive: Bool
  var connections: Int
  var lastSeenMs: UInt64?
  var note: String

  init(_ presence: AgentPresence) {
    (address, state, isActive) = (presence.address.text, presence.state.rawValue, presence.isActive)
    (connections, lastSeenMs, note) = (presence.connections, presence.lastSeenMs, presence.note)
  }

  private enum CodingKeys: String, CodingKey {
    case address, connections, note, state
    case isActive = "active"
    case lastSeenMs = "last_seen_ms"
  }
}

/// `PUT /api/v1/agents/{id}/status`: `{"state":"busy","note":"…"}`, the note optional, nothing else in it.
struct StatusRequest: Equatable {
  var state: AgentState
  var note: String

  init(parsing bytes: [UInt8]) throws(Problem) {
    guard let object = try? JSONDecoder().decode([String: String].self, from: Data(bytes)),
      object.keys.allSatisfy({ ["note", "state"].contains($0) }), let word = object["state"]
    else { throw Problem(.malformed) }
    guard let state = AgentState(rawValue: word) else { throw Problem(.unknownValue) }
    (self.state, note) = (state, object["note"] ?? "")
  }
}
