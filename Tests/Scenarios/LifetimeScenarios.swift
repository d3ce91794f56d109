import EngramCore
import Foundation
import TestSupport
import Testing

@Suite("types and lifetimes, by hand, between two organisations", .serialized, .timeLimit(.minutes(5)))
struct LifetimeScenarios {
  private let address = "analyst@globex.example"

  @Test("each of the 17 types arrives as what it was sent, and no other is taken")
  func types() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let names = MessageType.allCases.map(\.name)
    #expect(names.count == 17)
    for name in names { _ = try await planner.send("as \(name)", to: address, "--type", name) }
    let mail = try await analyst.takeMail(count: 17)
    #expect(mail.map { $0["type"] as? String } == names)
    #expect(mail.map { $0["body"] as? String } == names.map { "as \($0)" })
    for name in names {
      #expect(try await analyst.lines("search", "--type", name).count == 1, "\(name)")
    }

    let before = try await planner.lines("outbox").count
    for (option, values) in [("--type", ["PING", "0", "200", ""]), ("--priority", ["0", "6", "MAJOR", ""])] {
      for value in values {
        let refused = try await planner.run("send", "--to", address, "--text", "x", "\(option)=\(value)")
        #expect(refused.exit == .code(64), "\(option) \(value)")
      }
    }
    #expect(try await planner.lines("outbox").count == before)
    #expect(try await analyst.lines("inbox").isEmpty)
  }

  @Test("a message expires in the mailbox, held, or in the outbox, on the word of the node that has it")
  func expiry() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    var messages: [(id: String, issuer: String)] = []
    let waiting = try await planner.send("waits", to: address, "--ttl", "2s")
    messages.append((waiting, "globex.example"))
    let held = try await planner.send("held", to: address, "--ttl", "3s", "--not-before", "+2s")
    messages.append((held, "globex.example"))
    let lasting = try await planner.send("lasting", to: address)
    for (id, _) in messages { #expect(try await planner.waits(for: "expired", of: id)) }
    _ = try await globex.stop()
    let queued = try await planner.send("in the outbox", to: address, "--ttl", "2s")
    messages.append((queued, "acme.example"))
    #expect(try await planner.waits(for: "expired", of: queued))

    for (id, issuer) in messages {
      let status = try #require(try await planner.lines("status", id).first)
      let expiresMs = try #require(status["expires_ms"] as? Int)
      let end = try #require(
        try await planner.lines("receipts", id).first { $0["state"] as? String == "expired" })
      #expect(end["issuer"] as? String == issuer)
      #expect(try #require(end["at_ms"] as? Int) >= expiresMs, "not before its time")
      let verified = try #require(try await planner.lines("verify", id).first)
      #expect(verified["holds"] as? Bool == true)
    }
    // The control: what had not run out is there.
    try await globex.start()
    #expect(try await analyst.takeMail().map { $0["body"] as? String } == ["lasting"])
    #expect(try await planner.waits(for: "processed", of: lasting))
  }

  @Test("a message may live for thirty days, be dated a week ahead, and not live for longer")
  func long() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let month = try await planner.send("a month", to: address, "--ttl", "30d")
    let ahead = try await planner.send("ahead", to: address, "--ttl", "30d", "--not-before", "+8d")
    #expect(try await analyst.takeMail().map { $0["body"] as? String } == ["a month"])
    #expect(try await planner.waits(for: "processed", of: month))
    #expect(try await planner.state(of: ahead) == "pending")
    for ttl in ["31d", "0s"] {
      #expect(
        try await planner.run("send", "--to", address, "--text", "x", "--ttl", ttl).exit == .code(64))
    }
  }

  @Test("what a reader has been shown is not called back; what it has not, is")
  func shown() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let shown = try await planner.send("shown", to: address, "--type", "TASK_REQUEST")
    let isShown = try await eventually { try await analyst.lines("inbox").count == 1 }
    #expect(isShown)
    let fresh = try await planner.send("not shown", to: address, "--type", "TASK_REQUEST")
    for message in [shown, fresh] { _ = try await planner.run("cancel", message).expected() }
    #expect(try await planner.waits(for: "cancelled", of: fresh), "control")
    #expect(try await planner.waits(for: "delivered", of: shown))

    let mail = try await analyst.takeMail(count: 3)
    #expect(mail.map { $0["type"] as? String } == ["TASK_CANCEL", "TASK_CANCEL", "TASK_REQUEST"])
    #expect(mail.last?["body"] as? String == "shown", "a call to cancel is urgent, and shown first")
    #expect(try await planner.waits(for: "processed", of: shown), "its word counts")
  }
}
