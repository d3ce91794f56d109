import Foundation
import TestSupport
import Testing

@Suite("messages that repeat, by hand, between two organisations", .serialized, .timeLimit(.minutes(5)))
struct ScheduleScenarios {
  /// It lasts until the next minute begins: there is no shorter cron expression.
  @Test("two processes of one home repeat a message, are killed, and each occurrence arrives once")
  func exactlyOnce() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let worker = try await CommandLinePerson("worker", of: globex)
    let added = try #require(
      try await planner.lines(
        "schedule", "add", "--cron", "* * * * *", "--timezone", "Europe/Berlin", "--missed", "once", "--to",
        "worker@globex.example", "--text", "tick", "--label", "project=apollo"
      ).first)
    #expect(added["cron"] as? String == "* * * * *" && added["timezone"] as? String == "Europe/Berlin")
    #expect(try await planner.lines("schedule", "list").first?["id"] as? String == added["id"] as? String)

    let runs = try (1...2).map {
      try ChildProcess(
        Program.client.path, ["schedule", "run", "--json", "--home", planner.home],
        log: acme.directory.file("run-\($0)"))
    }
    var received: [[String: any Sendable]] = []
    let hasCome = try await eventually(within: .seconds(100)) {
      received += try await worker.lines("inbox", "--ack")
      return !received.isEmpty
    }
    #expect(hasCome, "\(runs.map(\.errors))")
    for run in runs { run.send(SIGKILL) }
    for run in runs { _ = await run.end() }
    _ = try await planner.run("schedule", "run", "--once").expected()

    let sent = try await planner.lines("outbox").compactMap { $0["message_id"] as? String }
    _ = try await eventually {
      received += try await worker.lines("inbox", "--ack")
      return received.count >= sent.count
    }
    #expect(received.compactMap { $0["message_id"] as? String }.sorted() == sent.sorted())
    #expect(received.allSatisfy { $0["body"] as? String == "tick" })
    let listed = try #require(try await planner.lines("schedule", "list").first)
    #expect(listed["sent_ms"] as? Int != nil)
    let id = try #require(added["id"] as? String)
    _ = try await planner.run("schedule", "remove", id).expected()
    #expect(try await planner.lines("schedule", "list").isEmpty)
    let unknown = try await planner.run("schedule", "remove", id, "--json")
    #expect(unknown.exit == .code(64) && unknown.errors.contains("no-such-schedule"))
  }
}
