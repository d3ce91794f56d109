import EngramCore
import EngramCrypto
import EngramNode
import NIOCore
import Synchronization

typealias VerifiedBatch = [Result<VerifiedEnvelope, ErrorCode>]

/// Verifies the envelopes of one batch. A small one stays on its link's event loop; a large one is spread
/// over all loops, so that one busy link uses every core. No loop verifies more than `verificationsPerTurn`
/// before it serves others.
struct BatchVerifier: Sendable {
  let loops: [any EventLoop]
  let verify: @Sendable ([UInt8]) -> Result<VerifiedEnvelope, ErrorCode>

  /// Calls `completion` on `home` with the results in the batch's order.
  func run(
    _ envelopes: [ArraySlice<UInt8>], home: any EventLoop,
    completion: @escaping @Sendable (VerifiedBatch) -> Void
  ) {
    let chunk = LinkLimits.verificationsPerTurn
    guard envelopes.count > chunk else {
      return home.execute { completion(envelopes.map { verify(Array($0)) }) }
    }
    let work = SharedBatch(envelopes, chunk: chunk, verify: verify) { results in
      home.execute { completion(results) }
    }
    let workers = min(loops.count, (envelopes.count + chunk - 1) / chunk)
    // The link's own loop takes part; it is the one that has time now.
    let others = loops.filter { $0 !== home }.prefix(max(0, workers - 1))
    for loop in others { work.step(on: loop) }
    work.step(on: home)
  }
}

/// Chunks that idle loops take one after the other until none is left.
private final class SharedBatch: Sendable {
  private struct State {
    var next = 0
    var finished = 0
    var results: [VerifiedBatch?]
  }

  private let envelopes: [ArraySlice<UInt8>]
  private let chunk: Int
  private let verify: @Sendable ([UInt8]) -> Result<VerifiedEnvelope, ErrorCode>
  private let completion: @Sendable (VerifiedBatch) -> Void
  private let state: Mutex<State>

  init(
    _ envelopes: [ArraySlice<UInt8>], chunk: Int,
    verify: @escaping @Sendable ([UInt8]) -> Result<VerifiedEnvelope, ErrorCode>,
    completion: @escaping @Sendable (VerifiedBatch) -> Void
  ) {
    (self.envelopes, self.chunk, self.verify, self.completion) = (envelopes, chunk, verify, completion)
    state = Mutex(State(results: Array(repeating: nil, count: (envelopes.count + chunk - 1) / chunk)))
  }

  func step(on loop: any EventLoop) {
    loop.execute { [self] in
      guard let index = claim() else { return }
      let range = (index * chunk)..<min((index + 1) * chunk, envelopes.count)
      let results = envelopes[range].map { verify(Array($0)) }
      if let all = finish(index, results) { completion(all) } else { step(on: loop) }
    }
  }

  private func claim() -> Int? {
    state.withLock { state in
      guard state.next < state.results.count else { return nil }
      defer { state.next += 1 }
      return state.next
    }
  }

  /// Everything, once the last chunk is there.
  private func finish(_ index: Int, _ results: VerifiedBatch) -> VerifiedBatch? {
    state.withLock { state in
      state.results[index] = results
      state.finished += 1
      return state.finished == state.results.count ? state.results.flatMap { $0 ?? [] } : nil
    }
  }
}
