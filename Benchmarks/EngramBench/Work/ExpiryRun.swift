import EngramCore
import EngramWire
import NIOCore

/// What a hundred thousand messages that run out in the same millisecond do to others: live traffic between
/// two other clients of the node at a constant rate, its latency before, during and after.
struct ExpiryRun {
  /// Fresh: its devices are the sender and the recipient of what expires.
  let stage: Stage
  let options: BenchOptions
  let loop: any EventLoop

  private static let perFrame = 32
  private static let window = 2_048
  private static let metric = "engram_expired_total"
  /// Messages per second that the fill reaches at least, and seconds to spare after it.
  private static let fillPerSecond = 6_000.0
  private static let spareSeconds = 4.0
  /// Live traffic goes on at most so long.
  private static let liveSecondsMax = 120.0

  func run(count: Int, rate: Double) async throws -> Figures {
    let side = options.duration + options.warmup
    let (live, session, start, interval) = try await prepareLive(rate)
    let fillSeconds = Double(count) / Self.fillPerSecond + Self.spareSeconds
    var terms = Reissue.Terms()
    terms.bodyBytes = options.bodyBytes
    terms.ttlMs = UInt64((fillSeconds + side) * 1_000)
    // Sealed now, so that the end is known; issued and sent while the clock runs.
    let issue = try Reissue(terms, from: stage.sender, to: [stage.recipient])
    let endNs = monotonicNs() + terms.ttlMs * 1_000_000
    try await fill(issue, count)
    let before = endNs - UInt64(side * 1e9)
    guard monotonicNs() < before else { throw BenchError("the fill took longer than \(fillSeconds) s") }
    guard try await stage.home.metric(Self.metric) == 0 else { throw BenchError("messages expired early") }

    try await sleep(untilNs: before)
    let begin = monotonicNs() + 50_000_000
    try await live.on { $0.setDue(startNs: begin, intervalNs: interval) }
    let stop = StopSign()
    async let paced = pace(start.count, startNs: begin, intervalNs: interval, stop: stop) { number in
      session.post(binary: start[number])
    }
    try await sleep(untilNs: endNs)
    let first = MachineSample(pids: stage.pids)
    let (doneNs, last) = try await waitForExpiry(count)
    try await sleep(untilNs: doneNs + UInt64(options.duration * 1e9))
    stop.set()
    let sent = await paced
    try await live.wait("the live traffic is processed") { $0.counters.settled == sent }
    try await checkEnd(count)
    let judge = try await live.on { traffic in
      let number = { (ns: UInt64) in Int((ns - min(ns, begin)) / interval) }
      let (a, b) = (min(number(endNs), sent), min(number(doneNs), sent))
      return (
        traffic.incomplete(0..<sent), traffic.deliveryMicros(Int(Double(a) * 0.2)..<a),
        traffic.deliveryMicros(a..<b), traffic.deliveryMicros(b..<sent)
      )
    }
    guard judge.0 == 0 else { throw BenchError("\(judge.0) live messages were lost") }
    return figures(first, last, count, judge)
  }

  private func figures(
    _ first: MachineSample, _ last: MachineSample, _ count: Int,
    _ live: (Int, before: [UInt32], during: [UInt32], after: [UInt32])
  ) -> Figures {
    var figures = costFigures(first, last, names: stage.names, messages: count)
    figures["expired_per_s"] = Double(count) / (figures["seconds"] ?? .nan)
    figures["expiry_seconds"] = figures["seconds"]
    figures["expiry_us_per_msg"] = figures.removeValue(forKey: "cpu_nodes_us_per_msg")
    for (name, micros) in [("before", live.before), ("during", live.during), ("after", live.after)] {
      let part = latencyFigures(micros)
      for figure in ["p50_ms", "p99_ms", "max_ms"] { figures["\(name)_\(figure)"] = part[figure] }
    }
    return figures
  }

  // MARK: - Steps

  /// Two more clients; the frames that they will send, made but not sent.
  private func prepareLive(_ rate: Double) async throws -> (
    WorkLoop, WebSocketConnection, [ByteBuffer], UInt64
  ) {
    let (sender, recipient) = (try Device("carol@acme.example"), try Device("dave@acme.example"))
    for device in [sender, recipient] { try await stage.home.register(device) }
    var terms = Reissue.Terms()
    terms.bodyBytes = options.bodyBytes
    let count = Int(rate * Self.liveSecondsMax)
    let issued = IssuedFrames([try Reissue(terms, from: sender, to: [recipient])], count: count, perFrame: 1)
    var plan = WorkTraffic.Plan()
    plan.messages = count
    plan.due = (monotonicNs(), 1)
    plan.books = [issued.book(of: recipient, from: sender, numbers: Array(issued.numbers))]
    let live = try await WorkLoop(plan, on: loop)
    let link = try await live.openSender(0, stage.home, sender, try await stage.home.openSession(sender))
    let session = try await stage.home.openSession(recipient)
    _ = try await live.openConsumer(0, stage.home, recipient, session, prefetch: 256)
    return (live, link, issued.frames, UInt64(1e9 / rate))
  }

  private func fill(_ issue: Reissue, _ count: Int) async throws {
    var plan = WorkTraffic.Plan()
    plan.frames = IssuedFrames([issue], count: count, perFrame: Self.perFrame).frames
    (plan.messages, plan.perFrame, plan.window) = (count, Self.perFrame, Self.window)
    let work = try await WorkLoop(plan, on: loop)
    let link = try await work.openSender(
      0, stage.home, stage.sender, stage.senderSession, takesReceipts: false)
    try await work.on { $0.send(through: .max) }
    try await work.wait("\(count) messages are accepted", seconds: 300) { $0.counters.accepted == count }
    await link.close()
  }

  private func waitForExpiry(_ count: Int) async throws -> (UInt64, MachineSample) {
    let deadline = monotonicNs() + 90_000_000_000
    while try await Int(stage.home.metric(Self.metric)) < count {
      guard monotonicNs() < deadline else { throw BenchError("not everything expired within 90 s") }
      try await Task.sleep(for: .milliseconds(20))
    }
    return (monotonicNs(), MachineSample(pids: stage.pids))
  }

  private func checkEnd(_ count: Int) async throws {
    let session = try await stage.home.openSession(stage.recipient)
    let queue = try await stage.home.queue(of: stage.recipient, session)
    guard queue.waiting == 0, try await Int(stage.home.metric(Self.metric)) == count else {
      throw BenchError("\(queue.waiting) expired messages are still there")
    }
  }
}
