import EngramClient
import Foundation
import TestSupport
import Testing

@Suite(
  "work queues through running nodes, by command line", .disabled("the command is not offered yet"),
  .serialized, .timeLimit(.minutes(5)))
struct WorkScenarios {
  private static let tasks = 200

  /// Starts `engram work` and leaves it to run.
  private func worker(
    _ person: CommandLinePerson, _ arguments: [String], _ script: String, log: String
  ) throws -> ChildProcess {
    try ChildProcess(
      Program.client.path,
      ["work", "--json", "--home", person.home] + arguments + ["--", "sh", "-c", script], log: log)
  }

  /// Tasks `0` to `count - 1`, their numbers as bodies.
  private func send(_ count: Int, from boss: CommandLinePerson, to worker: String) async throws {
    let client = try EngramClient.open(home: boss.home)
    let tasks = (0..<count).map { index in
      var options = SendOptions()
      options.type = "TASK_REQUEST"
      return OutgoingMessage(to: [worker], body: Array("\(index)".utf8), options: options)
    }
    let sent = try await client.sendBatch(tasks)
    await client.close()
    try #require(sent.allSatisfy { $0.state == .accepted })
  }

  /// Numbers that commands appended to a file, one a line.
  private func done(_ path: String) -> [Int] {
    let text = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    return text.split(separator: "\n").compactMap { Int($0) }
  }

  private func stop(_ worker: ChildProcess) async {
    worker.send(SIGTERM)
    let exit = await worker.end()
    #expect(exit == .code(0), "\(worker.errors.suffix(400))")
  }

  @Test("two workers of one agent share the tasks, each processed exactly once")
  func shared() async throws {
    let (acme, globex) = try await Organisation.federation()
    let boss = try await CommandLinePerson("boss", of: acme)
    let agent = try await CommandLinePerson("agent", of: globex)
    let folder = globex.directory
    let script = "echo $(cat) >> \(folder.file("done"))"
    let workers = try ["one", "two"].map {
      try worker(agent, ["--prefetch", "4"], script, log: folder.file($0))
    }
    try await send(Self.tasks, from: boss, to: "agent@globex.example")
    #expect(await eventually { done(folder.file("done")).count >= Self.tasks })
    let settled = await eventually { workers.map { lines($0, "ack") }.reduce(0, +) >= Self.tasks }
    #expect(settled, "\(workers.map(\.errors))")
    for worker in workers { await stop(worker) }
    let counts = workers.map { lines($0, "ack") }
    #expect(counts.reduce(0, +) == Self.tasks)
    #expect(counts.allSatisfy { $0 > 0 }, "the control: both had a part of it, \(counts)")
    #expect(done(folder.file("done")).sorted() == Array(0..<Self.tasks))
    let queue = try #require(try await agent.lines("queue").first)
    #expect(queue["waiting"] as? Int == 0 && queue["leased"] as? Int == 0)
  }

  private func lines(_ worker: ChildProcess, _ outcome: String) -> Int {
    worker.output.split(separator: "\n").count { $0.contains("\"outcome\":\"\(outcome)\"") }
  }

  @Test("a worker is killed in the middle: what it had goes to the other, and everything is done once")
  func killed() async throws {
    let acme = try await Organisation.running("acme.example")
    let boss = try await CommandLinePerson("boss", of: acme)
    let agent = try await CommandLinePerson("agent", of: acme)
    let folder = acme.directory
    _ = try await agent.run("queue", "mode", "one").expected()
    let (begun, ready) = (folder.file("begun"), folder.file("done"))
    // Takes tasks and never finishes one; its commands end when it does.
    let doomed = try worker(
      agent, ["--prefetch", "8"],
      "echo $(cat) >> \(begun); while kill -0 $PPID 2>/dev/null; do sleep 0.1; done",
      log: folder.file("doomed"))
    try await send(Self.tasks, from: boss, to: "agent@acme.example")
    #expect(await eventually { done(begun).count >= 8 }, "\(doomed.errors)")
    let held = try #require(try await agent.lines("queue").first)
    #expect(held["leased"] as? Int == 8, "the control: it has them in hand")
    let heir = try worker(
      agent, ["--prefetch", "4"], "echo $(cat) >> \(ready)", log: folder.file("heir"))
    #expect(await eventually { done(ready).count >= Self.tasks - 8 })
    #expect(Set(done(ready)).isDisjoint(with: done(begun)), "what the first one has is nobody else's")
    doomed.send(SIGKILL)
    #expect(await doomed.end() == .signal(SIGKILL))
    #expect(await eventually { lines(heir, "ack") >= Self.tasks })
    await stop(heir)
    #expect(done(ready).sorted() == Array(0..<Self.tasks))
    #expect(try await agent.lines("alarms").isEmpty)
  }

  @Test(
    "a task that keeps failing is a dead letter its sender sees, until the operator gives it another round")
  func deadLetter() async throws {
    let (acme, globex) = try await Organisation.federation()
    let boss = try await CommandLinePerson("boss", of: acme)
    let agent = try await CommandLinePerson("agent", of: globex)
    let folder = globex.directory
    let sent = try #require(
      try await boss.lines("send", "--to", "agent@globex.example", "--text", "hard").first)
    let message = try #require(sent["message_id"] as? String)
    let failing = try worker(
      agent, ["--retry-after", "0"], "echo $ENGRAM_ATTEMPT >> \(folder.file("attempts")); exit 75",
      log: folder.file("failing"))
    #expect(try await eventually { try await state(of: message, boss) == "dead-lettered" })
    await stop(failing)
    // Attempts are counted, to the configured end and no further.
    #expect(done(folder.file("attempts")) == Array(1...20))
    struct Queues: Decodable { var queues: [Queue] }
    struct Queue: Decodable { var mailbox: Int64, kind: String, waiting: Int, held: Int }
    let queues: Queues = try await globex.admin("--json", "queue", "list").json()
    let dead = try #require(queues.queues.first { $0.kind == "dead-letters" })
    struct Letters: Decodable { var messages: [Letter] }
    struct Letter: Decodable { var seq: UInt64, history: [Failure] }
    struct Failure: Decodable { var attempt: UInt32 }
    let letters: Letters = try await globex.admin("--json", "queue", "list", "\(dead.mailbox)").json()
    let letter = try #require(letters.messages.first)
    #expect(letter.history.map(\.attempt).max() == 20)
    _ = try await globex.admin("queue", "requeue", "\(dead.mailbox)", "\(letter.seq)").expected()
    let willing = try worker(agent, ["--max", "1"], "cat >/dev/null", log: folder.file("willing"))
    #expect(await willing.end() == .code(0), "\(willing.errors)")
    #expect(try await eventually { try await state(of: message, boss) == "processed" })
    #expect(willing.output.contains("\"attempt\":1"), "a new round: \(willing.output)")
  }

  private func state(of message: String, _ person: CommandLinePerson) async throws -> String? {
    try await person.lines("status", message).first?["state"] as? String
  }

  @Test("exit codes decide: 0 is done, 65 a dead letter, anything else another attempt")
  func exitCodes() async throws {
    let acme = try await Organisation.running("acme.example")
    let boss = try await CommandLinePerson("boss", of: acme)
    let agent = try await CommandLinePerson("agent", of: acme)
    for text in ["good", "bad", "flaky"] {
      _ = try await boss.run("send", "--to", "agent@acme.example", "--text", text, "--type", "TASK_REQUEST")
        .expected()
    }
    let script = """
      test "$ENGRAM_FROM $ENGRAM_TYPE" = "boss@acme.example TASK_REQUEST" || exit 1
      case "$(cat)-$ENGRAM_ATTEMPT" in
        good-1) exit 0;; bad-1) exit 65;; flaky-1) exit 3;; flaky-2) exit 0;;
      esac
      exit 1
      """
    let log = acme.directory.file("work")
    let child = try worker(agent, ["--prefetch", "3", "--visibility", "2s", "--max", "4"], script, log: log)
    #expect(await child.end() == .code(0), "\(child.errors)")
    #expect(lines(child, "ack") == 2 && lines(child, "reject") == 1 && lines(child, "nack") == 1)
    _ = try await boss.run("send", "--to", "agent@acme.example", "--text", "more").expected()
    let missing = try await Program.client.run(["work", "--home", agent.home, "--", "/nowhere/command"])
    #expect(missing.exit == .code(64) && missing.errors.contains("/nowhere/command"))
    let queue = try #require(try await agent.lines("queue", "show").first)
    #expect(queue["waiting"] as? Int == 1, "it is still there")
  }

  @Test("a worker that stood still finds its lease lost: its word does not count, the other's does")
  func stale() async throws {
    let acme = try await Organisation.running("acme.example")
    let boss = try await CommandLinePerson("boss", of: acme)
    let agent = try await CommandLinePerson("agent", of: acme)
    let folder = acme.directory
    let sent = try #require(
      try await boss.lines("send", "--to", "agent@acme.example", "--text", "task").first)
    let message = try #require(sent["message_id"] as? String)
    let script = """
      echo $ENGRAM_TOKEN >> \(folder.file("tokens"))
      while test $ENGRAM_ATTEMPT = 1 && ! test -e \(folder.file("gate")); do sleep 0.1; done
      """
    let slow = try worker(agent, ["--visibility", "1s"], script, log: folder.file("slow"))
    #expect(await eventually { done(folder.file("tokens")).count == 1 }, "\(slow.errors)")
    slow.send(SIGSTOP)
    let quick = try worker(agent, ["--max", "1"], script, log: folder.file("quick"))
    #expect(await quick.end() == .code(0), "\(quick.errors)")
    #expect(lines(quick, "ack") == 1 && quick.output.contains("\"attempt\":2"))
    try Data().write(to: URL(fileURLWithPath: folder.file("gate")))
    slow.send(SIGCONT)
    #expect(await eventually { lines(slow, "lost") == 1 }, "\(slow.output) \(slow.errors)")
    await stop(slow)
    let tokens = done(folder.file("tokens"))
    #expect(tokens.count == 2 && tokens[1] > tokens[0], "what a fenced resource would go by")
    #expect(try await eventually { try await state(of: message, boss) == "processed" })
  }

  @Test("a worker that is asked to end lets its command finish, and gives back the rest")
  func graceful() async throws {
    let acme = try await Organisation.running("acme.example")
    let boss = try await CommandLinePerson("boss", of: acme)
    let agent = try await CommandLinePerson("agent", of: acme)
    let folder = acme.directory
    for text in ["quick", "slow"] {
      _ = try await boss.run("send", "--to", "agent@acme.example", "--text", text).expected()
    }
    let script = """
      body=$(cat); echo 1 >> \(folder.file("begun"))
      while test "$body" = slow || ! test -e \(folder.file("gate")); do sleep 0.1; done
      """
    let child = try worker(
      agent, ["--prefetch", "2", "--grace", "3"], script, log: folder.file("work"))
    #expect(await eventually { done(folder.file("begun")).count == 2 }, "\(child.errors)")
    child.send(SIGTERM)
    try Data().write(to: URL(fileURLWithPath: folder.file("gate")))
    #expect(await child.end() == .code(0), "\(child.errors)")
    #expect(lines(child, "ack") == 1 && lines(child, "nack") == 1)
    let again = try worker(agent, ["--max", "1"], "cat >/dev/null", log: folder.file("again"))
    #expect(await again.end() == .code(0))
    #expect(again.output.contains("\"attempt\":2"), "\(again.output)")
  }
}
