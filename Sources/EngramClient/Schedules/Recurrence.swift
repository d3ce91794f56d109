internal import Foundation

/// A cron expression at a place: the moments at which it comes.
///
/// **When clocks are changed.** An expression whose hours begin with `*` goes by the time that passes: what
/// the clock skips does not come, what it shows twice comes twice. Any other names times of the day, and each
/// comes once a day: one that the clock skips at the moment of the change, together with others that it
/// skips; one that it shows twice the first time.
struct Recurrence: Sendable {
  let cron: CronExpression
  private let clock: WallClock

  init(_ cron: CronExpression, in zone: TimeZone) { (self.cron, clock) = (cron, WallClock(zone: zone)) }

  /// The first occurrence after `ms`, in milliseconds since 1970. Nil beyond the calendar of any plan.
  func next(after ms: UInt64) -> UInt64? {
    let seconds = Int64(clamping: ms / 1_000)
    // One day earlier, because clocks that are set back return to the day before.
    let first = day(of: seconds).number - 1
    for number in first..<first + Self.daysMax where cron.includes(CivilDay(number)) {
      let found = occurrences(on: CivilDay(number)).first { $0 > seconds }
      if let found { return UInt64(found) * 1_000 }
    }
    return nil
  }

  /// The last occurrence in (after, through], both in milliseconds since 1970.
  func last(after: UInt64, through: UInt64) -> UInt64? {
    guard through > after else { return nil }
    let (from, to) = (Int64(clamping: after / 1_000), Int64(clamping: through / 1_000))
    for number in (day(of: from).number - 1...day(of: to).number + 1).reversed()
    where cron.includes(CivilDay(number)) {
      if let found = occurrences(on: CivilDay(number)).last(where: { $0 <= to }) {
        return found > from ? UInt64(found) * 1_000 : nil
      }
    }
    return nil
  }

  /// As long as any expression may take to come again (`CronExpression.init`), and a little more.
  private static let daysMax = 41 * 366

  private func day(of seconds: Int64) -> CivilDay {
    CivilDay(wallSeconds: seconds + clock.offset(at: seconds))
  }

  /// Seconds since 1970, ascending, each once.
  private func occurrences(on day: CivilDay) -> [Int64] {
    let times = cron.hours.flatMap { hour in
      cron.minutes.map { day.wallSeconds + Int64(hour) * 3_600 + Int64($0) * 60 }
    }
    if let offset = clock.offset(throughout: day) { return times.map { $0 - offset } }
    return Set(
      times.flatMap { time in
        let moments = clock.moments(of: time)
        if cron.isContinuous { return moments }
        return [moments.first ?? clock.jump(over: time)]
      }
    ).sorted()
  }
}
