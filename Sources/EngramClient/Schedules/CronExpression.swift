/// When something repeats: five fields, as in crontab(5).
///
/// 1. minute 0–59, hour 0–23, day of the month 1–31, month 1–12 or `JAN`–`DEC`, day of the week 0–7 or
///    `SUN`–`SAT`, 0 and 7 both Sunday; names in either case;
/// 2. `*`, a value, a range `a-b`, either of `*` and a range with a step `/n`, lists of these with commas;
/// 3. when both kinds of days are restricted, one that fits either counts; a field that begins with `*` is
///    not restricted, and then the day has to fit both.
///
/// Not taken: `a/n` without a range, ranges that descend, `@daily`, seconds, `L`, `W`, `#` and `?`, which
/// other programs read in different ways.
public struct CronExpression: Sendable, Equatable, CustomStringConvertible {
  /// As it was written, with single spaces.
  public let description: String
  let minutes: [Int]
  let hours: [Int]
  private let days: Set<Int>
  private let months: Set<Int>
  private let weekdays: Set<Int>
  /// Rule 3.
  private let daysAreFree: Bool
  private let weekdaysAreFree: Bool
  /// The hour field begins with `*`: it goes by time that passes, not by what the clock on the wall shows.
  let isContinuous: Bool

  /// - Throws: `EngramError` named `bad-cron`, with the field that cannot be read; also for what never comes,
  ///   such as the 30th of February.
  public init(_ text: String) throws {
    let fields = text.split(whereSeparator: { $0 == " " || $0 == "\t" }).map { String($0) }
    guard fields.count == Field.allCases.count else {
      throw Self.bad("it has \(fields.count) fields instead of five")
    }
    let sets = try zip(Field.allCases, fields).map { try $0.values($1) }
    description = fields.joined(separator: " ")
    (minutes, hours) = (sets[0].sorted(), sets[1].sorted())
    (days, months) = (sets[2], sets[3])
    weekdays = Set(sets[4].map { $0 % 7 })
    isContinuous = fields[1].hasPrefix("*")
    (daysAreFree, weekdaysAreFree) = (fields[2].hasPrefix("*"), fields[4].hasPrefix("*"))
    // The longest wait there is: a certain weekday on a 29th of February, over a year 2100.
    guard (0..<40 * 366).contains(where: { includes(CivilDay($0)) }) else {
      throw Self.bad("no day fits it")
    }
  }

  func includes(_ day: CivilDay) -> Bool {
    let (month, number) = day.monthAndDay
    guard months.contains(month) else { return false }
    let (fitsDay, fitsWeekday) = (days.contains(number), weekdays.contains(day.weekday))
    return daysAreFree || weekdaysAreFree ? fitsDay && fitsWeekday : fitsDay || fitsWeekday
  }

  fileprivate static func bad(_ what: String) -> EngramError {
    EngramError(
      .badInput, name: "bad-cron", "this is not a cron expression: \(what)",
      hint: "minute hour day month weekday; \"0 9 * * 1-5\" is nine o'clock from Monday to Friday")
  }
}

private enum Field: String, CaseIterable {
  case minute
  case hour
  case day = "day of the month"
  case month
  case weekday = "day of the week"

  private var range: ClosedRange<Int> {
    switch self {
    case .minute: 0...59
    case .hour: 0...23
    case .day: 1...31
    case .month: 1...12
    case .weekday: 0...7
    }
  }

  /// In the order of their numbers, which begin with the range's first.
  private var names: [String] {
    switch self {
    case .minute, .hour, .day: []
    case .month: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    case .weekday: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
    }
  }

  func values(_ text: String) throws -> Set<Int> {
    // More than one entry per value says nothing that fewer would not.
    let parts = text.split(separator: ",", maxSplits: 60, omittingEmptySubsequences: false)
    return try parts.reduce(into: []) { $0.formUnion(try part($1)) }
  }

  private func part(_ text: Substring) throws -> [Int] {
    let halves = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    let ends = halves[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    let span: ClosedRange<Int>
    if halves[0] == "*" {
      // The second number of Sunday is for those who write it; a week has seven days.
      span = range.lowerBound...(self == .weekday ? 6 : range.upperBound)
    } else {
      let (first, last) = (try value(ends[0]), try value(ends[ends.count - 1]))
      guard first <= last else { throw CronExpression.bad("the \(rawValue) has a range that descends") }
      guard ends.count == 2 || halves.count == 1 else {
        throw CronExpression.bad("the \(rawValue) has a step without a range")
      }
      span = first...last
    }
    guard halves.count == 2 else { return Array(span) }
    guard let step = number(halves[1]), (1...range.upperBound).contains(step) else {
      throw CronExpression.bad("the \(rawValue) has a step that is none")
    }
    return Array(stride(from: span.lowerBound, through: span.upperBound, by: step))
  }

  private func value(_ text: Substring) throws -> Int {
    if let index = names.firstIndex(of: text.lowercased()) { return range.lowerBound + index }
    guard let value = number(text), range.contains(value) else {
      throw CronExpression.bad("the \(rawValue) is not within \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  /// One or two digits.
  private func number(_ text: Substring) -> Int? {
    guard (1...2).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      return nil
    }
    return Int(text)
  }
}
