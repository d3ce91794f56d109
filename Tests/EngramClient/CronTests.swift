import Foundation
import Testing

@testable import EngramClient

@Suite("When something repeats")
struct CronTests {
  private func ms(_ iso: String) throws -> UInt64 {
    UInt64(try Date(iso, strategy: .iso8601).timeIntervalSince1970) * 1_000
  }

  private func iso(_ ms: UInt64) -> String {
    Date(timeIntervalSince1970: Double(ms) / 1_000).formatted(.iso8601)
  }

  private func recurrence(_ cron: String, _ zone: String = "UTC") throws -> Recurrence {
    Recurrence(try CronExpression(cron), in: try #require(TimeZone(identifier: zone)))
  }

  /// The first occurrences after a moment.
  private func following(_ start: String, _ recurrence: Recurrence, count: Int) throws -> [String] {
    var at = try ms(start)
    return try (0..<count).map { _ in
      at = try #require(recurrence.next(after: at))
      return iso(at)
    }
  }

  // MARK: - Expressions. 2027-01-15 is a Friday.

  @Test(
    "an expression comes when its fields say",
    arguments: [
      ("0 9 * * 1-5", ["2027-01-15T09:00:00Z", "2027-01-18T09:00:00Z", "2027-01-19T09:00:00Z"]),
      (
        "*/20 8 * * *",
        ["2027-01-15T08:20:00Z", "2027-01-15T08:40:00Z", "2027-01-16T08:00:00Z", "2027-01-16T08:20:00Z"]
      ),
      ("5,35 0-2/2 * * *", ["2027-01-16T00:05:00Z", "2027-01-16T00:35:00Z", "2027-01-16T02:05:00Z"]),
      ("  0\t0  31 * *", ["2027-01-31T00:00:00Z", "2027-03-31T00:00:00Z", "2027-05-31T00:00:00Z"]),
      ("0 0 29 feb *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
      ("0 0 * * 7", ["2027-01-17T00:00:00Z", "2027-01-24T00:00:00Z"]),
      ("0 0 * * Sun", ["2027-01-17T00:00:00Z", "2027-01-24T00:00:00Z"]),
      ("0 0 * JUN-jul,DEC MON", ["2027-06-07T00:00:00Z", "2027-06-14T00:00:00Z"]),
      ("59 23 31 12 *", ["2027-12-31T23:59:00Z", "2028-12-31T23:59:00Z"]),
      // One of the two is enough when both are restricted …
      ("0 0 1,20 * MON", ["2027-01-18T00:00:00Z", "2027-01-20T00:00:00Z", "2027-01-25T00:00:00Z"]),
      // … and both are needed when one begins with a star.
      ("0 0 */2 * MON", ["2027-01-25T00:00:00Z", "2027-02-01T00:00:00Z", "2027-02-15T00:00:00Z"]),
      ("0 0 20 * *", ["2027-01-20T00:00:00Z", "2027-02-20T00:00:00Z"]),
    ])
  func expressions(_ cron: String, _ expected: [String]) throws {
    #expect(
      try following("2027-01-15T08:00:00Z", try recurrence(cron), count: expected.count) == expected,
      "\(cron)")
  }

  @Test("an occurrence is after the moment that is asked about, to the second")
  func boundaries() throws {
    let daily = try recurrence("0 9 * * *")
    let nine = try ms("2027-01-15T09:00:00Z")
    #expect(daily.next(after: nine - 1) == nine)
    #expect(daily.next(after: nine) == nine + 86_400_000)
    #expect(daily.last(after: nine - 1_000, through: nine) == nine)
    #expect(daily.last(after: nine, through: nine + 86_399_999) == nil)
    #expect(daily.last(after: 0, through: nine + 30 * 86_400_000 + 1) == nine + 30 * 86_400_000)
    #expect(daily.last(after: nine, through: nine - 5) == nil)
  }

  @Test(
    "what is no expression is refused, and what other programs read differently",
    arguments: [
      "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *",
      "* * * 13 *", "* * * * 8", "-1 * * * *", "+1 * * * *", "1- * * * *", "-  * * * *", "5-1 * * * *",
      "* * * * SAT-SUN", "*/0 * * * *", "*/60 * * * *", "*/ * * * *", "5/15 * * * *", "1,,2 * * * *",
      ", * * * *", "1.5 * * * *", "٣ * * * *", "001 * * * *", "* * * MONDAY *", "JAN * * * *", "@daily",
      "0 9 ? * 1", "0 9 L * *", "* * * * 1#2", "0 0 30 2 *", "0 0 31 4,6 *", "*/2/2 * * * *", "1-2-3 * * * *",
    ])
  func refused(_ text: String) throws {
    let error = #expect(throws: EngramError.self) { try CronExpression(text) }
    #expect(error?.name == "bad-cron" && error?.kind == .badInput)
  }

  // MARK: - Clocks that are changed

  @Test(
    "times of the day come once a day, also when the clock skips them or shows them twice",
    arguments: [
      // In Berlin 02:00 becomes 03:00 on 28 March 2027, at 01:00 UTC.
      (
        "30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z",
        ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]
      ),
      (
        "0,30 2 * * *", "Europe/Berlin", "2027-03-28T00:00:00Z",
        ["2027-03-28T01:00:00Z", "2027-03-29T00:00:00Z"]
      ),
      (
        "30 2,3 * * *", "Europe/Berlin", "2027-03-28T00:00:00Z",
        ["2027-03-28T01:00:00Z", "2027-03-28T01:30:00Z"]
      ),
      (
        "0 9 * * *", "Europe/Berlin", "2027-03-27T07:00:00Z",
        ["2027-03-27T08:00:00Z", "2027-03-28T07:00:00Z"]
      ),
      // 03:00 becomes 02:00 on 31 October 2027, at 01:00 UTC.
      (
        "30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z",
        ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]
      ),
      // What goes by the time that passes has no gap and no rest.
      (
        "30 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z",
        ["2027-03-28T00:30:00Z", "2027-03-28T01:30:00Z", "2027-03-28T02:30:00Z"]
      ),
      (
        "30 * * * *", "Europe/Berlin", "2027-10-31T00:00:00Z",
        ["2027-10-31T00:30:00Z", "2027-10-31T01:30:00Z", "2027-10-31T02:30:00Z"]
      ),
      // Half an hour, and the other half of the world.
      (
        "15 2 * * *", "Australia/Lord_Howe", "2027-10-02T00:00:00Z",
        ["2027-10-02T15:30:00Z", "2027-10-03T15:15:00Z"]
      ),
      // Samoa had no 30 December 2011.
      (
        "0 12 * * *", "Pacific/Apia", "2011-12-29T23:00:00Z",
        ["2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]
      ),
      ("0 12 * * *", "America/New_York", "2027-01-15T00:00:00Z", ["2027-01-15T17:00:00Z"]),
    ])
  func changes(_ cron: String, _ zone: String, _ start: String, _ expected: [String]) throws {
    #expect(try following(start, try recurrence(cron, zone), count: expected.count) == expected)
  }

  @Test(
    "what goes by passing time is what the calendar says, minute by minute",
    arguments: [
      ("*/7 * * * *", "Europe/Berlin", "2027-03-27T12:00:00Z"),
      ("3 */2 * * SUN", "Europe/Berlin", "2027-10-29T00:00:00Z"),
      ("0 * 1 * *", "America/St_Johns", "2027-10-31T00:00:00Z"),
      ("11-13 */5 */3 * 0-3", "Asia/Kathmandu", "2027-02-26T00:00:00Z"),
    ])
  func oracle(_ cron: String, _ zone: String, _ start: String) throws {
    let recurrence = try recurrence(cron, zone)
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = try #require(TimeZone(identifier: zone))
    let (from, days) = (try ms(start), UInt64(4))
    let fits = stride(from: from + 60_000, through: from + days * 86_400_000, by: 60_000).filter { at in
      let date = Date(timeIntervalSince1970: Double(at) / 1_000)
      let parts = calendar.dateComponents([.minute, .hour], from: date)
      let wall = Int64(at / 1_000) + Int64(calendar.timeZone.secondsFromGMT(for: date))
      return recurrence.cron.minutes.contains { $0 == parts.minute }
        && recurrence.cron.hours.contains { $0 == parts.hour }
        && recurrence.cron.includes(CivilDay(wallSeconds: wall))
    }
    var found: [UInt64] = []
    var at = from
    while let next = recurrence.next(after: at), next <= from + days * 86_400_000 {
      found.append(next)
      #expect(recurrence.last(after: at, through: next + 59_999) == next, "backwards as forwards")
      at = next
    }
    #expect(found == fits && !found.isEmpty)
  }

  @Test("days of the calendar are those of the calendar")
  func days() {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = .gmt
    for number in stride(from: -200_000, through: 200_000, by: 37) {
      let day = CivilDay(number)
      let date = Date(timeIntervalSince1970: Double(number) * 86_400)
      // Before 1582 the calendar of Foundation is another one.
      guard number > -141_000 else { continue }
      let parts = calendar.dateComponents([.month, .day, .weekday], from: date)
      #expect(day.monthAndDay.month == parts.month && day.monthAndDay.day == parts.day)
      #expect(day.weekday + 1 == parts.weekday)
      #expect(
        CivilDay(wallSeconds: day.wallSeconds) == day && CivilDay(wallSeconds: day.wallSeconds - 1) < day)
    }
  }
}
