import EngramCore
import EngramWire
import Synchronization

/// Accept throughput over `POST …/messages`: several requests at a time, each a batch.
struct Posting {
  let stage: Stage
  let pool: Pool
  let options: BenchOptions

  private final class Progress: Sendable {
    struct State {
      var next = 0
      var accepted = 0
      var isStopped = false
    }
    private let state = Mutex(State())
    func withLock<T>(_ body: (inout State) -> T) -> T { state.withLock { body(&$0) } }
  }

  func run(batch: Int, requestsAtATime: Int) async throws -> Figures {
    let bodies = pool.postBodies(batch: batch)
    let progress = Progress()
    return try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<requestsAtATime { group.addTask { try await post(bodies, progress) } }
      try await Task.sleep(for: .seconds(options.warmup))
      let first = MachineSample(pids: stage.pids)
      let acceptedFirst = progress.withLock { $0.accepted }
      let deadline = monotonicNs() + UInt64(options.duration * 1e9)
      while monotonicNs() < deadline, progress.withLock({ $0.next < bodies.count }) {
        try await Task.sleep(for: .milliseconds(20))
      }
      let last = MachineSample(pids: stage.pids)
      let accepted = progress.withLock { progress in
        progress.isStopped = true
        return progress.accepted - acceptedFirst
      }
      try await group.waitForAll()
      var figures = costFigures(first, last, names: stage.names, messages: accepted)
      figures["accepted_per_s"] = Double(accepted) / (figures["seconds"] ?? .nan)
      return figures
    }
  }

  private func post(_ bodies: [[UInt8]], _ progress: Progress) async throws {
    while true {
      let next = progress.withLock { progress -> Int? in
        guard !progress.isStopped, progress.next < bodies.count else { return nil }
        defer { progress.next += 1 }
        return progress.next
      }
      guard let next else { return }
      let response = try await stage.home.api.send(
        WireRequest(
          "POST", "/api/v1/agents/\(stage.sender.address.text)/messages",
          headers: [
            WireHeader("authorization", "Bearer \(stage.senderSession)"),
            WireHeader("content-type", "application/vnd.engram.envelopes"),
          ], body: bodies[next]))
      guard response.status == 200 else { throw BenchError("a POST was answered \(response.status)") }
      let outcomes = try ItemOutcome.decode(response.body[...])
      guard outcomes.allSatisfy({ $0.outcome == .accepted }) else {
        throw BenchError(
          "a message was refused: \(outcomes.first { $0.outcome != .accepted }?.code.name ?? "")")
      }
      progress.withLock { $0.accepted += outcomes.count }
    }
  }
}
