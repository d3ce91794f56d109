import EngramCore
import EngramWire
import Foundation
import NIOCore

/// Whether a message costs the same however many wait before it: fills one mailbox to a depth, adds some
/// thousand, takes as many from the front, and has the node start again, killed and stopped.
struct DepthRun {
  let stage: Stage
  let options: BenchOptions
  let loop: any EventLoop

  private static let perFrame = 32
  private static let window = 2_048
  private static let prefetch = 256

  /// Frames added and taken at each depth: 10,000 messages, or half of the depth.
  static func chunk(at depth: Int) -> Int { max(1, min(10_000, depth / 2) / perFrame) }
  static func messages(at depth: Int) -> Int { chunk(at: depth) * perFrame }
  static func frames(of depth: Int) -> Int { (depth + perFrame - 1) / perFrame }

  /// Enough for `depths`, ascending.
  static func issue(for depths: [Int], bodyBytes: Int, from sender: Device, to recipient: Device) throws
    -> IssuedFrames
  {
    var terms = Reissue.Terms()
    terms.bodyBytes = bodyBytes
    let frames = frames(of: depths.max() ?? 0) + depths.reduce(0) { $0 + chunk(at: $1) }
    return IssuedFrames(
      [try Reissue(terms, from: sender, to: [recipient])], count: frames * perFrame, perFrame: perFrame)
  }

  /// Figures for each depth.
  func run(depths: [Int], _ issued: IssuedFrames) async throws -> [Figures] {
    var (sent, taken) = (0, 0)
    var all: [Figures] = []
    for depth in depths {
      let chunk = Self.chunk(at: depth)
      var figures = try await enqueue(issued, sent..<(taken + Self.frames(of: depth)), "fill")
      sent = taken + Self.frames(of: depth)
      figures.merge(try await enqueue(issued, sent..<(sent + chunk), "enqueue")) { $1 }
      sent += chunk
      figures.merge(try await dequeue(issued, taken..<(taken + chunk))) { $1 }
      taken += chunk
      figures["depth"] = Double((sent - taken) * Self.perFrame)
      for (name, signal) in [("kill", SIGKILL), ("stop", SIGTERM)] {
        figures["ready_after_\(name)_ms"] = try await stage.home.restart(signal)
        try await checkDepth((sent - taken) * Self.perFrame)
      }
      let rss = ProcessSample(pid: stage.home.pid)?.rssBytes ?? 0
      figures["rss_restarted_mib"] = Double(rss) / 1_048_576
      figures["disk_mib"] = Double(stage.home.diskBytes) / 1_048_576
      all.append(figures)
    }
    return all
  }

  private func checkDepth(_ depth: Int) async throws {
    let session = try await stage.home.openSession(stage.recipient)
    let queue = try await stage.home.queue(of: stage.recipient, session)
    guard queue.waiting == depth, queue.leased == 0 else {
      throw BenchError("\(queue.waiting) messages wait and \(queue.leased) are leased instead of \(depth)")
    }
  }

  // MARK: - Steps

  private func enqueue(_ issued: IssuedFrames, _ frames: Range<Int>, _ name: String) async throws -> Figures {
    guard !frames.isEmpty else { return [:] }
    var plan = WorkTraffic.Plan()
    plan.frames = Array(issued.frames[frames])
    (plan.messages, plan.perFrame, plan.window) = (issued.ids.count, Self.perFrame, Self.window)
    let work = try await WorkLoop(plan, on: loop)
    let session = try await stage.home.openSession(stage.sender)
    let link = try await work.openSender(0, stage.home, stage.sender, session, takesReceipts: false)
    let count = frames.count * Self.perFrame
    let first = MachineSample(pids: stage.pids)
    try await work.on { $0.send(through: .max) }
    try await work.wait("\(count) messages are accepted", seconds: 600) { $0.counters.accepted == count }
    let last = MachineSample(pids: stage.pids)
    await link.close()
    return costs(first, last, count, name)
  }

  private func dequeue(_ issued: IssuedFrames, _ frames: Range<Int>) async throws -> Figures {
    let numbers = (frames.lowerBound * Self.perFrame)..<(frames.upperBound * Self.perFrame)
    var plan = WorkTraffic.Plan()
    (plan.messages, plan.orderedEnd) = (issued.ids.count, issued.ids.count)
    plan.books = [issued.book(of: stage.recipient, from: stage.sender, numbers: Array(numbers))]
    let work = try await WorkLoop(plan, on: loop)
    let session = try await stage.home.openSession(stage.recipient)
    let first = MachineSample(pids: stage.pids)
    let link = try await work.openConsumer(
      0, stage.home, stage.recipient, session, prefetch: Self.prefetch)
    try await work.wait("\(numbers.count) messages are settled", seconds: 600) {
      $0.counters.settled == numbers.count
    }
    let last = MachineSample(pids: stage.pids)
    try await work.check(numbers, senders: [stage.sender], home: stage.home)
    await link.close()
    var figures = costs(first, last, numbers.count, "dequeue")
    if let arrival = try await work.on({ $0.firstArrivalNs }) {
      figures["first_ms"] = Double(arrival - first.timeNs) / 1e6
    }
    return figures
  }

  private func costs(_ first: MachineSample, _ last: MachineSample, _ count: Int, _ name: String) -> Figures {
    let cost = costFigures(first, last, names: stage.names, messages: count)
    let seconds = cost["seconds"] ?? .nan
    return [
      "\(name)_us_per_msg": cost["cpu_nodes_us_per_msg"] ?? .nan,
      "\(name)_ms_per_1000": seconds / Double(count) * 1e6,
      "\(name)_per_s": Double(count) / seconds,
      "foreign_cores": cost["foreign_cores"] ?? .nan, "load_1min": cost["load_1min"] ?? .nan,
      "rss_node_mib": cost["rss_node_mib"] ?? .nan,
    ]
  }
}
