import EngramWire
import Foundation
import NIOCore
import NIOPosix

/// Runs `Traffic` on a stage and turns it into figures.
struct Drive {
  let stage: Stage
  let pool: Pool
  let options: BenchOptions
  let loop: any EventLoop

  /// Traffic with its connections; the connections live as long as this.
  private struct Running {
    let box: NIOLoopBoundBox<Traffic?>
    let senders: [WebSocketConnection]
    let recipient: WebSocketConnection

    func on<T: Sendable>(_ body: @escaping @Sendable (Traffic) -> T) async throws -> T {
      try await box.eventLoop.submit {
        guard let traffic = box.value else { throw BenchError("traffic has not begun") }
        return body(traffic)
      }.get()
    }
  }

  // MARK: - As fast as it goes

  /// Sends through a window for the configured time, or until the pool is used up.
  func closedLoop(
    batch: Int, window: Int, release: Traffic.Release, acknowledging: Bool
  ) async throws -> Figures {
    var plan = Traffic.Plan()
    plan.frames = pool.sendFrames(pool.envelopes.indices, batch: batch)
    plan.messagesPerFrame = batch
    plan.messages = pool.envelopes.count
    plan.window = window
    plan.release = release
    plan.receipts = acknowledging ? pool.receipts : []
    plan.recipientKey = pool.recipient.key
    let running = try await begin(plan, connections: options.connections)
    try await running.on { $0.start() }
    try await Task.sleep(for: .seconds(options.warmup))

    let (first, firstCount) = try await mark(running)
    try await sleepWhileBusy(running)
    let (last, lastCount) = try await mark(running)
    try await running.on { $0.stop() }
    let counters = Window(first: firstCount.counters, last: lastCount.counters)
    let span = lastCount.latencies[firstCount.sent..<max(firstCount.sent, lastCount.sent)].filter { $0 > 0 }
    try await settle(running, expectDelivery: true)

    let messages =
      switch release {
      case .acceptance: counters.accepted
      case .delivery: counters.delivered
      case .processing: counters.processed
      }
    var figures = costFigures(first, last, names: stage.names, messages: messages)
    figures.merge(latencyFigures(Array(span))) { $1 }
    figures.merge(counters.rates(seconds: figures["seconds"] ?? .nan)) { $1 }
    return figures
  }

  private struct Snapshot: Sendable {
    let counters: Counters
    let latencies: [UInt32]
    /// Messages handed to the connections so far.
    let sent: Int
  }

  private func mark(_ running: Running) async throws -> (MachineSample, Snapshot) {
    let pids = stage.pids
    return try await running.on { traffic in
      (
        MachineSample(pids: pids),
        Snapshot(counters: traffic.counters, latencies: traffic.latencies, sent: traffic.sent)
      )
    }
  }

  /// The configured time, or less when the pool runs dry: an idle node would spoil the figures.
  private func sleepWhileBusy(_ running: Running) async throws {
    let deadline = monotonicNs() + UInt64(options.duration * 1e9)
    while monotonicNs() < deadline {
      try await Task.sleep(for: .milliseconds(20))
      if try await running.on({ $0.isExhausted }) { return }
    }
  }

  // MARK: - At a given rate

  /// Sends single messages at a constant rate whatever the answers do, and waits for all of them.
  func openLoop(rate: Double, range: Range<Int>) async throws -> Figures {
    let warm = Int(Double(range.count) * options.warmup / (options.warmup + options.duration))
    let interval = UInt64(1e9 / rate)
    let start = monotonicNs() + 100_000_000
    var plan = Traffic.Plan()
    plan.firstIndex = range.lowerBound
    plan.messages = range.count
    plan.schedule = .open(startNs: start, intervalNs: interval)
    plan.receipts = options.acknowledging ? pool.receipts : []
    plan.recipientKey = pool.recipient.key
    let running = try await begin(plan, connections: 1)
    try await running.on { $0.start() }

    let frames = pool.sendFrames(range, batch: 1)
    let link = running.senders[0]
    let pacer = Thread {
      for (position, frame) in frames.enumerated() {
        let due = start + UInt64(position) * interval
        if due > monotonicNs() { sleepUntil(ns: due) }
        link.post(binary: frame)
      }
    }
    pacer.start()
    try await sleep(untilNs: start + UInt64(warm) * interval)
    let first = MachineSample(pids: stage.pids)
    try await sleep(untilNs: start + UInt64(range.count) * interval)
    let last = MachineSample(pids: stage.pids)
    let seconds = Double(last.timeNs - first.timeNs) / 1e9
    try await settle(running, expectDelivery: true)

    let latencies = try await running.on { $0.latencies }
    guard !latencies.contains(0) else { throw BenchError("messages were accepted and not delivered") }
    var figures = costFigures(first, last, names: stage.names, messages: range.count - warm)
    figures.merge(latencyFigures(Array(latencies[warm...]))) { $1 }
    figures["sent_per_s"] = Double(range.count - warm) / seconds
    return figures
  }

  // MARK: - Parts

  private func begin(_ plan: Traffic.Plan, connections: Int) async throws -> Running {
    let box = NIOLoopBoundBox.makeEmptyBox(valueType: Traffic.self, eventLoop: loop)
    var senders: [WebSocketConnection] = []
    for _ in 0..<connections {
      senders.append(try await stage.senderLink(on: loop) { box.value?.senderReceived($0) })
    }
    let recipient = try await stage.recipientLink(on: loop) { box.value?.recipientReceived($0) }
    try await loop.submit { [senders] in box.value = Traffic(plan, senders: senders, recipient: recipient) }
      .get()
    return Running(box: box, senders: senders, recipient: recipient)
  }

  /// Waits until everything that was accepted is delivered, checks that nothing went wrong and that a sample
  /// of what came is genuine, and closes the connections.
  private func settle(_ running: Running, expectDelivery: Bool) async throws {
    try await waitUntil("all messages are answered and delivered") {
      try await running.on { $0.isSettled }
    }
    let counters = try await running.on { $0.counters }
    guard counters.refused == 0, counters.malformedFrames == 0 else {
      throw BenchError(
        "\(counters.refused) messages refused, last with code \(counters.lastCode); "
          + "\(counters.malformedFrames) frames malformed")
    }
    let (outcomes, items) = try await running.on { ($0.lastOutcomes, $0.lastItems) }
    try SampleCheck(stage: stage, pool: pool).check(outcomes: outcomes, items: items)
    for link in running.senders + [running.recipient] { await link.close() }
  }
}

/// Counts between two moments.
private struct Window {
  let first: Counters
  let last: Counters
  var accepted: Int { last.accepted - first.accepted }
  var delivered: Int { last.delivered - first.delivered }
  var processed: Int { last.processed - first.processed }

  func rates(seconds: Double) -> Figures {
    [
      "accepted_per_s": Double(accepted) / seconds, "delivered_per_s": Double(delivered) / seconds,
      "admitted_per_s": Double(last.admitted - first.admitted) / seconds,
      "processed_per_s": Double(processed) / seconds,
      "acknowledged_per_s": Double(last.acknowledged - first.acknowledged) / seconds,
    ]
  }
}
