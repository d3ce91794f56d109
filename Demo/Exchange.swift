import EngramClient
import Foundation

/// One direction: every file of the corpus as a message, received, compared and acknowledged, all receipts
/// awaited.
struct Exchange {
  let sender: EngramClient
  let recipient: EngramClient
  let corpus: Corpus

  /// Messages on their way at once: enough to keep both nodes busy, few enough that latency means something.
  private static let inFlightMax = 8
  private static let idleSecondsMax = 60
  /// accepted by the home node, admitted by the recipient's node, processed by the recipient's device.
  private static let receiptsPerMessage: Set = ["accepted", "admitted", "processed"]

  init(from sender: EngramClient, to recipient: EngramClient, _ corpus: Corpus) {
    (self.sender, self.recipient, self.corpus) = (sender, recipient, corpus)
  }

  func run() async throws -> ExchangeResult {
    let board = Board(total: corpus.files.count, direction: "\(sender.address) → \(recipient.address)")
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await receive(board) }
      group.addTask { try await send(board) }
      let watch = Task { try await giveUp(board) }
      defer { watch.cancel() }
      // The first failure cancels the other side, which may wait for what will never come.
      do { while try await group.next() != nil {} } catch {
        group.cancelAll()
        await board.abandon()
        throw error
      }
    }
    await board.finishLine()
    if await !board.isAbandoned { try await collectReceipts(board) }
    let result = await board.result
    await sender.close()
    await recipient.close()
    return result
  }

  /// Ends the exchange when nothing arrives for too long: a message that got lost is the finding, not a demo
  /// that hangs.
  private func giveUp(_ board: Board) async throws {
    while true {
      try await Task.sleep(for: .seconds(1))
      if await board.idleSeconds > Double(Self.idleSecondsMax) { return await board.abandon() }
    }
  }

  private func send(_ board: Board) async throws {
    for file in corpus.files {
      await board.awaitRoom(Self.inFlightMax)
      if await board.isAbandoned { return }
      guard let data = FileManager.default.contents(atPath: file.path) else {
        throw DemoFailure("\(file.path) cannot be read")
      }
      var options = SendOptions()
      options.compress = true
      let began = ContinuousClock.now
      let sent = try await sender.send(
        to: [recipient.address], body: Array(data), contentType: "application/octet-stream", options: options)
      guard case .accepted = sent.state else {
        throw DemoFailure("\(file.path) was not accepted: \(sent.state)")
      }
      await board.sent(sent.messageID, file, at: began)
    }
  }

  private func receive(_ board: Board) async throws {
    let messages = Task {
      try await receiveAll(board)
    }
    await board.onAbandon { messages.cancel() }
    do { try await messages.value } catch {
      guard await board.isAbandoned else { throw error }
    }
  }

  private func receiveAll(_ board: Board) async throws {
    for try await message in recipient.follow() {
      let now = ContinuousClock.now
      let file = await board.file(of: message.messageID)
      let original = file.flatMap { FileManager.default.contents(atPath: $0.path) }
      await board.received(message.messageID, isIdentical: original.map(Array.init) == message.body, at: now)
      try await recipient.acknowledge([message.envelopeID])
      if await board.isDone { return }
    }
  }

  /// Receipts come to the sender like messages do; the library verifies each before it keeps it.
  private func collectReceipts(_ board: Board) async throws {
    let deadline = ContinuousClock.now + .seconds(Self.idleSecondsMax)
    var missing = await board.messageIDs
    while !missing.isEmpty, ContinuousClock.now < deadline {
      _ = try await sender.receive(max: 100, waitSeconds: 1)
      for id in missing {
        let states = Set(try await sender.receipts(of: id).map(\.state))
        guard Self.receiptsPerMessage.isSubset(of: states) else { continue }
        await board.receipts(Self.receiptsPerMessage.count)
        missing.remove(id)
      }
    }
    await board.missingReceipts(missing.count)
  }
}

struct ExchangeResult: Sendable {
  let direction: String
  var sent = 0
  var identical = 0
  var bytes = 0
  var receiptsVerified = 0
  var problems: [String] = []
  var latencies: [Double] = []

  var isComplete: Bool { sent > 0 && identical == sent && problems.isEmpty }

  /// Seconds from before sealing until opened and stored by the recipient.
  func latency(_ quantile: Double) -> Double {
    let sorted = latencies.sorted()
    return sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(Double(sorted.count) * quantile))]
  }
}

/// What both sides of an exchange know, and the progress line.
private actor Board {
  private struct Entry {
    let file: Corpus.Item
    let began: ContinuousClock.Instant
  }
  private let total: Int
  private var entries: [String: Entry] = [:]
  private var arrived: Set<String> = []
  private var lastArrival = ContinuousClock.now
  private(set) var isAbandoned = false
  private var cancelReceiving: (@Sendable () -> Void)?
  private var waiting: [CheckedContinuation<Void, Never>] = []
  private var lookups: [String: [CheckedContinuation<Corpus.Item?, Never>]] = [:]
  private(set) var result: ExchangeResult
  private var lastLine = ContinuousClock.now

  init(total: Int, direction: String) {
    self.total = total
    result = ExchangeResult(direction: direction)
  }

  var isDone: Bool { arrived.count == total }
  var idleSeconds: Double { (ContinuousClock.now - lastArrival).seconds }
  var messageIDs: Set<String> { Set(entries.keys) }

  func awaitRoom(_ max: Int) async {
    while result.sent - arrived.count >= max, !isAbandoned {
      await withCheckedContinuation { waiting.append($0) }
    }
  }

  /// Wakes everybody who waits for what does not come.
  func abandon() {
    guard !isAbandoned, !isDone else { return }
    isAbandoned = true
    result.problems.append("\(total - arrived.count) of \(total) messages did not arrive")
    cancelReceiving?()
    for continuation in waiting { continuation.resume() }
    waiting = []
    for lookup in lookups.values.flatMap({ $0 }) { lookup.resume(returning: nil) }
    lookups = [:]
  }

  func onAbandon(_ cancel: @escaping @Sendable () -> Void) {
    if isAbandoned { cancel() } else { cancelReceiving = cancel }
  }

  func sent(_ id: String, _ file: Corpus.Item, at began: ContinuousClock.Instant) {
    entries[id] = Entry(file: file, began: began)
    result.sent += 1
    for lookup in lookups.removeValue(forKey: id) ?? [] { lookup.resume(returning: file) }
  }

  /// Which file a message holds; the message may arrive before `send` has returned its id.
  func file(of id: String) async -> Corpus.Item? {
    if let entry = entries[id] { return entry.file }
    if isAbandoned { return nil }
    return await withCheckedContinuation { lookups[id, default: []].append($0) }
  }

  func received(_ id: String, isIdentical: Bool, at now: ContinuousClock.Instant) {
    guard let entry = entries[id] else { return result.problems.append("an unexpected message came") }
    guard arrived.insert(id).inserted else {
      return result.problems.append("\(entry.file.path) came twice")
    }
    lastArrival = now
    result.latencies.append((now - entry.began).seconds)
    result.bytes += entry.file.size
    if isIdentical { result.identical += 1 } else { result.problems.append("\(entry.file.path) differs") }
    for continuation in waiting { continuation.resume() }
    waiting = []
    showProgress(now)
  }

  func receipts(_ count: Int) { result.receiptsVerified += count }
  func missingReceipts(_ count: Int) {
    if count > 0 { result.problems.append("\(count) messages lack a receipt") }
  }

  /// Redraws one line on a terminal; elsewhere says something every few seconds.
  private func showProgress(_ now: ContinuousClock.Instant) {
    let isTerminal = isatty(STDOUT_FILENO) == 1
    guard now - lastLine > (isTerminal ? .milliseconds(100) : .seconds(5)) else { return }
    lastLine = now
    let line = "\(result.direction)  \(arrived.count)/\(total)  \(byteText(result.bytes))"
    FileHandle.standardOutput.write(Data((isTerminal ? "\r\(line)\u{1B}[K" : line + "\n").utf8))
  }

  func finishLine() {
    guard isatty(STDOUT_FILENO) == 1 else { return }
    FileHandle.standardOutput.write(Data("\r\u{1B}[K".utf8))
  }
}
