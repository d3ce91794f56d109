import EngramCore
import Foundation
import TestSupport
import Testing

@testable import EngramClient

@Suite("workers of one agent share its work", .serialized, .timeLimit(.minutes(5)))
struct WorkScenarios {
  private static let tasks = 200

  @Test("two workers of one agent share the tasks, each processed exactly once")
  func shared() async throws {
    let place = try await Workplace.federated()
    let workers = try ["one", "two"].map {
      try place.worker($0, ["--prefetch", "4"], "echo $(cat) >> \(place.file("done"))")
    }
    try await place.send(count: Self.tasks)
    let settled = await eventually { workers.map { $0.count("ack") }.reduce(0, +) >= Self.tasks }
    #expect(settled, "\(workers.map(\.child.errors))")
    for worker in workers { await worker.stop() }
    let counts = workers.map { $0.count("ack") }
    #expect(counts.reduce(0, +) == Self.tasks)
    #expect(counts.allSatisfy { $0 > 0 }, "the control: both had a part of it, \(counts)")
    #expect(place.numbers("done").sorted() == Array(0..<Self.tasks))
    let queue = try await place.queue()
    #expect(queue["waiting"] as? Int == 0 && queue["leased"] as? Int == 0)
  }

  @Test(
    "a worker is killed in the middle: its commands end, what it had goes to the other under greater tokens")
  func killed() async throws {
    let place = try await Workplace.alone()
    _ = try await place.agent.run("queue", "mode", "one").expected()
    let (begun, done) = (place.file("begun"), place.file("done"))
    // Takes tasks and never finishes one. What a command starts in its turn ends too.
    let doomed = try place.worker(
      "doomed", ["--prefetch", "8"],
      "sleep 1000 & echo $(cat) $ENGRAM_TOKEN $ENGRAM_ENVELOPE $$ $! >> \(begun); sleep 1000")
    try await place.send(count: Self.tasks)
    #expect(await eventually { place.lines("begun").count >= 8 }, "\(doomed.child.errors)")
    #expect(try await place.queue()["leased"] as? Int == 8, "the control: it has them in hand")
    for line in place.lines("begun") { #expect(!hasEnded(String(line.split(separator: " ").last ?? ""))) }
    let heir = try place.worker(
      "heir", ["--prefetch", "4"],
      "echo $(cat) $ENGRAM_TOKEN $ENGRAM_ENVELOPE $ENGRAM_ATTEMPT $ENGRAM_REDELIVERED >> \(done)")
    #expect(await eventually { place.lines("done").count >= Self.tasks - 8 })
    let before = try place.lines("begun").map(Task.init)
    let others = try place.lines("done").map(Task.init)
    #expect(Set(others.map(\.number)).isDisjoint(with: before.map(\.number)), "they are nobody else's")
    #expect(others.allSatisfy { $0.last == ["1", "0"] }, "the control: what is new says so")
    doomed.child.send(SIGKILL)
    #expect(await doomed.child.end() == .signal(SIGKILL))
    #expect(await eventually { heir.count("ack") >= Self.tasks })
    await heir.stop()
    let after = try place.lines("done").map(Task.init)
    #expect(after.map(\.number).sorted() == Array(0..<Self.tasks))
    for old in before {
      let new = try #require(after.first { $0.number == old.number })
      #expect(new.envelope == old.envelope && new.token > old.token)
      #expect(new.last == ["2", "1"], "a second attempt, and known to be one")
      for pid in old.last { #expect(await eventually { hasEnded(pid) }, "a command still runs") }
    }
    #expect(try await place.agent.lines("alarms").isEmpty)
  }

  /// A process that nobody has waited for yet has ended all the same.
  private func hasEnded(_ pid: String) -> Bool {
    guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return true }
    return stat.split(separator: ")").last.map { $0.hasPrefix(" Z") || $0.hasPrefix(" X") } ?? true
  }

  private struct Task {
    let number: Int
    let token: UInt64
    let envelope: String
    let last: [String]

    init(_ line: String) throws {
      let words = line.split(separator: " ").map(String.init)
      number = try #require(Int(words[0]))
      token = try #require(UInt64(words[1]))
      (envelope, last) = (words[2], Array(words.dropFirst(3)))
    }
  }

  @Test("the token of a killed worker is refused, whatever it is used for; its successor's is taken")
  func fenced() async throws {
    let place = try await Workplace.alone()
    let trace = "echo $ENGRAM_TOKEN >> \(place.file("tokens"))"
    let doomed = try place.worker("doomed", [], trace + "; sleep 1000")
    let message = try await place.send("task")
    #expect(await eventually { place.numbers("tokens").count == 1 }, "\(doomed.child.errors)")
    doomed.child.send(SIGKILL)
    #expect(await doomed.child.end() == .signal(SIGKILL))
    let gate = "; while ! test -e \(place.file("gate")); do sleep 0.1; done"
    let heir = try place.worker("heir", [], trace + gate)
    #expect(await eventually { place.numbers("tokens").count == 2 }, "\(heir.child.errors)")
    let tokens = place.numbers("tokens").map { UInt64($0) }
    #expect(tokens[1] > tokens[0])
    // As the dead worker's own device, under any number that the message may have had.
    let ghost = try EngramClient.open(home: place.agent.home)
    func say(_ token: UInt64, _ verb: Settlement.Verb) async throws -> [ErrorCode] {
      let settlements = (UInt64(1)...20).map { Settlement(seq: $0, token: token, verb) }
      return try await ghost.core.api.settle(settlements).map(\.code)
    }
    for verb in [
      Settlement.Verb.renew, .nack(delayMs: 0, code: .none), .reject(code: .rejected, receipt: []),
    ] {
      #expect(try await say(tokens[0], verb).allSatisfy { $0 == .leaseLost }, "\(verb)")
    }
    #expect(try await say(tokens[1], .renew).count { $0 == .none } == 1, "the control: the live one counts")
    await ghost.close()
    try place.touch("gate")
    #expect(try await place.becomes("processed", message))
    await heir.stop()
    #expect(heir.count("ack") == 1)
  }

  @Test("a worker that stood still finds its lease lost: its word does not count, the other's does")
  func stale() async throws {
    let place = try await Workplace.alone()
    let message = try await place.send("task")
    let script = """
      echo $ENGRAM_TOKEN >> \(place.file("tokens"))
      while test $ENGRAM_ATTEMPT = 1 && ! test -e \(place.file("gate")); do sleep 0.1; done
      """
    let slow = try place.worker("slow", ["--visibility", "1s"], script)
    #expect(await eventually { place.numbers("tokens").count == 1 }, "\(slow.child.errors)")
    slow.child.send(SIGSTOP)
    let quick = try await place.work("quick", ["--max", "1"], script)
    #expect(quick.count("ack") == 1 && quick.attempts.allSatisfy { $0 > 1 }, "\(quick.child.output)")
    try place.touch("gate")
    slow.child.send(SIGCONT)
    #expect(await eventually { slow.count("lost") == 1 }, "\(slow.child.output) \(slow.child.errors)")
    await slow.stop()
    let tokens = place.numbers("tokens")
    #expect(tokens.count == 2 && tokens[1] > tokens[0], "what a fenced resource would go by")
    #expect(try await place.becomes("processed", message))
  }

  @Test("a worker that is asked to end lets its command finish, and gives back the rest")
  func graceful() async throws {
    let place = try await Workplace.alone()
    for text in ["quick", "slow", "third"] { try await place.send(text) }
    let script = """
      body=$(cat); echo $body >> \(place.file("begun"))
      while test "$body" = slow || ! test -e \(place.file("gate")); do sleep 0.1; done
      """
    let worker = try place.worker(
      "asked", ["--prefetch", "3", "--concurrency", "2", "--grace", "3s"], script)
    #expect(await eventually { place.lines("begun").count == 2 }, "\(worker.child.errors)")
    #expect(try await place.queue()["leased"] as? Int == 3, "the third is in hand and not begun")
    worker.child.send(SIGTERM)
    try place.touch("gate")
    #expect(await worker.child.end() == .code(0), "\(worker.child.errors)")
    #expect(place.lines("begun").sorted() == ["quick", "slow"], "nothing more is begun")
    #expect(worker.count("ack") == 1 && worker.count("nack") == 1)
    let again = try await place.work("again", ["--max", "2"], "cat >/dev/null")
    #expect(again.attempts.sorted() == [1, 2], "what was never begun has not failed: \(again.child.output)")
  }

  @Test("a consumer of many small messages says of many at once that they are done")
  func batches() async throws {
    let place = try await Workplace.alone()
    let client = try EngramClient.open(home: place.agent.home)
    let work = try client.consume(prefetch: 500)
    var items = work.makeAsyncIterator()
    func take(_ count: Int, _ settle: (WorkItem) async throws -> Void) async throws -> Double {
      try await place.send(count: count)
      let before = try await framesHeard(by: place)
      var seen: Set<String> = []
      while seen.count < count {
        let item = try #require(try await items.next())
        seen.insert(item.message.envelopeID)
        try await settle(item)
      }
      #expect(await work.flush().isEmpty)
      return try await framesHeard(by: place) - before
    }
    let hasty = try await take(1_000) { await $0.ackSoon() }
    #expect(hasty < 300, "\(hasty)")
    let patient = try await take(40) { try await $0.ack() }
    #expect(patient >= 40, "the control: whoever waits for each answer sends a frame for each")
    #expect(try await client.queueState().leased == 0)
    await work.close()
    await client.close()
  }

  private func framesHeard(by place: Workplace) async throws -> Double {
    try #require(try await place.organisation.metric("engram_realtime_frames_received_total"))
  }

  @Test("a worker that is to end when nothing is ready does so, and one for a single task takes a single one")
  func draining() async throws {
    let place = try await Workplace.alone()
    let none = try await place.work("none", ["--drain"], "cat >/dev/null")
    #expect(none.reports.isEmpty, "the control: without tasks it ends at once")
    try await place.send(count: 30)
    let one = try await place.work("one", ["--once"], "cat >/dev/null")
    #expect(one.count("ack") == 1)
    let script = "echo $(cat) >> \(place.file("done")); echo $(ls /proc/self/fd) >> \(place.file("open"))"
    let all = try await place.work("all", ["--drain", "--prefetch", "10", "--concurrency", "3"], script)
    #expect(all.count("ack") == 29 && Set(place.numbers("done")).count == 29)
    let descriptors = try #require(place.lines("open").first).split(separator: " ")
    #expect(Set(descriptors).isSubset(of: ["0", "1", "2", "3"]), "3 is the folder that ls reads")
    #expect(try await place.queue()["waiting"] as? Int == 0)
  }
}
