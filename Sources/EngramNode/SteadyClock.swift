import Foundation
import Synchronization

/// The node's time: the wall clock at start, carried on by the monotonic clock. So it never runs backward and
/// never leaps, and no message expires or comes back because somebody set the machine's clock.
///
/// - Small differences between the two clocks are followed, by at most one part in 200: NTP keeps slewing, and
///   a correction of a second takes a little over three minutes.
/// - A larger one is a jump. It is reported and not followed, until the operator accepts it or the node is
///   started again.
/// - It never starts below the last time that was persisted, so a clock that was set back while the node was
///   down revives nothing.
package final class SteadyClock: Clock {
  /// Above this a difference is a jump: further than NTP lets two clocks drift, below what tokens tolerate.
  package static let jumpMsMin: UInt64 = 60_000
  /// The slew rate's divisor; ten times what `adjtime` allows itself, and too little to matter to a lease.
  private static let slewDivisor: UInt64 = 200

  private struct State {
    /// Node time at `markMs` of the monotonic clock.
    var baseMs: UInt64
    var markMs: UInt64
    /// The difference that is being followed.
    var slewMs: Int64 = 0
  }

  private let wall: @Sendable () -> UInt64
  private let monotonic: @Sendable () -> UInt64
  private let state: Mutex<State>

  /// - Parameters:
  ///   - lastSeenMs: node time persisted by the run before; 0 for none.
  ///   - wall, monotonic: milliseconds; the second does not stop while the machine sleeps.
  package init(
    lastSeenMs: UInt64, wall: @escaping @Sendable () -> UInt64 = { SystemClock().nowMs() },
    monotonic: @escaping @Sendable () -> UInt64 = bootMs
  ) {
    (self.wall, self.monotonic) = (wall, monotonic)
    state = Mutex(State(baseMs: max(wall(), lastSeenMs), markMs: monotonic()))
  }

  package func nowMs() -> UInt64 { state.withLock { Self.now($0, monotonic()) } }
  package func monotonicMs() -> UInt64 { monotonic() }

  /// How far the wall clock is ahead of the node's time, in milliseconds; negative when it is behind. nil when
  /// the difference is too small to be a jump.
  package var jumpMs: Int64? {
    let ahead = state.withLock { Self.ahead($0, wall(), monotonic()) }
    return ahead.magnitude > Self.jumpMsMin ? ahead : nil
  }

  /// Looks at the difference and follows a small one from here on; called about once a second.
  package func slew() {
    state.withLock { state in
      let (wallMs, monotonicMs) = (wall(), monotonic())
      let ahead = Self.ahead(state, wallMs, monotonicMs)
      state = State(
        baseMs: Self.now(state, monotonicMs), markMs: monotonicMs,
        slewMs: ahead.magnitude <= Self.jumpMsMin ? ahead : 0)
    }
  }

  /// The operator's word that the wall clock is right. Node time follows it at once, in either direction.
  package func accept() {
    state.withLock { $0 = State(baseMs: wall(), markMs: monotonic()) }
  }

  /// Continuous and growing: a correction changes the pace, never the reading.
  private static func now(_ state: State, _ monotonicMs: UInt64) -> UInt64 {
    let elapsed = monotonicMs - state.markMs
    let step = min(elapsed / slewDivisor, UInt64(state.slewMs.magnitude))
    return state.slewMs < 0 ? state.baseMs + elapsed - step : state.baseMs + elapsed + step
  }

  private static func ahead(_ state: State, _ wallMs: UInt64, _ monotonicMs: UInt64) -> Int64 {
    Int64(clamping: wallMs) - Int64(clamping: now(state, monotonicMs))
  }
}

/// The machine's own clock, which anybody may set: for what does not outlive a moment.
package struct SystemClock: Clock {
  package init() {}
  package func nowMs() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return UInt64(now.tv_sec) * 1_000 + UInt64(now.tv_nsec) / 1_000_000
  }
}

/// Milliseconds since the machine started, sleep included (CLOCK_BOOTTIME).
@Sendable package func bootMs() -> UInt64 {
  var now = timespec()
  clock_gettime(CLOCK_BOOTTIME, &now)
  return UInt64(now.tv_sec) * 1_000 + UInt64(now.tv_nsec) / 1_000_000
}
