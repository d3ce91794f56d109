internal import ArgumentParser
internal import Dispatch
internal import EngramClient
internal import Foundation
internal import Glibc

struct WorkCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "work",
    abstract: "Run a command for each message, and settle the message by how it ends.",
    discussion: """
      The command gets the body on its standard input and the rest in its environment: ENGRAM_FROM, \
      ENGRAM_TYPE, ENGRAM_PRIORITY, ENGRAM_THREAD, ENGRAM_ENVELOPE, ENGRAM_MESSAGE, ENGRAM_CONTENT_TYPE, \
      ENGRAM_ATTEMPT (1 the first time), ENGRAM_REDELIVERED (0 or 1), ENGRAM_TOKEN (grows with every lease: \
      a fencing token) and ENGRAM_HOME, so that `engram reply "$ENGRAM_ENVELOPE"` answers.

      How it ends decides:
         0  done: the sender gets this device's signed receipt
        65  never: the message becomes a dead letter, which an operator can look at
        75  not now: another attempt after a rest, which grows with each failure
        any other code, or a signal: the same as 75, and with --attempts a dead letter after so many failures

      After 20 failures of any kind the node makes it a dead letter; its sender sees `dead-lettered`.

      Several `engram work` of one agent, on one home or on several devices (`engram queue mode one`), share \
      what waits. What one that is killed had in hand is a failed attempt, and goes to the others after a \
      rest; its commands are stopped. What commands write elsewhere should go by ENGRAM_ENVELOPE, which \
      stays the same, or carry ENGRAM_TOKEN: a message may have been worked on before (ENGRAM_REDELIVERED is \
      1 where that is known).

      SIGTERM and SIGINT end it: nothing more is begun, what runs may finish within --grace, the rest is \
      stopped and given back, and the exit code is 0. A second signal ends it at once. With --json standard \
      output has one object per message, and what commands print goes to standard error.

      Examples:
        engram work -- ./handle-task
        engram work --prefetch 8 --visibility 60s -- sh -c 'wc -c | engram reply "$ENGRAM_ENVELOPE" --file -'
        engram work --drain --json -- ./handle-task
      """)

  @Option(
    help: ArgumentHelp(
      "Messages in hand at the same time, 1 to 1000 (default: as --concurrency, or 1).", valueName: "count"))
  var prefetch: Int?

  @Option(
    help: ArgumentHelp(
      "Commands at work at the same time (default: as --prefetch).", valueName: "count"))
  var concurrency: Int?

  @Option(
    help: ArgumentHelp(
      "How long a message stays here while nothing is heard of this command, 1s to 12h (default: until the "
        + "connection ends; with --drain 30s).", valueName: "time"))
  var visibility: TimeSpan?

  @Option(help: ArgumentHelp("End after so many messages.", valueName: "count"))
  var max: Int?

  @Flag(help: "End when no message is ready. Those that rest after a failure are left to rest.")
  var drain = false

  @Flag(help: "Take one message, or none if none is ready, and end: --drain --max 1.")
  var once = false

  @Option(
    help: ArgumentHelp(
      "Failed attempts, other than exit code 75, after which a message is a dead letter.", valueName: "count")
  )
  var attempts: UInt32?

  @Option(
    help: ArgumentHelp(
      "The rest after a failure, instead of one that grows.", valueName: "time"))
  var retryAfter: TimeSpan?

  @Option(help: ArgumentHelp("How long commands may go on after SIGTERM.", valueName: "time"))
  var grace = TimeSpan(seconds: 30)

  @Flag(
    inversion: .prefixedNo,
    help: "What is in hand when the connection breaks counts as a failed attempt.")
  var countDisconnects = true

  @OptionGroup var common: CommonOptions

  @Argument(
    parsing: .postTerminator, help: ArgumentHelp("The command, after `--`.", valueName: "command"))
  var command: [String] = []

  private var inHand: Int { prefetch ?? concurrency ?? 1 }
  private var atWork: Int { concurrency ?? inHand }

  func validate() throws {
    guard !command.isEmpty else {
      throw ValidationError("the command comes after --, as in: -- ./handle-task")
    }
    guard (1...1_000).contains(inHand) else { throw ValidationError("--prefetch is between 1 and 1000") }
    guard (1...inHand).contains(atWork) else {
      throw ValidationError("--concurrency is between 1 and --prefetch: only what is in hand is worked on")
    }
    guard max.map({ $0 > 0 }) ?? true else { throw ValidationError("--max is a number above zero") }
    guard attempts.map({ $0 > 0 }) ?? true else {
      throw ValidationError("--attempts is a number above zero")
    }
    guard !once || max == nil else { throw ValidationError("--once and --max contradict each other") }
    guard visibility.map({ (1...43_200).contains($0.seconds) }) ?? true else {
      throw ValidationError("--visibility is between 1s and 12h")
    }
  }

  func run() async throws {
    let bench = WorkBench(
      runner: try CommandRunner(command, home: common.homePath, sparesOutput: common.json),
      slots: Slots(atWork), attemptsMax: attempts, retryAfterSeconds: retryAfter?.seconds, json: common.json)
    try await common.withClient { client in
      let work = try client.consume(
        prefetch: once ? 1 : inHand, visibilitySeconds: visibility.map { Int($0.seconds) },
        countsDisconnects: countDisconnects, untilEmpty: drain || once)
      let signals = StopSignals { [graceSeconds = grace.seconds] in
        Task { await bench.end(work, graceSeconds: graceSeconds) }
      }
      defer { signals.cancel() }
      do {
        try await bench.run(work, max: once ? 1 : max)
      } catch {
        await work.close()
        throw error
      }
      await work.close()
      if !common.json { Terminal.note(await bench.counts.sentence) }
    }
  }
}

/// Where messages meet the command.
private struct WorkBench: Sendable {
  let runner: CommandRunner
  /// One for each command that may be at work. Free again before its message is settled: words about many
  /// messages travel together.
  let slots: Slots
  let attemptsMax: UInt32?
  let retryAfterSeconds: UInt64?
  let json: Bool
  let counts = WorkCounts()

  /// Until the stream ends, `max` messages were taken, or something is wrong here.
  func run(_ work: WorkStream, max: Int?) async throws {
    try await withThrowingDiscardingTaskGroup { group in
      var taken = 0
      var items = work.makeAsyncIterator()
      while taken != max {
        // Before the message: one that nobody can begin is better off with another consumer.
        await slots.take()
        guard let item = try await stopping(work, { try await items.next() }) else { break }
        taken += 1
        if taken == max { await work.stop() }
        group.addTask { try await stopping(work) { try await process(item) } }
      }
    }
  }

  /// Whatever goes wrong here ends everything: the group waits for all of its commands.
  private func stopping<T>(_ work: WorkStream, _ body: () async throws -> T) async throws -> T {
    do { return try await body() } catch {
      await work.stop()
      await runner.stopAll()
      throw error
    }
  }

  /// SIGTERM: nothing new; what runs may finish for a while; then it is stopped, and at last the connection
  /// is cut under whoever still waits for an answer.
  func end(_ work: WorkStream, graceSeconds: UInt64) async {
    await work.stop()
    try? await Task.sleep(for: .seconds(graceSeconds))
    await runner.stopAll()
    try? await Task.sleep(for: .seconds(Self.settleSeconds))
    await work.close()
  }

  /// What settling takes at most when the node answers at all.
  private static let settleSeconds = 5

  private func process(_ item: WorkItem) async throws {
    let ended: CommandEnd?
    do { ended = try await runner.run(item) } catch {
      await slots.give()
      throw error
    }
    await slots.give()
    guard let ended else { return }
    var verdict = ended.verdict(attempt: item.attempt, attemptsMax: attemptsMax)
    do {
      switch verdict {
      case .ack: try await item.ack()
      case .reject where ended.isFinal: try await item.reject()
      case .reject: try await item.reject(code: WorkVerdict.attemptsExhausted)
      case .lost, .nack:
        try await item.nack(delaySeconds: ended.wasStopped ? 0 : retryAfterSeconds.map { Double($0) })
      }
    } catch let error as EngramError where error.kind == .refused {
      // Somebody else's by now, or past its time: what this command did does not count.
      verdict = .lost
      if !json { report(ErrorForm(error)) }
    }
    await counts.add(verdict)
    if json {
      try Terminal.write(jsonLine(WorkForm(item, ended, verdict)))
    } else if verdict != .ack {
      Terminal.note(
        "\(verdict.rawValue): \(item.message.envelopeID), attempt \(item.attempt), \(ended.sentence)")
    }
  }
}

/// So many at a time, in the order in which they asked.
private actor Slots {
  private var free: Int
  private var waiting: [CheckedContinuation<Void, Never>] = []

  init(_ count: Int) { free = count }

  func take() async {
    guard free == 0 else { return free -= 1 }
    await withCheckedContinuation { waiting.append($0) }
  }

  func give() {
    if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
  }
}

/// What became of a message.
enum WorkVerdict: String, Encodable {
  case ack
  case lost
  case nack
  case reject

  /// docs/protocol/errors.md: 420, attempts-exhausted.
  static let attemptsExhausted: UInt16 = 420
}

actor WorkCounts {
  private var counts: [WorkVerdict: Int] = [:]
  func add(_ verdict: WorkVerdict) { counts[verdict, default: 0] += 1 }

  var sentence: String {
    let done = counts[.ack] ?? 0
    let others = [WorkVerdict.nack, .reject, .lost].compactMap { verdict in
      counts[verdict].map { ", \($0) \(verdict.rawValue)" }
    }
    return "\(done) done" + others.joined()
  }
}

struct WorkForm: Encodable {
  let envelopeID: String
  let messageID: String
  let from: String
  let type: String
  let attempt: UInt32
  let redelivered: Bool
  /// Decimal digits: a number of JSON does not hold all of it everywhere.
  let token: String
  let outcome: WorkVerdict
  let exit: Int32?
  let signal: Int32?

  init(_ item: WorkItem, _ ended: CommandEnd, _ outcome: WorkVerdict) {
    (envelopeID, messageID) = (item.message.envelopeID, item.message.messageID)
    (from, type, attempt) = (item.message.from, item.message.type, item.attempt)
    redelivered = item.isRedelivered
    (token, self.outcome) = (String(item.token), outcome)
    (exit, signal) = (ended.exitCode, ended.signal)
  }
}

/// SIGTERM and SIGINT: the first asks to stop, the second ends the process.
final class StopSignals {
  private let sources: [any DispatchSourceSignal]

  init(_ onFirst: @escaping @Sendable () -> Void) {
    let queue = DispatchQueue(label: "engram.signals")
    let isStopping = Latch()
    sources = [SIGTERM, SIGINT].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler {
        if isStopping.set() { onFirst() } else { _exit(128 + number) }
      }
      source.resume()
      return source
    }
  }

  func cancel() { for source in sources { source.cancel() } }
}
