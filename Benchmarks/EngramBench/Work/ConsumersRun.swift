import EngramCore
import EngramWire
import NIOCore

/// Messages of all five priorities, issued once for the runs with any number of consumers.
struct WorkPool: Sendable {
  let sender: Device
  let recipient: Device
  let issued: IssuedFrames
  let book: ReceiptBook

  static let priorities: [UInt8] = [1, 2, 3, 4, 5]

  init(count: Int, bodyBytes: Int, batch: Int, from sender: Device, to recipient: Device) throws {
    let issues = try Self.priorities.map { priority in
      var terms = Reissue.Terms()
      (terms.priority, terms.bodyBytes) = (.init(rawValue: priority) ?? .normal, bodyBytes)
      return try Reissue(terms, from: sender, to: [recipient])
    }
    (self.sender, self.recipient) = (sender, recipient)
    issued = IssuedFrames(issues, count: count, perFrame: batch)
    book = issued.book(of: recipient, from: sender, numbers: Array(issued.numbers))
  }
}

/// The whole life of messages with several consumers of one mailbox: enqueue, lease, acknowledgement with the
/// device's receipt, that receipt at the sender.
///
/// First some thousand messages of mixed priorities wait together, so that the order in which consumers get
/// them can be judged exactly; then traffic runs as fast as the window allows.
struct ConsumersRun {
  let stage: Stage
  let pool: WorkPool
  let options: BenchOptions
  let loop: any EventLoop

  private static let waitingFrames = 64

  /// In the hands of one consumer; all together between 256 and 800.
  static func prefetch(of consumers: Int) -> Int { min(256, max(16, 640 / consumers)) }

  func run(consumers: Int, window: Int) async throws -> Figures {
    var plan = WorkTraffic.Plan()
    (plan.messages, plan.frames) = (pool.issued.ids.count, pool.issued.frames)
    (plan.perFrame, plan.window, plan.release) = (pool.issued.perFrame, window, .acceptance)
    plan.priorities = WorkPool.priorities
    plan.orderedEnd = Self.waitingFrames * plan.perFrame
    plan.books = [pool.book]
    let waiting = plan.orderedEnd
    let work = try await WorkLoop(plan, on: loop)
    var links: [WebSocketConnection] = []
    for number in 0..<options.connections {
      links.append(
        try await work.openSender(
          number, stage.home, stage.sender, stage.senderSession, takesReceipts: number == 0))
    }
    try await work.on { $0.send(through: Self.waitingFrames) }
    try await work.wait("messages wait for consumers") { $0.counters.accepted == waiting }
    let queue = try await stage.destination.queue(of: stage.recipient, stage.recipientSession)
    guard queue.waiting == waiting else { throw BenchError("\(queue.waiting) of \(waiting) messages wait") }
    for number in 0..<consumers {
      links.append(
        try await work.openConsumer(
          number, stage.destination, stage.recipient, stage.recipientSession,
          prefetch: Self.prefetch(of: consumers)))
    }
    try await work.wait("what waited is processed") { $0.counters.processed == waiting }
    try await work.on { $0.beginWindow(release: .processing) }
    let figures = try await measure(work, consumers)
    for link in links { await link.close() }
    return figures
  }

  private func measure(_ work: WorkLoop, _ consumers: Int) async throws -> Figures {
    let before = try await work.on { $0.consumerShares }
    try await work.on { $0.send(through: .max) }
    try await Task.sleep(for: .seconds(options.warmup))
    let pids = stage.pids
    let (first, firstCount, firstSent) = try await work.on {
      (MachineSample(pids: pids), $0.counters, $0.sent)
    }
    let deadline = monotonicNs() + UInt64(options.duration * 1e9)
    while monotonicNs() < deadline, try await !work.on({ $0.isSent }) {
      try await Task.sleep(for: .milliseconds(20))
    }
    let (last, lastCount) = try await work.on { (MachineSample(pids: pids), $0.counters) }
    let sent = try await work.on { $0.stop() }
    try await work.wait("everything is processed") {
      $0.counters.processed == sent && $0.counters.settled == sent
    }
    try await work.check(0..<sent, senders: [stage.sender], home: stage.home)

    let processed = lastCount.processed - firstCount.processed
    var figures = costFigures(first, last, names: stage.names, messages: processed)
    let seconds = figures["seconds"] ?? .nan
    figures["accepted_per_s"] = Double(lastCount.accepted - firstCount.accepted) / seconds
    figures["delivered_per_s"] = Double(lastCount.delivered - firstCount.delivered) / seconds
    figures["processed_per_s"] = Double(processed) / seconds
    let span = firstSent..<sent
    figures.merge(latencyFigures(try await work.on { $0.deliveryMicros(span) })) { $1 }
    let done = latencyFigures(try await work.on { $0.processingMicros(span) })
    (figures["processed_p50_ms"], figures["processed_p99_ms"]) = (done["p50_ms"], done["p99_ms"])
    for (name, step) in [("low", 0), ("critical", 4)] {
      let part = latencyFigures(try await work.on { $0.deliveryMicros(span) { $0 % 5 == step } })
      figures["p99_\(name)_ms"] = part["p99_ms"]
    }
    let shares = zip(try await work.on { $0.consumerShares }, before).map { Double($0 - $1) }
    figures["least_share"] = (shares.min() ?? 0) / max(1, shares.reduce(0, +) / Double(shares.count))
    return figures
  }
}
