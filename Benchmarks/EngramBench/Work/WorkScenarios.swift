import NIOPosix

/// The life of messages in queues: consumers, depth, expiry, topics, many agents.
extension Laboratory {
  /// One result for each number of consumers.
  func consumers() async throws -> [ScenarioResult] {
    let counts = command.consumers.isEmpty ? [1, 10, 50] : command.consumers
    let pool = try workPool ?? makeWorkPool()
    workPool = pool
    var results: [ScenarioResult] = []
    for count in counts {
      let name = "\(count) consumer\(count == 1 ? "" : "s")"
      let runs = try await repeated(name) {
        try await onStage(pool.sender, pool.recipient) { stage in
          try await ConsumersRun(stage: stage, pool: pool, options: options, loop: group.next()).run(
            consumers: count, window: command.window)
        }
      }
      let parameters = "window=\(command.window) prefetch=\(ConsumersRun.prefetch(of: count))"
      results.append(ScenarioResult(name, parameters, runs: runs))
    }
    return results
  }

  private func makeWorkPool() throws -> WorkPool {
    progress("signing \(options.poolCount) messages of five priorities and their receipts")
    return try WorkPool(
      count: options.poolCount, bodyBytes: options.bodyBytes, batch: options.batch,
      from: try Device("alice@acme.example"), to: try Device("bob@acme.example"))
  }

  /// Both with one node and with two.
  func notification() async throws -> [ScenarioResult] {
    var results: [ScenarioResult] = []
    for rate in command.rate.isEmpty ? [100] : command.rate {
      for (recipient, nodes) in [("bob@acme.example", "one node"), ("bob@globex.example", "two nodes")] {
        let name = "POST to consumer, \(nodes), \(decimal(rate, 0))/s"
        let (alice, bob) = (try Device("alice@acme.example"), try Device(recipient))
        let runs = try await repeated(name) {
          try await onStage(alice, bob) { stage in
            try await PostRun(stage: stage, options: options, loop: group.next()).run(rate: rate)
          }
        }
        results.append(ScenarioResult(name, "one message per request", runs: runs))
      }
    }
    return results
  }

  func agents(_ scenario: Scenario) async throws -> ScenarioResult {
    let runs = try await repeated(scenario.rawValue) {
      try await AgentsRun(options: options, loop: group.next()).run(count: command.agents)
    }
    return ScenarioResult("\(command.agents) active agents", "a round in 5 s", runs: runs)
  }

  /// One result for each depth; a run goes through all of them on one node.
  func depths() async throws -> [ScenarioResult] {
    let depths = (command.depth.isEmpty ? [10_000, 100_000] : command.depth).sorted()
    let (alice, bob) = (try Device("alice@acme.example"), try Device("bob@acme.example"))
    progress("signing messages for a depth of \(depths.last ?? 0)")
    let issued = try DepthRun.issue(for: depths, bodyBytes: options.bodyBytes, from: alice, to: bob)
    var runs = [[Figures]](repeating: [], count: depths.count)
    for number in 1...options.runs {
      let figures = try await onStage(alice, bob) { stage in
        try await DepthRun(stage: stage, options: options, loop: group.next()).run(depths: depths, issued)
      }
      for (index, depth) in depths.enumerated() {
        progress("depth \(depth), run \(number) of \(options.runs): \(summary(figures[index]))")
        runs[index].append(figures[index])
      }
    }
    return zip(depths, runs).map { depth, runs in
      ScenarioResult("depth \(depth)", "±\(DepthRun.messages(at: depth)) messages", runs: runs)
    }
  }

  func expiry(_ scenario: Scenario) async throws -> ScenarioResult {
    let (alice, bob) = (try Device("alice@acme.example"), try Device("bob@acme.example"))
    let runs = try await repeated(scenario.rawValue) {
      try await onStage(alice, bob) { stage in
        try await ExpiryRun(stage: stage, options: options, loop: group.next()).run(
          count: command.expiring, rate: 200)
      }
    }
    return ScenarioResult("expiry of \(command.expiring)", "live 200/s", runs: runs)
  }

  func topics(_ scenario: Scenario) async throws -> ScenarioResult {
    let runs = try await repeated(scenario.rawValue) {
      try await FanOutRun(options: options, loop: group.next()).run(
        subscribers: command.subscribers, rate: 10)
    }
    return ScenarioResult("topic, \(command.subscribers) subscribers, two nodes", "paced 10/s", runs: runs)
  }
}
