internal import EngramCore
internal import FoundationEssentials

/// What the node says about this agent's queue.
struct QueueAnswer: Sendable, Decodable {
  let mode: String
  let waiting: Int
  let held: Int
  let leased: Int
  let consumers: Int
}

/// Leases and queues over the node's HTTP interface.
extension NodeAPI {
  func lease(max: Int, visibilitySeconds: Int, waitSeconds: Int) async throws -> [MailboxItem] {
    let request = NodeRequest(
      "GET", path("messages") + "?lease=\(visibilitySeconds)&max=\(max)&wait=\(waitSeconds)")
    let reply = try await authorised(request, expecting: [200, 204])
    guard reply.status == 200 else { return [] }
    do { return try MailboxItem.decode(reply.body[...]) } catch { throw EngramError(error) }
  }

  /// - Returns: one outcome per settlement, in order.
  func settle(_ settlements: [Settlement]) async throws -> [ItemOutcome] {
    let request = NodeRequest(
      "POST", path("messages/settle"), contentType: "application/vnd.engram.settlements",
      body: Settlement.encode(settlements))
    let reply = try await authorised(request, expecting: [200])
    guard let outcomes = try? ItemOutcome.decode(reply.body[...]), outcomes.count == settlements.count else {
      throw EngramError(.untrusted, .malformed)
    }
    return outcomes
  }

  func queueState() async throws -> QueueAnswer {
    try Self.queue(try await authorised(NodeRequest("GET", path("queue")), expecting: [200]))
  }

  func setQueueMode(_ mode: QueueMode) async throws -> QueueAnswer {
    let request = NodeRequest(
      "PUT", path("queue"), contentType: "application/json", body: Array(#"{"mode":"\#(mode.name)"}"#.utf8))
    return try Self.queue(try await authorised(request, expecting: [200]))
  }

  private static func queue(_ reply: NodeReply) throws -> QueueAnswer {
    guard let answer = try? JSONDecoder().decode(QueueAnswer.self, from: Data(reply.body)) else {
      throw EngramError(.untrusted, .malformed)
    }
    return answer
  }
}
