import EngramClientStore
import EngramCore
import Foundation
import Synchronization
import Testing

@testable import EngramClient

@Suite("Messages that repeat")
struct ScheduleTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient
  private let hourMs: UInt64 = 3_600_000

  /// The clock begins at a full hour.
  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  private func message(_ text: String, to address: String = "bob@globex.example") -> OutgoingMessage {
    var options = SendOptions()
    (options.type, options.priority, options.labels) = ("TASK_REQUEST", "HIGH", ["a": "b"])
    return OutgoingMessage(to: [address], body: Array(text.utf8), options: options)
  }

  @discardableResult
  private func add(
    _ text: String, _ cron: String = "0 * * * *", missed: MissedOccurrences = .skip
  ) async throws -> Schedule {
    try await alice.addSchedule(message(text), cron: cron, timeZone: "UTC", missed: missed)
  }

  /// One round, and what it said: `sent`, `refused` with its name, `skipped`.
  private func round(_ client: EngramClient? = nil) async throws -> [String] {
    let said = Mutex<[String]>([])
    try await (client ?? alice).sendDueSchedules { event in
      let text =
        switch event {
        case .sent: "sent"
        case .refused(_, _, let error): "refused \(error.name)"
        case .skipped: "skipped"
        case .trouble(let error): "trouble \(error.name)"
        }
      said.withLock { $0.append(text) }
    }
    return said.withLock { $0 }
  }

  private func received() async throws -> [String] {
    let messages = try await bob.receive()
    try await bob.acknowledge(messages.map(\.envelopeID))
    return messages.map { String(decoding: $0.body, as: UTF8.self) }
  }

  @Test("each occurrence is sent once, as a message of its own, by whichever process comes by")
  func once() async throws {
    let schedule = try await add("tick")
    #expect(schedule.nextMs == world.clock.nowMs + hourMs)
    #expect(try await round().isEmpty, "what is added at nine is not due at nine")
    world.clock.advance(ms: hourMs - 1)
    #expect(try await round().isEmpty)
    world.clock.advance(ms: 1)
    #expect(try await round() == ["sent"])
    #expect(try await round().isEmpty)
    world.clock.advance(ms: hourMs + 7_000)
    let again = try world.reopen("alice", at: world.acme)
    #expect(try await round(again) == ["sent"])
    #expect(try await round().isEmpty)
    let messages = try await bob.receive()
    #expect(messages.map(\.body) == [Array("tick".utf8), Array("tick".utf8)])
    #expect(
      messages.allSatisfy { $0.type == "TASK_REQUEST" && $0.priority == "HIGH" && $0.labels == ["a": "b"] })
    #expect(Set(messages.map(\.messageID)).count == 2 && Set(messages.map(\.thread)).count == 2)
    let listed = try #require(try await alice.schedules().first)
    #expect(
      listed.id == schedule.id && listed.sentMs == schedule.createdMs + 2 * hourMs && listed.error == nil)
  }

  @Test("what was sent just before a crash is not sent again, though nothing was noted")
  func crash() async throws {
    let schedule = try await add("once")
    world.clock.advance(ms: hourMs)
    #expect(try await round() == ["sent"])
    let id = try #require(bytes(hex: schedule.id).flatMap { MessageID($0) })
    try await alice.core.commit {
      try $0.noteSchedule(id, throughMs: schedule.createdMs, sentMs: nil, code: .none)
    }
    let again = try world.reopen("alice", at: world.acme)
    #expect(try await round(again) == ["sent"], "the control: it is taken for due")
    #expect(world.acme.state.withLock { $0.posted.count } == 1)
    #expect(try await received() == ["once"])
  }

  @Test(
    "what was missed is not sent, or sent once for all, as the schedule says; a little late is not missed")
  func missed() async throws {
    try await add("skipping")
    try await add("catching up", missed: .once)
    world.clock.advance(ms: 5 * hourMs + SchedulePlan.lateMsMax + 1)
    #expect(try await round() == ["skipped", "sent"])
    #expect(try await round().isEmpty)
    #expect(try await received() == ["catching up"])
    world.clock.advance(ms: hourMs - 1)
    #expect(try await round() == ["sent", "sent"])
    #expect(try await received() == ["skipping", "catching up"])
  }

  @Test("a clock that was a year ahead and is set back neither repeats nor ends anything")
  func clockSetBack() async throws {
    let schedule = try await add("tick")
    world.clock.advance(ms: hourMs)
    #expect(try await round() == ["sent"])
    let id = try #require(bytes(hex: schedule.id).flatMap { MessageID($0) })
    let yearMs = 365 * 24 * hourMs
    try await alice.core.commit {
      try $0.noteSchedule(id, throughMs: schedule.createdMs + yearMs, sentMs: nil, code: .none)
    }
    #expect(try await round().isEmpty)
    world.clock.advance(ms: hourMs)
    #expect(try await round() == ["sent"])
    #expect(try await received() == ["tick", "tick"])
  }

  @Test("while the node is away occurrences are kept here, and go out once when it is back")
  func away() async throws {
    try await add("kept")
    _ = try await alice.send(to: [bob.address], body: Array("first".utf8))
    world.clock.advance(ms: hourMs)
    world.acme.set { $0.isReachable = false }
    #expect(try await round() == ["sent"])
    #expect(try await round().isEmpty)
    world.acme.set { $0.isReachable = true }
    try await alice.resendOutbox()
    #expect(try await received() == ["kept", "first"], "by priority")
  }

  @Test("an occurrence that is refused is said to be, and the next one is tried")
  func refused() async throws {
    _ = try await alice.addSchedule(
      message("x", to: "nobody@globex.example"), cron: "0 * * * *", timeZone: "UTC")
    for _ in 1...2 {
      world.clock.advance(ms: hourMs)
      #expect(try await round() == ["refused unknown-recipient"])
      #expect(try await round().isEmpty)
    }
    #expect(try await alice.schedules().first?.error?.name == "unknown-recipient")
  }

  @Test("a schedule that was removed sends nothing; one that there is not is named")
  func removing() async throws {
    let schedule = try await add("gone")
    try await add("stays")
    try await alice.removeSchedule(schedule.id)
    world.clock.advance(ms: hourMs)
    #expect(try await round() == ["sent"])
    #expect(try await received() == ["stays"])
    for id in [schedule.id, "", "zz", String(repeating: "0", count: 32)] {
      let error = await #expect(throws: EngramError.self) { try await alice.removeSchedule(id) }
      #expect(error?.name == "no-such-schedule")
    }
  }

  @Test("what cannot be sent or repeated is refused before anything is kept")
  func badInput() async throws {
    var answer = message("x")
    answer.options.replyTo = String(repeating: "a", count: 64)
    var named = message("x")
    named.options.messageID = String(repeating: "a", count: 32)
    let cases: [(OutgoingMessage, String, String, String)] = [
      (message("x"), "0 9 * *", "UTC", "bad-cron"),
      (message("x"), "0 9 * * *", "Mars/Olympus", "bad-timezone"),
      (message("x", to: "nobody"), "0 9 * * *", "UTC", "bad-address"),
      (answer, "0 9 * * *", "UTC", "not-repeatable"), (named, "0 9 * * *", "UTC", "not-repeatable"),
    ]
    for (message, cron, zone, name) in cases {
      let error = await #expect(throws: EngramError.self) {
        try await alice.addSchedule(message, cron: cron, timeZone: zone)
      }
      #expect(error?.name == name)
    }
    #expect(try await alice.schedules().isEmpty)
  }

  @Test("on the disk stands neither what is sent nor to whom nor when")
  func sealed() async throws {
    try await add("a very secret text", "7 9 * * 1-5")
    await alice.close()
    let home = world.folder + "/alice"
    let all = try FileManager.default.contentsOfDirectory(atPath: home).reduce(into: Data()) {
      $0.append(try Data(contentsOf: URL(filePath: home + "/" + $1)))
    }
    for text in ["a very secret text", "7 9 * * 1-5", "bob@globex.example"] {
      #expect(all.range(of: Data(text.utf8)) == nil, "\(text)")
    }
    #expect(all.range(of: Data("alice@acme.example".utf8)) != nil, "the control")
  }
}
