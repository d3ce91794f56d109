import EngramCore
import EngramWire
import Foundation
import NIOCore
import Synchronization

/// Publications for many: subscribers of one topic, half of them on the topic's node and half on another.
/// Before each publication the members are asked for, as a client does; then one envelope for each node
/// carries a wrap for every subscriber there. Each subscriber leases its copy and acknowledges it with its
/// receipt, and all receipts go back to the publisher.
struct FanOutRun {
  let options: BenchOptions
  let loop: any EventLoop

  private static let topic = "orders.new@acme.example"
  private static let pattern = "orders.%2A%40acme.example"
  private static let prefetch = 64
  /// Publications made beforehand; the run ends early when they are used up.
  private static let publicationsMax = 800
  /// Publications on their way at full load.
  private static let window = 8
  /// Who asks for the members at full load.
  private static let askers = 2

  private struct Cast: Sendable {
    let publisher: Device
    let session: String
    let subscribers: [Device]
    let sessions: [String]
    let nodes: [Organisation]
    /// Subscribers alternate between the nodes.
    func node(of subscriber: Int) -> Organisation { nodes[subscriber % 2] }
  }

  func run(subscribers: Int, rate: Double) async throws -> Figures {
    var nodes: [Organisation] = []
    for name in ["acme.example", "globex.example"] {
      nodes.append(
        try await Organisation(
          name, binary: options.nodeBinary, directory: "\(options.directory)/\(name)"))
    }
    do {
      let figures = try await run(subscribers, rate, nodes)
      for node in nodes { try await node.stop(keep: options.keep) }
      return figures
    } catch {
      for node in nodes { try? await node.stop(keep: true) }
      throw error
    }
  }

  private func run(_ subscribers: Int, _ rate: Double, _ nodes: [Organisation]) async throws -> Figures {
    let cast = try await gather(subscribers, nodes)
    let (issued, books) = try issue(cast)
    let paced = min(Int(rate * (options.warmup + options.duration)), Self.publicationsMax / 4)
    let interval = UInt64(1e9 / rate)
    let start = monotonicNs() + 3_000_000_000
    var plan = WorkTraffic.Plan()
    (plan.messages, plan.frames, plan.perFrame) = (issued.ids.count, issued.frames, 2)
    (plan.copies, plan.window, plan.books) = (subscribers / 2, Self.window * 2, books)
    plan.due = (start, interval)
    let work = try await WorkLoop(plan, on: loop)
    let publisher = try await work.openSender(0, nodes[0], cast.publisher, cast.session)
    var links = [publisher]
    for number in cast.subscribers.indices {
      links.append(
        try await work.openConsumer(
          number, cast.node(of: number), cast.subscribers[number], cast.sessions[number], book: number,
          prefetch: Self.prefetch))
    }
    guard monotonicNs() < start else { throw BenchError("subscribers took too long to connect") }
    let problems = Problems()
    _ = await pace(paced, startNs: start, intervalNs: interval) { number in
      Task {
        if await problems.ask(cast, subscribers) { publisher.post(binary: issued.frames[number]) }
      }
    }
    try await problems.judge()
    try await work.wait("every subscriber has every publication") {
      $0.counters.processed == paced * subscribers && $0.counters.settled == paced * subscribers
    }
    let warm = Int(rate * options.warmup)
    var figures = latencyFigures(try await work.on { $0.completionMicros(warm..<paced) })
    let all = latencyFigures(try await work.on { $0.deliveryMicros(0..<(paced * 2)) })
    (figures["delivery_p50_ms"], figures["delivery_p99_ms"]) = (all["p50_ms"], all["p99_ms"])
    figures.merge(try await fullLoad(work, cast, paced, problems)) { $1 }
    try await problems.judge()
    for link in links { await link.close() }
    return figures
  }

  private func fullLoad(
    _ work: WorkLoop, _ cast: Cast, _ done: Int, _ problems: Problems
  ) async throws -> Figures {
    let subscribers = cast.subscribers.count
    try await work.on {
      $0.skip(frames: done)
      $0.beginWindow(release: .delivery)
    }
    let stop = StopSign()
    let askers = (0..<Self.askers).map { _ in
      Task {
        while !stop.isSet, await problems.ask(cast, subscribers) {
          // Asked for shortly before it is needed, not long in advance.
          while !stop.isSet, (try? await work.on { $0.isSent }) == false {
            try? await Task.sleep(for: .milliseconds(1))
          }
          try? await work.on { $0.sendOneMore() }
        }
      }
    }
    try await Task.sleep(for: .seconds(options.warmup))
    let pids = cast.nodes.map(\.pid)
    let (first, before) = try await work.on { (MachineSample(pids: pids), $0.counters) }
    let deadline = monotonicNs() + UInt64(options.duration * 1e9)
    while monotonicNs() < deadline, try await work.on({ $0.sent < $0.plan.messages }) {
      try await Task.sleep(for: .milliseconds(20))
    }
    let (last, after) = try await work.on { (MachineSample(pids: pids), $0.counters) }
    stop.set()
    for asker in askers { await asker.value }
    let sent = try await work.on { $0.stop() }
    try await work.wait("every subscriber has every publication") {
      $0.counters.processed == sent / 2 * subscribers && $0.counters.settled == sent / 2 * subscribers
    }
    try await work.check(0..<sent, senders: [cast.publisher], home: cast.nodes[0])
    let deliveries = after.delivered - before.delivered
    var figures = costFigures(first, last, names: ["origin", "destination"], messages: deliveries)
    let seconds = figures["seconds"] ?? .nan
    figures["delivered_per_s"] = Double(deliveries) / seconds
    figures["published_per_s"] = Double(deliveries) / Double(subscribers) / seconds
    figures["processed_per_s"] = Double(after.processed - before.processed) / seconds
    return figures
  }

  // MARK: - Preparation

  private func gather(_ count: Int, _ nodes: [Organisation]) async throws -> Cast {
    try await nodes[0].pin(nodes[1])
    try await nodes[1].pin(nodes[0])
    try await nodes[0].waitForLink(to: nodes[1])
    try await nodes[1].waitForLink(to: nodes[0])
    let publisher = try Device("press@acme.example")
    try await nodes[0].register(publisher)
    let subscribers = try (0..<count).map { try Device("reader\($0)@\(nodes[$0 % 2].name)") }
    var sessions: [String] = []
    for (number, subscriber) in subscribers.enumerated() {
      try await nodes[number % 2].register(subscriber)
      let session = try await nodes[number % 2].openSession(subscriber)
      try await nodes[number % 2].request("PUT", "topics/\(Self.pattern)/subscription", session)
      sessions.append(session)
    }
    return Cast(
      publisher: publisher, session: try await nodes[0].openSession(publisher), subscribers: subscribers,
      sessions: sessions, nodes: nodes)
  }

  /// Publication p is messages 2p, for the topic's node, and 2p + 1.
  private func issue(_ cast: Cast) throws -> (IssuedFrames, [ReceiptBook]) {
    var terms = Reissue.Terms()
    (terms.type, terms.topic, terms.bodyBytes) = (.broadcast, "orders.new", options.bodyBytes)
    let issues = try [0, 1].map { side in
      let there = cast.subscribers.indices.filter { $0 % 2 == side }.map { cast.subscribers[$0] }
      return try Reissue(terms, from: cast.publisher, to: there)
    }
    let issued = IssuedFrames(issues, count: Self.publicationsMax * 2, perFrame: 2)
    let books = cast.subscribers.enumerated().map { number, subscriber in
      let numbers = Array(stride(from: number % 2, to: issued.ids.count, by: 2))
      return issued.book(of: subscriber, from: cast.publisher, numbers: numbers, stride: 2)
    }
    return (issued, books)
  }

  /// Asks for the members and remembers what was wrong with the answers.
  private final class Problems: Sendable {
    private let text = Mutex<String?>(nil)

    func judge() async throws {
      if let text = text.withLock({ $0 }) { throw BenchError(text) }
    }

    /// - Returns: false when the answer was wrong.
    func ask(_ cast: Cast, _ expected: Int) async -> Bool {
      struct Page: Decodable { var members: [String] }
      do {
        let path = "topics/\(FanOutRun.topic)/members?max=1000"
        let body = try await cast.nodes[0].request("GET", path, cast.session)
        let page = try JSONDecoder().decode(Page.self, from: Data(body))
        guard page.members.count == expected else {
          throw BenchError("\(page.members.count) of \(expected) members were named")
        }
        return true
      } catch {
        text.withLock { $0 = "\(error)" }
        return false
      }
    }
  }
}
