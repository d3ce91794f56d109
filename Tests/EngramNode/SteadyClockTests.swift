import EngramNode
import Synchronization
import TestSupport
import Testing

/// Two clocks that a test turns by hand.
final class Clocks: Sendable {
  private let times: Mutex<(wall: UInt64, monotonic: UInt64)>

  init(wallMs: UInt64 = TestTime.startMs) { times = Mutex((wallMs, 5_000)) }

  func steady(lastSeenMs: UInt64 = 0) -> SteadyClock {
    SteadyClock(
      lastSeenMs: lastSeenMs, wall: { self.times.withLock { $0.wall } },
      monotonic: { self.times.withLock { $0.monotonic } })
  }

  func pass(ms: UInt64) {
    times.withLock { $0 = ($0.wall + ms, $0.monotonic + ms) }
  }

  /// Somebody sets the wall clock.
  func jump(ms: Int64) {
    times.withLock { $0.wall = ms < 0 ? $0.wall - ms.magnitude : $0.wall + UInt64(ms) }
  }

  var wallMs: UInt64 { times.withLock { $0.wall } }
}

@Suite("The node's time")
struct SteadyClockTests {
  private static let yearMs = Int64(365 * TestTime.dayMs)

  @Test("a wall clock set by a year is reported and not followed", arguments: [yearMs, -yearMs])
  func jumps(yearMs: Int64) {
    let clocks = Clocks()
    let clock = clocks.steady()
    clocks.pass(ms: 1_000)
    #expect(clock.nowMs() == TestTime.startMs + 1_000)
    #expect(clock.jumpMs == nil)
    clocks.jump(ms: yearMs)
    for _ in 0..<100 {
      clocks.pass(ms: 1_000)
      clock.slew()
    }
    #expect(clock.nowMs() == TestTime.startMs + 101_000)
    #expect(clock.jumpMs == yearMs)
    // The control: the wall clock itself would have expired, or revived, everything.
    #expect(clocks.wallMs != clock.nowMs())
  }

  @Test("a jump is followed when the operator accepts it", arguments: [yearMs, -yearMs])
  func acceptance(yearMs: Int64) {
    let clocks = Clocks()
    let clock = clocks.steady()
    clocks.jump(ms: yearMs)
    clock.accept()
    #expect(clock.nowMs() == clocks.wallMs)
    #expect(clock.jumpMs == nil)
  }

  @Test("a jump is followed by the next start, but never below what was seen before")
  func restart() {
    let clocks = Clocks()
    let before = clocks.steady()
    clocks.pass(ms: TestTime.dayMs)
    let seen = before.nowMs()
    clocks.jump(ms: Self.yearMs)
    #expect(clocks.steady(lastSeenMs: seen).nowMs() == clocks.wallMs)
    clocks.jump(ms: -2 * Self.yearMs)
    let after = clocks.steady(lastSeenMs: seen)
    #expect(after.nowMs() == seen)
    #expect(after.jumpMs == -Self.yearMs, "and it says so")
    #expect(clocks.steady(lastSeenMs: 0).nowMs() < seen, "the control: without the memory it would go back")
  }

  @Test("a small difference is followed slowly, in both directions, and time never runs backward")
  func slewing() {
    for ahead in [Int64(1_500), -1_500, 60_000, -60_000] {
      let clocks = Clocks()
      let clock = clocks.steady()
      clocks.jump(ms: ahead)
      clock.slew()
      var last = clock.nowMs()
      for _ in 0..<200 {
        clocks.pass(ms: 500)
        let middle = clock.nowMs()
        clocks.pass(ms: 500)
        clock.slew()
        let now = clock.nowMs()
        #expect(middle > last && now > middle)
        #expect(now - last <= 1_006, "at most one part in 200 faster")
        last = now
      }
      let followed = Int64(last) - Int64(TestTime.startMs + 200_000)
      #expect(followed == (ahead > 0 ? min(ahead, 1_000) : max(ahead, -1_000)))
    }
  }

  @Test("a long silence does not make a small difference a leap")
  func silence() {
    let clocks = Clocks()
    let clock = clocks.steady()
    clocks.pass(ms: TestTime.dayMs)
    clocks.jump(ms: 30_000)
    clock.slew()
    #expect(clock.nowMs() == TestTime.startMs + TestTime.dayMs)
  }
}
