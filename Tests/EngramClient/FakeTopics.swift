import EngramCore
import EngramCrypto
import Foundation
import Synchronization

@testable import EngramClient

/// What a fake node knows of topics and presence.
struct FakeTopics {
  /// Patterns of this node.
  var members: [TopicPattern: Set<Address>] = [:]
  var retainers: [Topic: Set<Address>] = [:]
  /// Own clients' subscriptions everywhere.
  var asked: [Address: Set<TopicAddress>] = [:]
  var statuses: [Address: String] = [:]
  var maySeeAll = false
  /// Members of one answer.
  var pageMax = 100
  /// What it says in place of the truth.
  var lie: String?
}

extension FakeNode {
  func topicAnswer(_ method: String, _ parts: [String], _ caller: Address, _ request: NodeRequest)
    -> NodeReply
  {
    switch (method, parts.first ?? "", parts.last ?? "") {
    case ("GET", "topics", "subscriptions"):
      let rows = state.withLock { ($0.topics.asked[caller] ?? []).sorted() }
        .map { "{\"topic\":\"\($0.text)\",\"since_ms\":1}" }
      return json(200, "{\"subscriptions\":[\(rows.joined(separator: ","))]}")
    case ("GET", "topics", "members"): return withTopic(parts[1]) { memberPage($0, request) }
    case (_, "topics", "subscription"):
      return withTopic(parts[1]) { topic in
        let joins = method == "PUT"
        home(of: topic)?.setMember(caller, of: topic, joins: joins)
        state.withLock { state in
          if joins {
            state.topics.asked[caller, default: []].insert(topic)
          } else {
            state.topics.asked[caller]?.remove(topic)
          }
        }
        return NodeReply(status: 204, body: [])
      }
    case (_, "topics", "retained"):
      return withTopic(parts[1]) { topic in
        guard let name = topic.topic else { return problem(400, .wildcardPublish) }
        home(of: topic)?.state.withLock { state in
          if method == "PUT" {
            state.topics.retainers[name, default: []].insert(caller)
          } else {
            state.topics.retainers[name]?.remove(caller)
          }
        }
        return NodeReply(status: 204, body: [])
      }
    case ("GET", "agents", "agents"):
      let (may, all) = state.withLock { ($0.topics.maySeeAll, $0.members.keys.sorted()) }
      return may ? json(200, list("agents", all.map(\.text), more: false)) : problem(403, .notPermitted)
    case ("GET", "agents", "active"):
      let all = state.withLock { $0.topics.statuses.sorted { $0.key < $1.key } }
      return json(200, "{\"agents\":[\(all.map { status($0, $1) }.joined(separator: ","))],\"more\":false}")
    case ("GET", "agents", "status"):
      guard let address = try? Address(parts[1]), let word = state.withLock({ $0.topics.statuses[address] })
      else { return problem(404, .notFound) }
      return json(200, status(address, word))
    case ("PUT", "agents", "status"):
      let body = try? JSONDecoder().decode([String: String].self, from: Data(request.body))
      state.withLock { $0.topics.statuses[caller] = body?["state"] }
      return NodeReply(status: 204, body: [])
    default: return problem(404, .notFound)
    }
  }

  private func status(_ address: Address, _ word: String) -> String {
    "{\"address\":\"\(address)\",\"state\":\"\(word)\",\"active\":true,\"connections\":0,\"note\":\"\"}"
  }

  private func list(_ name: String, _ values: [String], more: Bool) -> String {
    "{\"\(name)\":[\(values.map { "\"\($0)\"" }.joined(separator: ","))],\"more\":\(more)}"
  }

  private func withTopic(_ segment: String, _ use: (TopicAddress) -> NodeReply) -> NodeReply {
    let text = segment.removingPercentEncoding ?? segment
    guard let topic = try? TopicAddress(text) else { return problem(400, .topicInvalid) }
    guard let home = home(of: topic) else { return problem(404, .noRoute) }
    guard home === self || home.state.withLock({ $0.isReachable }) else {
      return problem(504, .peerUnreachable)
    }
    return use(topic)
  }

  private func home(of topic: TopicAddress) -> FakeNode? {
    topic.node == name ? self : state.withLock { $0.peers[topic.node] }
  }

  private func memberPage(_ topic: TopicAddress, _ request: NodeRequest) -> NodeReply {
    guard let name = topic.topic else { return problem(400, .wildcardPublish) }
    let after = request.path.split(separator: "?").dropFirst().first.map { $0.dropFirst("after=".count) }
    guard let home = home(of: topic) else { return problem(404, .noRoute) }
    let (all, max, lie): ([Address], Int, String?) = home.state.withLock { state in
      let patterns = state.topics.members.filter { $0.key.matches(name) }
      return (Set(patterns.values.flatMap { $0 }).sorted(), state.topics.pageMax, state.topics.lie)
    }
    if let lie { return json(200, lie) }
    let rest = all.filter { (address: Address) in after.map { address.text > $0 } ?? true }
    return json(200, list("members", rest.prefix(max).map(\.text), more: rest.count > max))
  }

  /// Makes or ends a membership and tells publishers that keep a value.
  func setMember(_ member: Address, of topic: TopicAddress, joins: Bool) {
    let told = state.withLock { state -> [(Topic, Address)] in
      if joins {
        guard state.topics.members[topic.pattern, default: []].insert(member).inserted else { return [] }
      } else {
        state.topics.members[topic.pattern]?.remove(member)
      }
      return state.topics.retainers.filter { topic.pattern.matches($0.key) }
        .flatMap { name, publishers in publishers.map { (name, $0) } }
    }
    for (name, publisher) in told {
      let notice = TopicMembershipNotice(topic: name, node: self.name, member: member, joined: joins)
      let bytes = NodeNotice(kind: .topicMembership, payload: notice.encoded()).encoded()
      guard let node = publisher.node == self.name ? self : state.withLock({ $0.peers[publisher.node] }),
        let kid = node.state.withLock({ $0.members[publisher]?.certificate.kid })
      else { continue }
      node.deposit(.notice, bytes, nil, for: kid)
    }
  }
}
