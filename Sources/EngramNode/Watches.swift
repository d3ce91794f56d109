import Synchronization

/// A registration that ends when it is cancelled or forgotten.
package final class Watch: Sendable {
  private let end: @Sendable () -> Void
  private let ended = Atomic<Bool>(false)
  init(_ end: @escaping @Sendable () -> Void) { self.end = end }

  package func cancel() {
    if !ended.exchange(true, ordering: .acquiringAndReleasing) { end() }
  }
  deinit { cancel() }
}

/// Callbacks by key, called from the commit thread: mailboxes that got work, clients whose sessions ended.
final class WatchTable<Key: Hashable & Sendable>: Sendable {
  private struct State {
    var nextID: UInt64 = 0
    var callbacks: [Key: [UInt64: @Sendable () -> Void]] = [:]
  }
  private let state = Mutex(State())

  func add(_ key: Key, _ callback: @escaping @Sendable () -> Void) -> Watch {
    let id = state.withLock { state in
      state.nextID += 1
      state.callbacks[key, default: [:]][state.nextID] = callback
      return state.nextID
    }
    return Watch { [weak self] in self?.remove(key, id) }
  }

  func call(_ keys: some Sequence<Key>) {
    let callbacks = state.withLock { state in
      keys.flatMap { state.callbacks[$0].map { Array($0.values) } ?? [] }
    }
    for callback in callbacks { callback() }
  }

  private func remove(_ key: Key, _ id: UInt64) {
    state.withLock { state in
      state.callbacks[key]?[id] = nil
      if state.callbacks[key]?.isEmpty == true { state.callbacks[key] = nil }
    }
  }
}
