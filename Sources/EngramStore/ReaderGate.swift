import Foundation
import Synchronization

/// Lets reads finish before the store is closed, and none begin after. GRDB does not: a read that waited for
/// a connection while the pool was closing goes on with a closed one, which crashes inside SQLite.
final class ReaderGate: Sendable {
  private struct State {
    var inside = 0
    var isClosed = false
    var closer: DispatchSemaphore?
  }
  private let state = Mutex(State())

  /// - Throws: `closed`. Otherwise `leave` has to follow.
  func enter() throws(StoreError) {
    let isOpen = state.withLock { state in
      if !state.isClosed { state.inside += 1 }
      return !state.isClosed
    }
    guard isOpen else { throw .closed }
  }

  func leave() {
    let closer = state.withLock { state in
      state.inside -= 1
      return state.inside == 0 ? state.closer : nil
    }
    closer?.signal()
  }

  /// Returns when nobody is inside any more. A second call returns at once.
  func close() {
    let last: DispatchSemaphore? = state.withLock { state in
      guard !state.isClosed else { return nil }
      state.isClosed = true
      guard state.inside > 0 else { return nil }
      let last = DispatchSemaphore(value: 0)
      state.closer = last
      return last
    }
    last?.wait()
  }
}
