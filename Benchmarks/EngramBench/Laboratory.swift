import EngramCore
import Foundation
import NIOCore
import NIOPosix

/// Makes the runs of each scenario. Devices and sealed envelopes are kept from one scenario to the next.
final class Laboratory {
  let command: EngramBench
  let options: BenchOptions
  let group: MultiThreadedEventLoopGroup
  private var pools: [String: Pool] = [:]
  var workPool: WorkPool?

  init(command: EngramBench, options: BenchOptions, group: MultiThreadedEventLoopGroup) {
    (self.command, self.options, self.group) = (command, options, group)
  }

  /// `earlier` knows the peaks that latency runs take half of.
  func measure(_ scenario: Scenario, after earlier: [ScenarioResult]) async throws -> [ScenarioResult] {
    switch scenario {
    case .primitives: try await [primitives(scenario)]
    case .oneNode: try await [closedLoop(scenario, isFederated: false, acknowledging: false)]
    case .oneNodeAcknowledged: try await [closedLoop(scenario, isFederated: false, acknowledging: true)]
    case .twoNodes: try await [closedLoop(scenario, isFederated: true, acknowledging: false)]
    case .twoNodesAcknowledged: try await [closedLoop(scenario, isFederated: true, acknowledging: true)]
    case .oneNodePost: try await [posting(scenario)]
    case .endToEnd: try await [endToEnd(scenario)]
    case .sdk: try await [sdk(scenario)]
    case .latency: try await latency(after: earlier)
    case .idle: try await [idle(scenario)]
    case .consumers: try await consumers()
    case .notification: try await notification()
    case .agents: try await [agents(scenario)]
    case .depth: try await depths()
    case .expiry: try await [expiry(scenario)]
    case .topics: try await [topics(scenario)]
    }
  }

  // MARK: - Scenarios

  private func closedLoop(
    _ scenario: Scenario, isFederated: Bool, acknowledging: Bool
  ) async throws -> ScenarioResult {
    let pool = try pool(isFederated: isFederated, withReceipts: acknowledging)
    let window = isFederated || acknowledging ? command.federationWindow : command.window
    let parameters = "batch=\(options.batch) window=\(window) connections=\(options.connections)"
    let runs = try await repeated(scenario.rawValue) {
      try await onStage(pool) { stage in
        try await Drive(stage: stage, pool: pool, options: options, loop: group.next()).closedLoop(
          batch: options.batch, window: window,
          release: acknowledging ? .processing : isFederated ? .delivery : .acceptance,
          acknowledging: acknowledging)
      }
    }
    return ScenarioResult(scenario.rawValue, parameters, runs: runs)
  }

  private func posting(_ scenario: Scenario) async throws -> ScenarioResult {
    let pool = try pool(isFederated: false, withReceipts: false)
    let requests = max(1, command.window / options.batch / 8)
    let runs = try await repeated(scenario.rawValue) {
      try await onStage(pool) { stage in
        try await Posting(stage: stage, pool: pool, options: options).run(
          batch: options.batch, requestsAtATime: requests)
      }
    }
    return ScenarioResult(scenario.rawValue, "batch=\(options.batch) requests=\(requests)", runs: runs)
  }

  private func endToEnd(_ scenario: Scenario) async throws -> ScenarioResult {
    let pool = try pool(isFederated: true, withReceipts: false)
    let window = command.federationWindow / 4
    let runs = try await repeated(scenario.rawValue) {
      try await onStage(pool) { stage in
        try await EndToEnd(stage: stage, options: options, loop: group.next()).run(
          batch: options.batch, window: window)
      }
    }
    return ScenarioResult(scenario.rawValue, "batch≤\(options.batch) window=\(window)", runs: runs)
  }

  /// Batches as large as one transaction of the library takes.
  private func sdk(_ scenario: Scenario) async throws -> ScenarioResult {
    let (batch, window) = (200, command.federationWindow / 4)
    let runs = try await repeated(scenario.rawValue) {
      try await SDKRun(options: options, batch: batch, window: window).run()
    }
    return ScenarioResult(scenario.rawValue, "batch=\(batch) window=\(window)", runs: runs)
  }

  /// Both with one node and with two, at each rate.
  private func latency(after earlier: [ScenarioResult]) async throws -> [ScenarioResult] {
    var results: [ScenarioResult] = []
    for isFederated in [false, true] {
      let throughput = isFederated ? Scenario.twoNodes : .oneNode
      let peak = earlier.first { $0.scenario == throughput.rawValue }?.medians["delivered_per_s"]
      for rate in rates(peak: peak) {
        let name = "latency \(isFederated ? "two nodes" : "one node") at \(decimal(rate, 0))/s"
        let runs = try await openLoop(name, rate: rate, isFederated: isFederated)
        results.append(
          ScenarioResult(name, options.acknowledging ? "acknowledged" : "single frames", runs: runs))
      }
    }
    return results
  }

  private func rates(peak: Double?) -> [Double] {
    if !command.rate.isEmpty { return command.rate }
    return [100] + (peak.map { [max(100, ($0 / 200).rounded() * 100)] } ?? [])
  }

  private func openLoop(_ name: String, rate: Double, isFederated: Bool) async throws -> [Figures] {
    let pool = try pool(isFederated: isFederated, withReceipts: options.acknowledging)
    let count = Int(rate * (options.warmup + options.duration))
    guard count <= pool.envelopes.count else {
      throw BenchError("\(name) needs --pool \(count) or a shorter --duration")
    }
    return try await repeated(name) {
      try await onStage(pool) { stage in
        try await Drive(stage: stage, pool: pool, options: options, loop: group.next()).openLoop(
          rate: rate, range: 0..<count)
      }
    }
  }

  private func primitives(_ scenario: Scenario) async throws -> ScenarioResult {
    let runs = try await repeated(scenario.rawValue) { try Primitives(options: options).run() }
    return ScenarioResult(scenario.rawValue, "body=\(options.bodyBytes)", runs: runs)
  }

  private func idle(_ scenario: Scenario) async throws -> ScenarioResult {
    let count = command.idleConnections
    let runs = try await repeated(scenario.rawValue) {
      try await IdleConnections(options: options, group: group).run(count: count)
    }
    return ScenarioResult(scenario.rawValue, "connections=\(count)", runs: runs)
  }

  // MARK: - Parts

  func repeated(_ name: String, _ body: () async throws -> Figures) async throws -> [Figures] {
    var runs: [Figures] = []
    for number in 1...options.runs {
      let figures = try await body()
      progress("\(name), run \(number) of \(options.runs): \(summary(figures))")
      runs.append(figures)
    }
    return runs
  }

  private func onStage(_ pool: Pool, _ body: (Stage) async throws -> Figures) async throws -> Figures {
    try await onStage(pool.sender, pool.recipient, body)
  }

  func onStage<Result>(
    _ sender: Device, _ recipient: Device, _ body: (Stage) async throws -> Result
  ) async throws -> Result {
    let stage = try await Stage.set(sender, recipient, options: options)
    do {
      let result = try await body(stage)
      try await stage.clear(keep: options.keep)
      return result
    } catch {
      // The logs stay for whoever looks into the failure.
      try? await stage.clear(keep: true)
      throw error
    }
  }

  private func pool(isFederated: Bool, withReceipts: Bool) throws -> Pool {
    let name = isFederated ? "bob@globex.example" : "bob@acme.example"
    if let pool = pools[name], !withReceipts || !pool.receipts.isEmpty { return pool }
    progress("sealing \(options.poolCount) envelopes for \(name)")
    let pool = try Pool.seal(
      count: options.poolCount, bodyBytes: options.bodyBytes, from: try Device("alice@acme.example"),
      to: try Device(name), withReceipts: withReceipts)
    progress("sealed in \(decimal(pool.sealMicros, 1)) µs each, \(pool.envelopes.first?.count ?? 0) bytes")
    pools[name] = pool
    return pool
  }

  func summary(_ figures: Figures) -> String {
    let shown = [
      "accepted_per_s", "delivered_per_s", "processed_per_s", "p50_ms", "p99_ms", "cpu_nodes_us_per_msg",
      "rss_per_connection_kib", "rss_active_kib", "enqueue_us_per_msg", "dequeue_us_per_msg",
      "ready_after_kill_ms", "before_p99_ms", "during_p99_ms", "expiry_seconds", "published_per_s",
      "foreign_cores",
    ]
    return shown.compactMap { name in
      figures[name].map { "\(name)=\(decimal($0, name.hasSuffix("per_s") ? 0 : 2))" }
    }
    .joined(separator: " ")
  }

  func progress(_ text: String) { FileHandle.standardError.write(Data("\(text)\n".utf8)) }
}
