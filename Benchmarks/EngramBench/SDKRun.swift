import EngramClient
import Foundation
import Synchronization

/// Two applications on the client library, each with its home on the disk: `sendBatch` on one side, `receive`
/// and `acknowledge` on the other, and the sender takes its receipts. What a message costs with everything
/// that an application gets: durable on the sender before it leaves, durable and judged on the recipient
/// before it is shown.
struct SDKRun {
  let options: BenchOptions
  let batch: Int
  let window: Int

  func run() async throws -> Figures {
    let home = try await Organisation(
      "acme.example", binary: options.nodeBinary, directory: "\(options.directory)/acme.example")
    let away = try await Organisation(
      "globex.example", binary: options.nodeBinary, directory: "\(options.directory)/globex.example")
    do {
      let figures = try await run(home, away)
      for organisation in [home, away] { try await organisation.stop(keep: options.keep) }
      return figures
    } catch {
      for organisation in [home, away] { try? await organisation.stop(keep: true) }
      throw error
    }
  }

  private func run(_ home: Organisation, _ away: Organisation) async throws -> Figures {
    try await home.pin(away)
    try await away.pin(home)
    try await home.waitForLink(to: away)
    try await away.waitForLink(to: home)
    let (alice, bob) = (try await client("alice", of: home), try await client("bob", of: away))
    let board = Board()
    let pids = [home.pid, away.pid]
    let figures = try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await send(from: alice, to: bob.address, board) }
      group.addTask { try await receive(bob, board) }
      group.addTask { while !board.isDone { _ = try await alice.receive(waitSeconds: 1) } }
      try await Task.sleep(for: .seconds(options.warmup))
      let (first, before) = (MachineSample(pids: pids), board.processed)
      try await Task.sleep(for: .seconds(options.duration))
      let (last, after) = (MachineSample(pids: pids), board.processed)
      board.stop()
      try await group.waitForAll()
      var figures = costFigures(first, last, names: ["origin", "destination"], messages: after - before)
      figures["processed_per_s"] = Double(after - before) / (figures["seconds"] ?? .nan)
      return figures
    }
    guard let newest = try await alice.outbox(limit: 1).first?.messageID,
      try await alice.waitUntilProcessed(newest, timeoutSeconds: 30)
    else { throw BenchError("the last message has no receipt of its recipient") }
    await alice.close()
    await bob.close()
    return figures
  }

  private func client(_ name: String, of organisation: Organisation) async throws -> EngramClient {
    try await EngramClient.register(
      home: "\(options.directory)/\(organisation.name)/home-\(name)", node: "127.0.0.1:\(organisation.port)",
      caFile: organisation.caFile, invite: try await organisation.invite(name), passphrase: nil)
  }

  private func send(from alice: EngramClient, to address: String, _ board: Board) async throws {
    let body = [UInt8](repeating: 7, count: options.bodyBytes)
    while !board.isStopped {
      guard board.sent - board.processed < window else {
        try await Task.sleep(for: .milliseconds(1))
        continue
      }
      let sent = try await alice.sendBatch(
        (0..<batch).map { _ in OutgoingMessage(to: [address], body: body) })
      guard sent.allSatisfy({ $0.state == .accepted }) else { throw BenchError("a message was not accepted") }
      board.add(sent: sent.count)
    }
    board.endSending()
  }

  private func receive(_ bob: EngramClient, _ board: Board) async throws {
    while !board.hasAllArrived {
      let messages = try await bob.receive(max: 256, waitSeconds: 1)
      guard messages.allSatisfy({ !$0.isAfterGap && $0.body.count == options.bodyBytes }) else {
        throw BenchError("a message is missing or damaged")
      }
      try await bob.acknowledge(messages.map(\.envelopeID))
      board.add(processed: messages.count)
    }
    board.finish()
  }
}

/// What both applications of a run know of each other.
private final class Board: Sendable {
  private struct State {
    var sent = 0
    var processed = 0
    var isStopped = false
    var hasSentAll = false
    var isDone = false
  }
  private let state = Mutex(State())

  var sent: Int { state.withLock { $0.sent } }
  var processed: Int { state.withLock { $0.processed } }
  var isStopped: Bool { state.withLock { $0.isStopped } }
  /// A batch counts once its call has returned, so equal numbers say nothing before the last one.
  var hasAllArrived: Bool { state.withLock { $0.hasSentAll && $0.processed == $0.sent } }
  var isDone: Bool { state.withLock { $0.isDone } }

  func add(sent count: Int) { state.withLock { $0.sent += count } }
  func add(processed count: Int) { state.withLock { $0.processed += count } }
  func endSending() { state.withLock { $0.hasSentAll = true } }
  func stop() { state.withLock { $0.isStopped = true } }
  func finish() { state.withLock { $0.isDone = true } }
}
