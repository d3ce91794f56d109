import Foundation
import TestSupport
import Testing

@Suite("work that fails comes again, rests, and ends", .serialized, .timeLimit(.minutes(5)))
struct WorkFailureScenarios {
  @Test("exit codes decide: 0 is done, 65 a dead letter, anything else another attempt")
  func exitCodes() async throws {
    let place = try await Workplace.alone()
    for text in ["good", "bad", "flaky"] { try await place.send(text, "--type", "TASK_REQUEST") }
    let script = """
      test "$ENGRAM_FROM $ENGRAM_TYPE" = "boss@acme.example TASK_REQUEST" || exit 1
      case "$(cat)-$ENGRAM_ATTEMPT" in
        good-1) exit 0;; bad-1) exit 65;; flaky-1) exit 3;; flaky-2) exit 0;;
      esac
      exit 1
      """
    let worker = try await place.work(
      "work", ["--prefetch", "3", "--visibility", "2s", "--max", "4"], script)
    #expect(worker.count("ack") == 2 && worker.count("reject") == 1 && worker.count("nack") == 1)
    try await place.send("more")
    let missing = try await Program.client.run(["work", "--home", place.agent.home, "--", "/nowhere/command"])
    #expect(missing.exit == .code(64) && missing.errors.contains("/nowhere/command"))
    #expect(try await place.queue()["waiting"] as? Int == 1, "it is still there")
  }

  @Test("a task that is not to be tried yet rests for as long as was said, and is nobody's meanwhile")
  func resting() async throws {
    let place = try await Workplace.alone()
    let message = try await place.send("task")
    let script = "date +%s%3N >> \(place.file("times")); test $ENGRAM_ATTEMPT = 2 || exit 75"
    _ = try await place.work("first", ["--once", "--retry-after", "3s"], script)
    let queue = try await place.queue()
    #expect(queue["held"] as? Int == 1 && queue["waiting"] as? Int == 0)
    let none = try await place.work("none", ["--drain"], script)
    #expect(none.reports.isEmpty, "while it rests nobody is given it")
    let second = try await place.work("second", ["--max", "1"], script)
    #expect(second.count("ack") == 1 && second.attempts == [2])
    let times = place.numbers("times")
    #expect(times.count == 2 && times[1] - times[0] >= 3_000)
    #expect(try await place.becomes("processed", message))
    // The control: without a rest it is ready again, for whoever comes next.
    try await place.send("other")
    let both = try await place.work("both", ["--drain", "--retry-after", "0"], script)
    #expect(both.attempts == [1, 2])
  }

  @Test("an end that is reported after the message expired is refused; its sender hears of it all the same")
  func expired() async throws {
    let place = try await Workplace.alone()
    let script = """
      body=$(cat); echo $body >> \(place.file("begun"))
      while test "$body" = short && ! test -e \(place.file("gate")); do sleep 0.1; done
      """
    let worker = try place.worker("slow", ["--prefetch", "2"], script)
    let short = try await place.send("short", "--ttl", "5s")
    let long = try await place.send("long")
    #expect(await eventually { place.lines("begun").count == 2 }, "\(worker.child.errors)")
    #expect(try await place.becomes("expired", short))
    try place.touch("gate")
    #expect(await eventually { worker.count("lost") == 1 }, "\(worker.child.output) \(worker.child.errors)")
    #expect(try await place.becomes("processed", long), "the control")
    // Two signed words then: the node ended it, and the device was done with it after all.
    #expect(try await place.becomes("processed", short))
    await worker.stop()
  }

  @Test(
    "a task that keeps failing is a dead letter: its sender elsewhere has proof, the operator its history")
  func poison() async throws {
    let place = try await Workplace.federated()
    let message = try await place.send("very secret poison")
    let fine = try await place.send("fine")
    let script = """
      test "$(cat)" = fine && exit 0
      echo $ENGRAM_ATTEMPT >> \(place.file("attempts")); exit 75
      """
    let failing = try place.worker("failing", ["--retry-after", "0"], script)
    #expect(try await place.becomes("dead-lettered", message))
    await failing.stop()
    #expect(try await place.becomes("processed", fine), "the control: the others are not held up")
    #expect(place.numbers("attempts") == Array(1...20), "counted to the configured end and no further")
    let proof = try #require(try await place.boss.lines("verify", message).first)
    #expect("\(proof)".contains("dead-lettered") && proof["holds"] as? Bool == true, "\(proof)")

    let letter = try await deadLetter(of: place)
    #expect(letter.history.map(\.attempt).max() == 20)
    let shown = try await place.organisation.admin("queue", "inspect", "\(letter.mailbox)", "\(letter.seq)")
      .expected()
    #expect(shown.contains("boss@acme.example") && !shown.contains("secret"), "still sealed")
    _ = try await place.organisation.admin("queue", "requeue", "\(letter.mailbox)", "\(letter.seq)")
      .expected()
    let willing = try await place.work("willing", ["--max", "1"], "cat >/dev/null")
    #expect(willing.count("ack") == 1 && willing.attempts == [1], "a new round")
    #expect(try await place.becomes("processed", message))
  }

  @Test("a worker that allows fewer attempts gives up sooner, but not on what asks for time")
  func fewerAttempts() async throws {
    let place = try await Workplace.alone()
    let failing = try await place.send("fails")
    let busy = try await place.send("busy")
    let script = "test \"$(cat)\" = fails && exit 1; test $ENGRAM_ATTEMPT = 4 || exit 75"
    let worker = try await place.work("w", ["--drain", "--attempts", "3", "--retry-after", "0"], script)
    #expect(worker.count("reject") == 1 && worker.count("nack") == 5 && worker.count("ack") == 1)
    #expect(try await place.becomes("dead-lettered", failing))
    #expect(try await place.becomes("processed", busy))
    let history = try await deadLetter(of: place).history
    #expect(history.map(\.attempt) == [1, 2, 3] && history.last?.name == "attempts-exhausted")
  }

  @Test("a worker dies between an effect and the word about it: the same id comes again, one effect is had")
  func oneEffect() async throws {
    let place = try await Workplace.alone()
    let message = try await place.send("pay")
    let script = """
      echo $ENGRAM_ATTEMPT $ENGRAM_REDELIVERED >> \(place.file("runs"))
      mkdir \(place.file("paid"))-$ENGRAM_ENVELOPE 2>/dev/null || exit 0
      echo paid >> \(place.file("effects")); kill -9 $PPID; sleep 1000
      """
    let doomed = try place.worker("doomed", [], script)
    #expect(await doomed.child.end() == .signal(SIGKILL), "\(doomed.child.errors)")
    #expect(try await place.state(of: message) != "processed")
    let heir = try await place.work("heir", ["--max", "1"], script)
    #expect(heir.count("ack") == 1)
    #expect(try await place.becomes("processed", message))
    #expect(place.lines("runs") == ["1 0", "2 1"], "the control: the command did run twice")
    #expect(place.lines("effects") == ["paid"])
  }

  private struct Letter: Decodable {
    struct Failure: Decodable { var attempt: UInt32, name: String }
    var mailbox: Int64
    var seq: UInt64
    var history: [Failure]
  }

  /// The one that the operator finds.
  private func deadLetter(of place: Workplace) async throws -> Letter {
    struct Queues: Decodable { var queues: [Queue] }
    struct Queue: Decodable { var mailbox: Int64, kind: String }
    struct Letters: Decodable { var messages: [Letter] }
    let queues: Queues = try await place.organisation.admin("--json", "queue", "list").json()
    let dead = try #require(queues.queues.first { $0.kind == "dead-letters" })
    let letters: Letters = try await place.organisation.admin("--json", "queue", "list", "\(dead.mailbox)")
      .json()
    return try #require(letters.messages.first)
  }
}
