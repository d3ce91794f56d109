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
      The command gets the body on its standard input and the rest in its environment: ENGRAM_FROM,
      ENGRAM_TYPE, ENGRAM_PRIORITY, ENGRAM_THREAD, ENGRAM_ENVELOPE, ENGRAM_MESSAGE, ENGRAM_CONTENT_TYPE,
      ENGRAM_ATTEMPT (1 the first time), ENGRAM_TOKEN (grows with every lease: a fencing token) and
      ENGRAM_HOME, so that `engram reply "$ENGRAM_ENVELOPE"` answers.

      How it ends decides:
         0  done: the sender gets this device's signed receipt
        65  never: the message becomes a dead letter, which an operator can look at
        75  not now: another attempt after a rest, which grows with each failure
        any other code, or a signal: the same as 75

      Several `engram work` of one agent, on one home or on several devices (`engram queue mode one`), share
      what waits. One that is killed frees what it had, at once; its commands may go on, and whatever they
      write elsewhere should carry ENGRAM_TOKEN to be told apart. After 20 failures it is a dead letter.

      SIGTERM and SIGINT end it: nothing more is begun, what runs may finish within --grace, the rest is
      stopped and given back. A second signal ends it at once. With --json standard output has one object per
      message, and what commands print goes to standard error.

      Examples:
        engram work -- ./handle-task
        engram work --prefetch 8 --visibility 60s -- sh -c 'wc -c | engram reply "$ENGRAM_ENVELOPE" --file -'
      """)

  @Option(help: ArgumentHelp("Messages in hand, and commands at work, at the same time.", valueName: "count"))
  var prefetch = 1

  @Option(
    help: ArgumentHelp(
      "How long a message stays here while nothing is heard of this command, 1s to 12h (default: until the "
        + "connection ends).", valueName: "time"))
  var visibility: TimeSpan?

  @Option(help: ArgumentHelp("End after so many messages.", valueName: "count"))
  var max: Int?

  @Option(
    help: ArgumentHelp(
      "The rest after a failure, instead of one that grows.", valueName: "time"))
  var retryAfter: TimeSpan?

  @Option(help: ArgumentHelp("How long commands may go on after SIGTERM.", valueName: "time"))
  var grace = TimeSpan(seconds: 30)

  @Flag(help: "What is in hand when the connection breaks counts as a failed attempt.")
  var countDisconnects = false

  @OptionGroup var common: CommonOptions

  @Argument(
    parsing: .postTerminator, help: ArgumentHelp("The command, after `--`.", valueName: "command"))
  var command: [String] = []

  func validate() throws {
    guard !command.isEmpty else {
      throw ValidationError("the command comes after --, as in: -- ./handle-task")
    }
    guard (1...1_000).contains(prefetch) else { throw ValidationError("--prefetch is between 1 and 1000") }
    guard max.map({ $0 > 0 }) ?? true else { throw ValidationError("--max is a number above zero") }
    guard visibility.map({ (1...43_200).contains($0.seconds) }) ?? true else {
      throw ValidationError("--visibility is between 1s and 12h")
    }
  }

  func run() async throws {
    let runner = CommandRunner(command, home: common.homePath, sparesOutput: common.json)
    let bench = WorkBench(runner: runner, retryAfterSeconds: retryAfter?.seconds, json: common.json)
    let graceSeconds = grace.seconds
    try await common.withClient { client in
      let work = try client.consume(
        prefetch: prefetch, visibilitySeconds: visibility.map { Int($0.seconds) },
        countsDisconnects: countDisconnects)
      let signals = StopSignals {
        Task {
          await work.stop()
          try? await Task.sleep(for: .seconds(graceSeconds))
          runner.stopAll()
        }
      }
      defer { signals.cancel() }
      do {
        try await bench.run(work, max: max)
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
  let retryAfterSeconds: UInt64?
  let json: Bool
  let counts = WorkCounts()

  /// Until the stream ends, `max` messages were taken, or something is wrong here.
  func run(_ work: WorkStream, max: Int?) async throws {
    do {
      try await withThrowingDiscardingTaskGroup { group in
        var taken = 0
        for try await item in work {
          taken += 1
          if taken == max { await work.stop() }
          group.addTask {
            do { try await process(item) } catch {
              await work.stop()
              throw error
            }
          }
        }
      }
    } catch {
      runner.stopAll()
      throw error
    }
  }

  private func process(_ item: WorkItem) async throws {
    guard let ended = try await runner.run(item) else { return }
    var verdict = ended.verdict
    do {
      switch verdict {
      case .ack: try await item.ack()
      case .reject: try await item.reject()
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

/// What became of a message.
enum WorkVerdict: String, Encodable {
  case ack
  case lost
  case nack
  case reject
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
  /// Decimal digits: a number of JSON does not hold all of it everywhere.
  let token: String
  let outcome: WorkVerdict
  let exit: Int32?
  let signal: Int32?

  init(_ item: WorkItem, _ ended: CommandEnd, _ outcome: WorkVerdict) {
    (envelopeID, messageID) = (item.message.envelopeID, item.message.messageID)
    (from, type, attempt) = (item.message.from, item.message.type, item.attempt)
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
