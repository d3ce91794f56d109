import EngramCore
import EngramWire
import Foundation
import NIOCore
import NIOPosix

/// Many agents, each with its own device and connection, that all do something: in every round each one sends
/// a heartbeat, which is a message to the next agent, takes the one that comes to it, and settles it with its
/// receipt, which goes back to whose heartbeat it was.
struct AgentsRun {
  let options: BenchOptions
  let loop: any EventLoop

  /// Every agent says something this often.
  private static let roundSeconds = 5.0
  private static let openingMax = 16
  private static let prefetch = 16

  func run(count: Int) async throws -> Figures {
    let node = try await Organisation(
      "acme.example", binary: options.nodeBinary, directory: "\(options.directory)/acme.example",
      environment: [
        "ENGRAM_LIMITS_SIGN_INS_PER_SECOND": "10000",
        "ENGRAM_LIMITS_WEBSOCKET_CONNECTIONS_MAX": "\(count + 1_000)",
      ])
    do {
      let figures = try await run(count: count, on: node)
      try await node.stop(keep: options.keep)
      return figures
    } catch {
      try? await node.stop(keep: true)
      throw error
    }
  }

  private func run(count: Int, on node: Organisation) async throws -> Figures {
    let agents = try (0..<count).map { try Device("agent\($0)@acme.example") }
    let sessions = try await register(agents, node)
    let rounds = 1 + Int((options.duration / Self.roundSeconds).rounded(.up))
    let interval = UInt64(Self.roundSeconds * 1e9) / UInt64(count)
    let (frames, books) = try issue(agents, rounds: rounds)
    let before = MachineSample(pids: [node.pid])

    var plan = WorkTraffic.Plan()
    (plan.messages, plan.books) = (rounds * count, books)
    let began = monotonicNs()
    plan.due = (began + 3_600_000_000_000, interval)
    let work = try await WorkLoop(plan, on: loop)
    let links = try await connect(agents, sessions, node, work)
    let connectSeconds = Double(monotonicNs() - began) / 1e9
    try await Task.sleep(for: .seconds(options.idleSettle))
    let connected = MachineSample(pids: [node.pid])

    // The first round warms up.
    let start = monotonicNs() + 100_000_000
    try await work.on { $0.setDue(startNs: start, intervalNs: interval) }
    async let paced = pace(rounds * count, startNs: start, intervalNs: interval) { number in
      links[number % count].post(binary: frames[number])
    }
    try await sleep(untilNs: start + UInt64(count) * interval)
    let first = MachineSample(pids: [node.pid])
    let messages = await paced
    let last = MachineSample(pids: [node.pid])
    try await work.wait("everything is processed") {
      $0.counters.processed == messages && $0.counters.settled == messages
    }
    try await work.check(0..<messages, senders: agents, home: node)
    try await checkPresence(sessions[0], node, count)
    var figures = costFigures(first, last, names: ["node"], messages: messages - count)
    figures.merge(latencyFigures(try await work.on { $0.deliveryMicros(count..<messages) })) { $1 }
    figures["sent_per_s"] = Double(messages - count) / (figures["seconds"] ?? .nan)
    figures["agents"] = Double(count)
    figures["agents_connected_per_s"] = Double(count) / connectSeconds
    if let empty = before.nodes.first, let idle = connected.nodes.first, let active = last.nodes.first {
      figures["rss_idle_kib"] = Double(idle.rssBytes - empty.rssBytes) / 1_024 / Double(count)
      figures["rss_active_kib"] = Double(active.rssBytes - empty.rssBytes) / 1_024 / Double(count)
    }
    await withTaskGroup(of: Void.self) { tasks in
      for link in links { tasks.addTask { await link.close() } }
    }
    return figures
  }

  // MARK: - Agents

  private func register(_ agents: [Device], _ node: Organisation) async throws -> [String] {
    try await inParallel(agents.count) { number in
      try await node.register(agents[number])
      return try await node.openSession(agents[number])
    }
  }

  /// Number = round · count + sender; it goes to the next agent.
  private func issue(_ agents: [Device], rounds: Int) throws -> (frames: [ByteBuffer], books: [ReceiptBook]) {
    let count = agents.count
    var terms = Reissue.Terms()
    (terms.type, terms.bodyBytes) = (.heartbeat, 256)
    let issues = try agents.indices.map { number in
      try Reissue(terms, from: agents[number], to: [agents[(number + 1) % count]])
    }
    let issued = IssuedFrames(issues, count: rounds * count, perFrame: 1)
    let books = agents.indices.map { number in
      let sender = (number + count - 1) % count
      let receipts = (0..<rounds).map { round in
        agents[number].processed(
          issued.ids[round * count + sender], message: MessageIndex.messageID(round * count + sender),
          from: agents[sender])
      }
      return ReceiptBook(first: sender, stride: count, receipts, key: agents[number].key)
    }
    return (issued.frames, books)
  }

  private func connect(
    _ agents: [Device], _ sessions: [String], _ node: Organisation, _ work: WorkLoop
  ) async throws -> [WebSocketConnection] {
    let links = try await inParallel(agents.count) { number in
      try await work.openBoth(number, node, agents[number], sessions[number])
    }
    try await work.on { traffic in
      for (number, link) in links.enumerated() {
        traffic.add(sender: link, takesReceipts: true)
        traffic.add(consumer: link, book: number, prefetch: Self.prefetch)
      }
    }
    return links
  }

  /// Every agent is there, as its heartbeats said.
  private func checkPresence(_ session: String, _ node: Organisation, _ count: Int) async throws {
    struct Page: Decodable {
      struct Agent: Decodable { var address: String }
      var agents: [Agent]
      var more: Bool
    }
    var found: Set<String> = []
    var after = ""
    while true {
      let query = "max=1000" + (after.isEmpty ? "" : "&after=\(after)")
      let body = try await node.request("GET", "agents/active?\(query)", session)
      let page = try JSONDecoder().decode(Page.self, from: Data(body))
      found.formUnion(page.agents.map(\.address))
      guard page.more, let last = page.agents.last?.address else { break }
      after = last
    }
    guard found.count == count else { throw BenchError("\(found.count) of \(count) agents are active") }
  }

  private func inParallel<T: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (Int) async throws -> T
  ) async throws -> [T] {
    try await withThrowingTaskGroup(of: (Int, T).self) { tasks in
      var results = [T?](repeating: nil, count: count)
      for number in 0..<count {
        if number >= Self.openingMax, let (done, result) = try await tasks.next() { results[done] = result }
        tasks.addTask { (number, try await body(number)) }
      }
      for try await (done, result) in tasks { results[done] = result }
      return results.compactMap { $0 }
    }
  }
}
