package import EngramCore
package import EngramCrypto
package import EngramNode
package import NIOCore
import Synchronization

/// The answer for each envelope of a batch, in the batch's order.
package typealias Verdicts = [Result<VerifiedEnvelope, ErrorCode>]

/// Verifies envelopes on the event loops, at most `HTTPLimits.verificationsPerTurn` per turn of a loop,
/// whatever connection they came from. A batch that is larger is shared out over all loops.
package final class VerifyLanes: Sendable {
  package typealias Check =
    @Sendable (_ bytes: [UInt8], _ source: Source) -> Result<VerifiedEnvelope, ErrorCode>

  private let lanes: [Lane]

  package init(group: any EventLoopGroup, check: @escaping Check) {
    var lanes: [Lane] = []
    for loop in group.makeIterator() { lanes.append(Lane(loop: loop, check: check)) }
    precondition(!lanes.isEmpty, "an event loop group without loops")
    self.lanes = lanes
  }

  /// Calls `completion` on `home`, once.
  package func verify(
    _ envelopes: [ArraySlice<UInt8>], from source: Source, on home: any EventLoop,
    completion: @escaping @Sendable (Verdicts) -> Void
  ) {
    guard !envelopes.isEmpty else { return home.execute { completion([]) } }
    let batch = Batch(envelopes, source, home, completion)
    let first = lanes.firstIndex { $0.loop === home } ?? 0
    let starts = stride(from: 0, to: envelopes.count, by: HTTPLimits.verificationsPerShare)
    for (turn, start) in starts.enumerated() {
      let end = min(start + HTTPLimits.verificationsPerShare, envelopes.count)
      lanes[(first + turn) % lanes.count].add(Lane.Share(batch: batch, next: start, end: end))
    }
  }
}

/// One batch on its way through the lanes.
private final class Batch: Sendable {
  private struct State {
    var verdicts: [Result<VerifiedEnvelope, ErrorCode>?]
    var missing: Int
  }

  let envelopes: [ArraySlice<UInt8>]
  let source: Source
  private let home: any EventLoop
  private let completion: @Sendable (Verdicts) -> Void
  private let state: Mutex<State>

  init(
    _ envelopes: [ArraySlice<UInt8>], _ source: Source, _ home: any EventLoop,
    _ completion: @escaping @Sendable (Verdicts) -> Void
  ) {
    (self.envelopes, self.source, self.home, self.completion) = (envelopes, source, home, completion)
    state = Mutex(State(verdicts: Array(repeating: nil, count: envelopes.count), missing: envelopes.count))
  }

  func fill(from start: Int, _ verdicts: Verdicts) {
    let whole: Verdicts? = state.withLock { state in
      for (offset, verdict) in verdicts.enumerated() { state.verdicts[start + offset] = verdict }
      state.missing -= verdicts.count
      return state.missing == 0 ? state.verdicts.compactMap { $0 } : nil
    }
    guard let whole else { return }
    if home.inEventLoop { completion(whole) } else { home.execute { [completion] in completion(whole) } }
  }
}

/// The queue of one event loop.
private final class Lane: Sendable {
  struct Share {
    let batch: Batch
    var next: Int
    let end: Int
  }

  private struct State {
    var shares: [Share] = []
    var isScheduled = false
  }

  let loop: any EventLoop
  private let check: VerifyLanes.Check
  private let state = Mutex(State())

  init(loop: any EventLoop, check: @escaping VerifyLanes.Check) { (self.loop, self.check) = (loop, check) }

  func add(_ share: Share) {
    let starts = state.withLock { state in
      state.shares.append(share)
      defer { state.isScheduled = true }
      return !state.isScheduled
    }
    if starts { loop.execute { self.turn() } }
  }

  private func turn() {
    var left = HTTPLimits.verificationsPerTurn
    while left > 0, let share = take(left) {
      left -= share.end - share.next
      let batch = share.batch
      batch.fill(
        from: share.next, batch.envelopes[share.next..<share.end].map { check(Array($0), batch.source) })
    }
    let goesOn = state.withLock { state in
      state.isScheduled = !state.shares.isEmpty
      return state.isScheduled
    }
    if goesOn { loop.scheduleTask(in: HTTPLimits.turnPause) { self.turn() } }
  }

  /// Cuts up to `count` envelopes off the front of the queue.
  private func take(_ count: Int) -> Share? {
    state.withLock { state in
      guard let share = state.shares.first else { return nil }
      let end = min(share.next + count, share.end)
      if end == share.end { state.shares.removeFirst() } else { state.shares[0].next = end }
      return Share(batch: share.batch, next: share.next, end: end)
    }
  }
}
