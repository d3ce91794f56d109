internal import Foundation

/// A day of the Gregorian calendar, without a time zone.
struct CivilDay: Equatable, Comparable, Sendable {
  static let seconds: Int64 = 86_400
  /// Since 1970-01-01.
  let number: Int

  init(_ number: Int) { self.number = number }

  /// The day on which these seconds since 1970 fall, seconds counted on the wall clock.
  init(wallSeconds: Int64) {
    let (days, rest) = wallSeconds.quotientAndRemainder(dividingBy: Self.seconds)
    number = Int(days) - (rest < 0 ? 1 : 0)
  }

  static func < (a: CivilDay, b: CivilDay) -> Bool { a.number < b.number }

  var wallSeconds: Int64 { Int64(number) * Self.seconds }

  /// 0 is Sunday; 1970-01-01 was a Thursday.
  var weekday: Int { ((number + 4) % 7 + 7) % 7 }

  /// Years are counted from March in eras of 400 years, so that a leap day is the last of its year.
  var monthAndDay: (month: Int, day: Int) {
    let days = number + 719_468
    let era = (days >= 0 ? days : days - 146_096) / 146_097
    let dayOfEra = days - era * 146_097
    let year = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * year + year / 4 - year / 100)
    let month = (5 * dayOfYear + 2) / 153
    return (month < 10 ? month + 3 : month - 9, dayOfYear - (153 * month + 2) / 5 + 1)
  }
}

/// What the clock on a wall somewhere shows, and when.
struct WallClock: Sendable {
  let zone: TimeZone

  func offset(at seconds: Int64) -> Int64 {
    Int64(zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double(seconds))))
  }

  /// The offset of a day on which it does not change; nil for the few others.
  func offset(throughout day: CivilDay) -> Int64? {
    let before = offset(at: day.wallSeconds - CivilDay.seconds)
    return before == offset(at: day.wallSeconds + 2 * CivilDay.seconds) ? before : nil
  }

  /// The moments at which the clock shows `wall`: one; two when it was set back over it; none when it was set
  /// forward over it.
  func moments(of wall: Int64) -> [Int64] {
    let (before, after) = offsets(around: wall)
    let candidates =
      before == after ? [wall - before] : [wall - max(before, after), wall - min(before, after)]
    return candidates.filter { $0 + offset(at: $0) == wall }
  }

  /// The moment at which the clock was set forward over `wall`.
  func jump(over wall: Int64) -> Int64 {
    let (before, after) = offsets(around: wall)
    // The old offset holds at the first of these, the new one at the last.
    var (low, high) = (wall - max(before, after), wall - min(before, after))
    while high - low > 1 {
      let middle = low + (high - low) / 2
      if offset(at: middle) == before { low = middle } else { high = middle }
    }
    return high
  }

  /// A day covers every offset that there is, whichever of the two is meant.
  private func offsets(around wall: Int64) -> (before: Int64, after: Int64) {
    (offset(at: wall - CivilDay.seconds), offset(at: wall + CivilDay.seconds))
  }
}
