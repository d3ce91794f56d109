import EngramStore
import Foundation
import Synchronization

/// What goes wrong with a store's commits, and when. Nothing at first.
final class CommitFault: Sendable {
  private let error = Mutex<StoreError?>(nil)
  private let next = Mutex<StoreError?>(nil)
  private let count = Mutex(0)
  private let gate = Mutex<(entered: DispatchSemaphore, release: DispatchSemaphore)?>(nil)

  /// How many commits were tried.
  var commits: Int { count.withLock { $0 } }

  /// Every commit fails like this from now on; nil ends it.
  func set(_ error: StoreError?) { self.error.withLock { $0 = error } }

  /// The same from the commit after the held one on.
  func setAfterRelease(_ error: StoreError) { next.withLock { $0 = error } }

  /// Holds the next commit until the returned call; what is queued meanwhile is committed as one group.
  func hold() -> (entered: DispatchSemaphore, release: DispatchSemaphore) {
    let gate = (entered: DispatchSemaphore(value: 0), release: DispatchSemaphore(value: 0))
    self.gate.withLock { $0 = gate }
    return gate
  }

  func strike() throws(StoreError) {
    count.withLock { $0 += 1 }
    let held = gate.withLock { gate in
      defer { gate = nil }
      return gate
    }
    if let held {
      held.entered.signal()
      held.release.wait()
      if let later = next.withLock({ $0 }) {
        next.withLock { $0 = nil }
        return set(later)
      }
    }
    if let error = error.withLock({ $0 }) { throw error }
  }
}
