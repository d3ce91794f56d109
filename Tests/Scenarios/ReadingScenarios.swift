import EngramCore
import Foundation
import TestSupport
import Testing

@Suite("reading without a lease, between two organisations", .serialized, .timeLimit(.minutes(5)))
struct ReadingScenarios {
  private func admitted(_ message: String, _ person: CommandLinePerson) async throws -> Bool {
    try await eventually {
      try await person.lines("receipts", message).contains { $0["state"] as? String == "admitted" }
    }
  }

  @Test("what was shown is delivered, by the recipient's node's signed word, once, and cannot be called back")
  func delivered() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let message = try await planner.send("dig", to: "analyst@globex.example")
    #expect(try await admitted(message, planner))
    #expect(try await planner.state(of: message) == "pending", "control: nobody has read it")
    #expect(try await analyst.lines("inbox").count == 1)
    #expect(try await planner.waits(for: "delivered", of: message))
    #expect(try await analyst.lines("inbox").count == 1, "it was not acknowledged")

    // The node forgets who holds what, but not what it has stated.
    _ = try await globex.stop()
    try await globex.start()
    try await acme.connected(to: globex)
    let cancelled = try await planner.run("cancel", message)
    #expect(try await planner.state(of: message) == "delivered", "\(cancelled.errors)")
    let mail = try await analyst.takeMail(count: 2)
    #expect(Set(mail.compactMap { $0["type"] as? String }) == ["DIRECT", "TASK_CANCEL"])
    #expect(try await planner.waits(for: "processed", of: message))
    let states = try await planner.lines("receipts", message).compactMap { $0["state"] as? String }
    #expect(states.count { $0 == "delivered" } == 1 && !states.contains("cancelled"))
    _ = try await globex.stop()
    #expect(try globex.auditLeaves().count { $0.action == .delivered } <= 2, "the task, and maybe its cancel")
  }

  @Test("an acknowledgement that comes after the expiry warns its application and reaches the sender")
  func late() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let message = try await planner.send("short", to: "analyst@globex.example", "--ttl", "10s")
    let isShown = try await eventually { try await analyst.lines("inbox").count == 1 }
    #expect(isShown)
    #expect(try await planner.waits(for: "expired", of: message))
    let lines = try await analyst.lines("inbox", "--ack")
    #expect(lines.compactMap { $0["body"] as? String } == ["short"])
    #expect(lines.compactMap { $0["warning"] as? String } == ["expired"])
    #expect(lines.last?["code"] as? Int == 300)
    #expect(try await planner.waits(for: "processed", of: message))

    // The control: in time there is nothing to warn of.
    _ = try await planner.send("long", to: "analyst@globex.example")
    let mail = try await analyst.takeMail()
    #expect(mail.allSatisfy { $0["warning"] == nil })
  }

  @Test("what waits is shown by priority, and a shared queue says why it shows nothing")
  func order() async throws {
    let acme = try await Organisation.running("acme.example")
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: acme)
    let priorities = ["LOW", "NORMAL", "HIGH", "URGENT", "CRITICAL"]
    for priority in priorities {
      _ = try await planner.send(priority, to: "analyst@acme.example", "--priority", priority)
    }
    let shown = try await analyst.lines("inbox")
    #expect(shown.compactMap { $0["body"] as? String } == priorities.reversed())
    #expect(shown.allSatisfy { $0["after_gap"] as? Bool == false })
    let first = try await analyst.lines("inbox", "--max", "1", "--ack")
    #expect(first.compactMap { $0["body"] as? String } == ["CRITICAL"])
    #expect(try await analyst.takeMail(count: 4).first?["body"] as? String == "URGENT")

    let empty = try await analyst.run("inbox")
    #expect(empty.errors.contains("no messages") && !empty.errors.contains("engram work"))
    _ = try await analyst.run("queue", "mode", "one").expected()
    _ = try await planner.send("work", to: "analyst@acme.example")
    let hinted = try await analyst.run("inbox")
    #expect(hinted.errors.contains("engram work") && hinted.errors.contains("engram queue mode each"))
    #expect(hinted.exit == .code(0))
  }
}
