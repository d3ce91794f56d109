internal import Glibc
internal import Synchronization

/// The client's time: the machine's clock, carried on by the one that nobody sets, and looked at again
/// whenever the node has taken a token that was dated by it.
///
/// So a process that has been running does not take messages for expired, or for sent in the future, because
/// somebody set the machine's clock. A clock that was wrong from the start is found out by the node, which
/// opens no session for it (`NodeAPI.confirmClock`).
final class ClientClock: Sendable {
  private struct Mark: Sendable {
    var wallMs: UInt64
    var monotonicMs: UInt64
  }
  private let wall: @Sendable () -> UInt64
  private let monotonic: @Sendable () -> UInt64
  private let mark: Mutex<Mark>

  /// - Parameter monotonic: milliseconds; does not stop while the machine sleeps.
  init(
    wall: @escaping @Sendable () -> UInt64 = { clockMs(CLOCK_REALTIME) },
    monotonic: @escaping @Sendable () -> UInt64 = { clockMs(CLOCK_BOOTTIME) }
  ) {
    (self.wall, self.monotonic) = (wall, monotonic)
    mark = Mutex(Mark(wallMs: wall(), monotonicMs: monotonic()))
  }

  func nowMs() -> UInt64 {
    // Wrapping, for a test's clock that is set back and is both.
    mark.withLock { $0.wallMs &+ (monotonic() &- $0.monotonicMs) }
  }

  /// What the machine's clock shows now: the date of a token, for the node to judge.
  func wallMs() -> UInt64 { wall() }

  /// The node has taken what was dated by the machine's clock.
  func adopt() {
    mark.withLock { $0 = Mark(wallMs: wall(), monotonicMs: monotonic()) }
  }
}

private func clockMs(_ clock: clockid_t) -> UInt64 {
  var time = timespec()
  clock_gettime(clock, &time)
  return UInt64(time.tv_sec) * 1_000 + UInt64(time.tv_nsec) / 1_000_000
}
