import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import TestSupport
import Testing

/// A leased item, taken apart.
struct Work: Sendable {
  let seq: UInt64
  let lease: LeasedEnvelope
}

extension Member {
  func lease(seconds: Int = 30, wait: Int = 10, max: Int = 100) async throws -> [Work] {
    let answer = try await call("GET", path + "/messages?lease=\(seconds)&wait=\(wait)&max=\(max)")
    guard answer.status == 200 || answer.status == 204 else { throw Unexpected("lease: \(answer.summary)") }
    return try MailboxItem.decode(answer.body[...]).filter { $0.kind == .leased }.map {
      Work(seq: $0.seq, lease: try LeasedEnvelope(parsing: $0.payload[...]))
    }
  }

  func settle(_ work: Work, _ verb: Settlement.Verb) async throws -> ItemOutcome {
    let body = Settlement.encode([Settlement(seq: work.seq, token: work.lease.token, verb)])
    let answer = try await call(
      "POST", path + "/messages/settle", type: "application/vnd.engram.settlements", body: body)
    guard answer.status == 200 else { throw Unexpected("settle: \(answer.summary)") }
    return try #require(try ItemOutcome.decode(answer.body[...]).first)
  }

  func acknowledge(_ work: Work) async throws -> ItemOutcome {
    try await settle(work, .ack(receipt: try device.receipt(about: work.lease.envelope, atMs: nowMs())))
  }
}

@Suite("work crosses organisations and restarts", .serialized, .timeLimit(.minutes(5)))
struct QueueScenarios {
  @Test("a dead letter's sender has the other node's signed word; the operator looks, requeues and drops")
  func deadLetters() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let worker = try await globex.member("worker")
    let sealed = try (0..<2).map { try planner.seal("task \($0)", to: [worker]) { $0.type = .taskRequest } }
    #expect(try await planner.send(sealed.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    var work: [Work] = []
    _ = try await eventually {
      work += try await worker.lease()
      return work.count == 2
    }
    for one in work {
      #expect(try await worker.settle(one, .reject(code: .rejected, receipt: [])).outcome == .accepted)
    }
    let told = try await planner.drain { harvest in
      harvest.receipts(by: globex.nodeID.key).filter { $0.state == .deadLettered }.count == 2
    }
    let ends = told.receipts(by: globex.nodeID.key).filter { $0.state == .deadLettered }
    #expect(Set(ends.map(\.envelope)) == Set(sealed.map(\.id)))
    #expect(ends.allSatisfy { $0.code == .rejected && $0.recipient == worker.address })

    struct Queues: Decodable {
      struct Queue: Decodable {
        let mailbox: Int
        let kind: String
        let waiting: Int
      }
      let queues: [Queue]
    }
    let queues: Queues = try await globex.admin("--json", "queue", "list").json()
    let dead = try #require(queues.queues.first { $0.kind == "dead-letters" })
    #expect(dead.waiting == 2)
    #expect(try await globex.admin("queue", "list", "--dead").expected().contains("worker@globex.example"))
    let listed = try await globex.admin("queue", "list", "\(dead.mailbox)").expected()
    #expect(listed.contains("dead-lettered") && listed.contains("TASK_REQUEST"))
    let shown = try await globex.admin("queue", "inspect", "\(dead.mailbox)", "1").expected()
    #expect(shown.contains("rejected") && shown.contains("planner@acme.example"))
    _ = try await globex.admin("queue", "requeue", "\(dead.mailbox)", "1").expected()
    _ = try await globex.admin("queue", "drop", "--yes", "\(dead.mailbox)", "2").expected()
    #expect(try await globex.admin("queue", "inspect", "\(dead.mailbox)", "2").exit != .code(0))
    let again = try #require(try await worker.lease().first)
    #expect(again.lease.attempt == 1)
    #expect(try await worker.acknowledge(again).outcome == .accepted)
    #expect(try await globex.status().openDeliveries == 0)
    #expect(try await globex.admin("clock").expected().contains("agrees"))
  }

  @Test("a task is cancelled at the other organisation by the message that says so")
  func cancelling() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let worker = try await globex.member("worker")
    let task = try planner.seal("task", to: [worker]) { $0.type = .taskRequest }
    #expect(try await planner.send(task.bytes).outcome == .accepted)
    let id = try UnverifiedEnvelope(parsing: task.bytes).header.messageID
    _ = try await planner.drain { !$0.receipts(by: globex.nodeID.key).isEmpty }
    let late = try await planner.call("DELETE", planner.path + "/messages/\(id)")
    #expect(late.status == 409, "it has left this node")
    let cancel = try planner.seal("never mind", to: [worker]) {
      $0.type = .taskCancel
      $0.labels = [Label(key: "cancels", value: "\(id)")]
    }
    #expect(try await planner.send(cancel.bytes).outcome == .accepted)
    let told = try await planner.drain { harvest in
      harvest.receipts(by: globex.nodeID.key).contains { $0.state == .cancelled }
    }
    let end = try #require(told.receipts(by: globex.nodeID.key).first { $0.state == .cancelled })
    #expect(end.envelope == task.id && end.role == .recipientNode && end.recipient == worker.address)
    let work = try await worker.lease()
    let texts = try work.map {
      String(decoding: try worker.device.open($0.lease.envelope, from: planner.device).body, as: UTF8.self)
    }
    #expect(texts == ["never mind"])
  }

  @Test("a killed node gives every message that was only held out again, under greater tokens")
  func killed() async throws {
    let acme = try await Organisation.running("acme.example")
    let planner = try await acme.member("planner")
    let worker = try await acme.member("worker")
    let sealed = try (0..<3).map { try planner.seal("task \($0)", to: [worker]) }
    #expect(try await planner.send(sealed.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    let before = try await worker.lease()
    #expect(before.count == 3)
    #expect(try await worker.acknowledge(before[0]).outcome == .accepted)
    #expect(try await worker.settle(before[1], .nack(delayMs: 0, code: .none)).outcome == .accepted)
    try await acme.kill()
    try await acme.start()
    try await worker.login()
    let after = try await worker.lease()
    #expect(after.map(\.lease.attempt).sorted() == [1, 2], "done is done, failed has failed, held is free")
    for one in after { #expect(before.allSatisfy { $0.lease.token < one.lease.token }) }
    #expect(try await worker.settle(before[2], .renew).code == .leaseLost)
    for one in after { #expect(try await worker.acknowledge(one).outcome == .accepted) }
    #expect(try await acme.status().openDeliveries == 0)
  }
}
