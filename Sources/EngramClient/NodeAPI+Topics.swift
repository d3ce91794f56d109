internal import EngramCore
internal import FoundationEssentials

/// What the node says about one agent.
struct AgentReport: Sendable, Decodable {
  let address: String
  let state: String
  let isActive: Bool
  let connections: Int
  let lastSeenMs: UInt64?
  let note: String

  private enum CodingKeys: String, CodingKey {
    case address, connections, note, state
    case isActive = "active"
    case lastSeenMs = "last_seen_ms"
  }
}

/// Topics and presence over the node's HTTP interface.
extension NodeAPI {
  func setSubscription(_ topic: TopicAddress, exists: Bool) async throws {
    let path = Self.path(topic, "subscription")
    _ = try await authorised(NodeRequest(exists ? "PUT" : "DELETE", path), expecting: [204])
  }

  func setRetained(_ topic: TopicAddress, exists: Bool) async throws {
    let path = Self.path(topic, "retained")
    _ = try await authorised(NodeRequest(exists ? "PUT" : "DELETE", path), expecting: [204])
  }

  func subscriptions() async throws -> [(topic: TopicAddress, sinceMs: UInt64)] {
    struct List: Decodable {
      struct Row: Decodable {
        let topic: String
        let sinceMs: UInt64
        private enum CodingKeys: String, CodingKey {
          case topic
          case sinceMs = "since_ms"
        }
      }
      let subscriptions: [Row]
    }
    let list: List = try await json(NodeRequest("GET", "/api/v1/topics/subscriptions"))
    return try list.subscriptions.map { (try TopicAddress($0.topic), $0.sinceMs) }
  }

  /// Members of a topic now, ascending.
  func members(of topic: TopicAddress) async throws -> [Address] {
    struct Page: Decodable {
      let members: [String]
      let more: Bool
    }
    return try await everyPage(Self.path(topic, "members"), by: \.text) { (page: Page) in
      (try page.members.map { try Address($0) }, page.more)
    }
  }

  /// Every address of this node, for those who may write to all.
  func allAddresses() async throws -> [Address] {
    struct Page: Decodable {
      let agents: [String]
      let more: Bool
    }
    return try await everyPage("/api/v1/agents", by: \.text) { (page: Page) in
      (try page.agents.map { try Address($0) }, page.more)
    }
  }

  /// Agents of this node that are there, by address.
  func activeAgents() async throws -> [AgentReport] {
    struct Page: Decodable {
      let agents: [AgentReport]
      let more: Bool
    }
    return try await everyPage("/api/v1/agents/active", by: \.address) { (page: Page) in
      for report in page.agents { _ = try Address(report.address) }
      return (page.agents, page.more)
    }
  }

  func agentStatus(_ address: Address) async throws -> AgentReport {
    try await json(NodeRequest("GET", "/api/v1/agents/\(address.text)/status"))
  }

  func putStatus(_ state: AgentState, note: String) async throws {
    let body = try JSONEncoder().encode(["state": state.rawValue, "note": note])
    let request = NodeRequest("PUT", path("status"), contentType: "application/json", body: Array(body))
    _ = try await authorised(request, expecting: [204])
  }

  private static func path(_ topic: TopicAddress, _ suffix: String) -> String {
    let text = topic.text.replacing("*", with: "%2A").replacing(">", with: "%3E")
    return "/api/v1/topics/\(text)/\(suffix)"
  }
}
