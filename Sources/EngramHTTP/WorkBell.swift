import NIOCore
import Synchronization

/// Brings word of new work to an event loop: rung after every commit, but at most one task is on its way at a
/// time.
final class WorkBell: Sendable {
  private let loop: any EventLoop
  private let onWork: @Sendable () -> Void
  private let isRinging = Atomic<Bool>(false)

  init(loop: any EventLoop, onWork: @escaping @Sendable () -> Void) {
    (self.loop, self.onWork) = (loop, onWork)
  }

  func ring() {
    guard !isRinging.exchange(true, ordering: .acquiringAndReleasing) else { return }
    loop.execute {
      // Before the work is looked at: what is committed from here on rings again.
      self.isRinging.store(false, ordering: .sequentiallyConsistent)
      self.onWork()
    }
  }
}
