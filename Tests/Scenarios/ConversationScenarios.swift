import Foundation
import TestSupport
import Testing

@Suite("the life of a message, by hand, between two organisations", .serialized, .timeLimit(.minutes(5)))
struct ConversationScenarios {
  @Test("status, verification, threads, replies, quotes and search")
  func conversation() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let sent = try #require(
      try await planner.lines(
        "send", "--to", "analyst@globex.example", "--type", "QUERY", "--label", "project=apollo", "--text",
        "Which builds failed?\nSince Monday."
      ).first)
    let message = try #require(sent["message_id"] as? String)
    let question = try #require(try await analyst.takeMail().first)
    #expect((question["labels"] as? [String: String]) == ["project": "apollo"])
    let envelope = try #require(question["envelope_id"] as? String)
    _ = try await analyst.run("reply", envelope, "--quote-lines", "2", "--text", "None.").expected()

    let answer = try #require(try await planner.takeMail().first)
    #expect(answer["type"] as? String == "RESPONSE" && answer["reply_to"] as? String == envelope)
    let thread = try #require(answer["thread"] as? String)
    for person in [planner, analyst] {
      let shown = try await person.lines("thread", "show", thread)
      #expect(shown.map { $0["body"] as? String } == ["Which builds failed?\nSince Monday.", "None."])
      let quotes = try #require(shown[1]["quotes"] as? [[String: any Sendable]])
      #expect(quotes.first?["text"] as? String == "Since Monday.")
      #expect(try await person.lines("thread", "list").count == 1)
      let found = try await person.lines(
        "search", "--text", "build \"SINCE monday\"", "--label", "project=apollo")
      #expect(found.map { $0["message_id"] as? String } == [message])
      #expect(try await person.lines("search", "--text", "nothing like it").isEmpty, "control")
    }
    try await verification(of: message, by: planner, answered: analyst)
  }

  private func verification(
    of message: String, by sender: CommandLinePerson, answered other: CommandLinePerson
  ) async throws {
    let isProcessed = try await eventually {
      try await sender.lines("status", message).first?["state"] as? String == "processed"
    }
    #expect(isProcessed)
    let verified = try #require(try await sender.lines("verify", message).first)
    #expect(verified["holds"] as? Bool == true)
    let statements = try #require(verified["statements"] as? [[String: any Sendable]])
    let roles = Set(statements.compactMap { $0["role"] as? String })
    #expect(roles == ["home-node", "recipient-node", "device"])
    #expect(statements.allSatisfy { $0["proven"] as? Bool == true })

    // Kept elsewhere; one changed byte in a receipt is noticed.
    let file = sender.home + "/delivery.proof"
    _ = try await sender.run("verify", message, "--export", file).expected()
    _ = try await sender.run("verify", "--proof", file).expected()
    var proof = try Data(contentsOf: URL(fileURLWithPath: file))
    proof[proof.count - 100] ^= 1
    try proof.write(to: URL(fileURLWithPath: file))
    let refused = try await sender.run("verify", "--proof", file)
    #expect(refused.exit == .code(5) && refused.output.contains("NOT to be relied on"))
    #expect(try await other.run("verify", message).exit == .code(64), "it is not theirs to verify")
  }

  @Test("a message that expired in the mailbox leaves its stub, which closes the gap")
  func gap() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    func send(_ text: String, ttl: String) async throws {
      _ = try await planner.run("send", "--to", "analyst@globex.example", "--text", text, "--ttl", ttl)
        .expected()
    }
    try await send("first", ttl: "1h")
    #expect(try await analyst.takeMail().count == 1)
    try await send("too late", ttl: "1s")
    try await send("third", ttl: "1h")
    let end = nowMs() + 1_100
    #expect(await eventually { nowMs() > end }, "nobody looks before it has expired")
    let third = try #require(
      try await eventually {
        let mail = try await analyst.lines("inbox", "--ack").filter { $0["body"] as? String == "third" }
        return mail.isEmpty ? nil : mail
      })
    #expect(third[0]["after_gap"] as? Bool == true)
    #expect(try await analyst.lines("gaps", "--ask").first?["state"] as? String == "asked")
    let isClosed = try await eventually {
      #expect(try await planner.lines("inbox", "--ack").isEmpty)
      #expect(try await analyst.lines("inbox", "--ack").isEmpty)
      return try await analyst.lines("gaps").map { $0["state"] as? String } == ["announced"]
    }
    #expect(isClosed)
    #expect(try await analyst.lines("alarms").allSatisfy { $0["resolved"] as? Bool == true })
  }

  @Test("bad input has a stable exit code and leaves nothing behind")
  func badInput() async throws {
    let acme = try await Organisation.running("acme.example")
    let planner = try await CommandLinePerson("planner", of: acme)
    let to = ["send", "--to", "planner@acme.example", "--text", "x"]
    let cases = [
      (["--type", "SHOUT"], "bad-type"), (["--priority", "HIGHEST"], "bad-priority"),
      (["--ttl", "0s"], "bad-ttl"), (["--ttl", "31d"], "bad-ttl"),
      (["--not-before", "1h"], "bad-not-before"), (["--not-before", "+8d"], "bad-not-before"),
      (["--label", "Key=x"], "bad-label"), (["--thread", "12"], "bad-thread"),
      (["--reply-to", String(repeating: "0", count: 64)], "parent-invalid"),
    ]
    for (arguments, name) in cases {
      let ended = try await Program.client.run(to + arguments + ["--home", planner.home])
      #expect(ended.exit == .code(64) && ended.errors.contains("(\(name)"), "\(arguments): \(ended.errors)")
    }
    #expect(try await planner.lines("outbox").isEmpty)
    _ = try await planner.run("send", "--to", "planner@acme.example", "--text", "x").expected()
    #expect(try await planner.lines("outbox").count == 1, "control")
    for arguments in [
      ["status", "00"], ["verify", "00"], ["cancel", "00"], ["reply", "00", "--text", "x"],
    ] {
      #expect(try await Program.client.run(arguments + ["--home", planner.home]).exit == .code(64))
    }
    #expect(try await planner.run("search", "--cursor", "x").exit == .code(64))
  }
}
