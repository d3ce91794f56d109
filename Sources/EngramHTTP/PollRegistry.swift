import NIOCore
import Synchronization

/// Wakes one waiting long poll, once, whatever comes first: work, the deadline, the end of the session, a
/// drain.
final class WakeUp: Sendable {
  private enum State {
    case idle
    case waiting(CheckedContinuation<Void, Never>)
    case rung
  }

  private let state = Mutex(State.idle)

  func ring() {
    let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
      defer { state = .rung }
      if case .waiting(let continuation) = state { return continuation }
      return nil
    }
    continuation?.resume()
  }

  /// Returns at once when it rang since the last wait.
  func wait() async {
    await withCheckedContinuation { continuation in
      let isRung = state.withLock { state in
        switch state {
        case .rung:
          state = .idle
          return true
        case .idle, .waiting:
          state = .waiting(continuation)
          return false
        }
      }
      if isRung { continuation.resume() }
    }
    state.withLock { if case .rung = $0 { $0 = .idle } }
  }
}

/// The long polls in progress, so that a drain can answer them.
final class PollRegistry: Sendable {
  private let waiting = Mutex<[ObjectIdentifier: WakeUp]>([:])

  func add(_ wakeUp: WakeUp) { waiting.withLock { $0[ObjectIdentifier(wakeUp)] = wakeUp } }
  func remove(_ wakeUp: WakeUp) { waiting.withLock { $0[ObjectIdentifier(wakeUp)] = nil } }
  func ringAll() { for wakeUp in waiting.withLock({ Array($0.values) }) { wakeUp.ring() } }
}
