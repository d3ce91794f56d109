import Foundation
import TestSupport
import Testing

@Suite("calling a message back, by hand, between two organisations", .serialized, .timeLimit(.minutes(5)))
struct CancellationScenarios {
  @Test("what has not left the home node is dropped there, and the recipient learns only that it existed")
  func beforeItLeft() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    func send(_ text: String) async throws -> String {
      let sent = try await planner.lines("send", "--to", "analyst@globex.example", "--text", text).first
      return try #require(sent?["message_id"] as? String)
    }
    _ = try await send("first")
    #expect(try await analyst.takeMail().count == 1)
    _ = try await globex.stop()
    let message = try await send("a mistake")
    let cancelled = try #require(try await planner.lines("cancel", message, "--no-notice").first)
    let status = try #require(cancelled["status"] as? [String: any Sendable])
    #expect(status["state"] as? String == "cancelled")
    let verified = try #require(try await planner.lines("verify", message).first)
    let statements = try #require(verified["statements"] as? [[String: any Sendable]])
    #expect(verified["holds"] as? Bool == true)
    #expect(
      statements.contains { $0["state"] as? String == "cancelled" && $0["role"] as? String == "home-node" })
    #expect(try await planner.run("cancel", message).exit == .code(4), "there is nothing left to call back")

    _ = try await send("third")
    try await globex.start()
    let mail = try await analyst.takeMail()
    #expect(mail[0]["body"] as? String == "third" && mail[0]["after_gap"] as? Bool == true)
    _ = try await analyst.run("gaps", "--ask").expected()
    let isClosed = try await eventually {
      _ = try await planner.lines("inbox", "--ack")
      _ = try await analyst.lines("inbox", "--ack")
      return try await analyst.lines("gaps").map { $0["state"] as? String } == ["announced"]
    }
    #expect(isClosed)
  }

  @Test("what waits in the recipient's mailbox is dropped by a TASK_CANCEL on its way")
  func inTheMailbox() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let sent = try await planner.lines(
      "send", "--to", "analyst@globex.example", "--type", "TASK_REQUEST", "--text", "dig"
    ).first
    let message = try #require(sent?["message_id"] as? String)
    let isAdmitted = try await eventually {
      try await planner.lines("receipts", message).contains { $0["state"] as? String == "admitted" }
    }
    #expect(isAdmitted)
    let cancelled = try #require(try await planner.lines("cancel", message).first)
    #expect(cancelled["notice_message_id"] is String)
    let isCancelled = try await eventually {
      try await planner.lines("status", message).first?["state"] as? String == "cancelled"
    }
    #expect(isCancelled)
    let mail = try await analyst.takeMail()
    #expect(mail.map { $0["type"] as? String } == ["TASK_CANCEL"])
    #expect((mail[0]["labels"] as? [String: String])?["cancels"] == message)
  }
}
