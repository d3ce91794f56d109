import Foundation
import TestSupport
import Testing

@Suite("a machine's clock jumps by a year", .serialized, .timeLimit(.minutes(5)))
struct ClockScenarios {
  private static let year = 365 * 86_400

  /// What `admin clock` says, as far as it matters here.
  private struct Clock: Decodable { let jumpMs: Int64? }

  @Test("under a running node nothing expires early, late or never, and nothing comes back")
  func node() async throws {
    let (acme, globex) = try await Organisation.federation()
    let clock = try await BentClock(in: globex.directory)
    _ = try await globex.stop()
    try await globex.start(environment: clock.environment)
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let address = "analyst@globex.example"
    let lasting = try await planner.send("lasting", to: address, "--ttl", "7d")
    let later = try await planner.send("later", to: address, "--not-before", "+1h")
    let early = try await planner.send("early", to: address, "--ttl", "2s")
    #expect(try await planner.waits(for: "expired", of: early), "by the right clock")

    for years in [1, -1] {
      try clock.set(aheadBy: years * Self.year)
      // The control: the node sees the jump.
      let isSeen = try await eventually {
        let seen: Clock = try await globex.admin("--json", "clock").json()
        return seen.jumpMs.map { $0.signum() == Int64(years) } ?? false
      }
      #expect(isSeen)
      // Sweeps have come by once a message from after the jump has expired in its own time.
      let short = try await planner.send("short", to: address, "--ttl", "2s")
      #expect(try await planner.waits(for: "expired", of: short))
      let mail = try await analyst.lines("inbox")
      #expect(mail.map { $0["body"] as? String } == ["lasting"], "\(years)")
      #expect(try await planner.state(of: later) == "pending")
      #expect(try await planner.state(of: early) == "expired")
    }
    try clock.set(aheadBy: 0)
    #expect(try await analyst.takeMail().count == 1)
    #expect(try await planner.waits(for: "processed", of: lasting))
  }

  @Test("a jump that the operator accepts counts: the check above could fail")
  func accepted() async throws {
    let (acme, globex) = try await Organisation.federation()
    let clock = try await BentClock(in: globex.directory)
    _ = try await globex.stop()
    try await globex.start(environment: clock.environment)
    let planner = try await CommandLinePerson("planner", of: acme)
    _ = try await CommandLinePerson("analyst", of: globex)
    let message = try await planner.send("x", to: "analyst@globex.example", "--ttl", "2h")
    let isAdmitted = try await eventually {
      try await planner.lines("receipts", message).contains { $0["state"] as? String == "admitted" }
    }
    #expect(isAdmitted)
    // Less than after which its peer would not talk to it any more matters nothing here: it only has to tell.
    try clock.set(aheadBy: 3 * 3_600)
    let isSeen = try await eventually {
      let seen: Clock = try await globex.admin("--json", "clock").json()
      return seen.jumpMs != nil
    }
    #expect(isSeen)
    _ = try await globex.admin("clock", "accept").expected()
    #expect(try await planner.waits(for: "expired", of: message))
  }

  @Test("one command under a client's wrong clock forgets nothing, and what is on its way still arrives")
  func client() async throws {
    let (acme, globex) = try await Organisation.federation()
    let clock = try await BentClock(in: globex.directory)
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let address = "analyst@globex.example"
    _ = try await planner.send("read before", to: address)
    #expect(try await analyst.takeMail().count == 1)
    let own = try await analyst.send("own", to: "planner@acme.example")
    let short = try await planner.send("on its way", to: address, "--ttl", "1h")
    let long = try await planner.send("for long", to: address)

    for years in [1, -1] {
      try clock.set(aheadBy: years * Self.year)
      for command in [["inbox", "--ack"], ["send", "--to", "planner@acme.example", "--text", "x"]] {
        let arguments = command + ["--home", analyst.home]
        let finished = try await Program.client.run(arguments, environment: clock.environment)
        // The control: the clock was wrong, and the node's certificate not valid at that time.
        #expect(finished.exit == .code(5) && finished.errors.contains("clock"))
      }
      let kept = try await analyst.lines("search", "--text", "read")
      #expect(kept.first?["kept"] as? Bool == true, "bodies stay")
      #expect(try await !analyst.lines("receipts", own, "--offline").isEmpty, "proofs stay")
    }
    _ = try await planner.send("after", to: address, "--ttl", "1h")
    let mail = try await analyst.takeMail(count: 3)
    #expect(mail.map { $0["body"] as? String } == ["on its way", "for long", "after"])
    for message in [short, long] { #expect(try await planner.waits(for: "processed", of: message)) }
  }
}
