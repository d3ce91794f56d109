/// IMF-fixdate of RFC 9110 section 5.6.7, for instance `Sun, 06 Nov 1994 08:49:37 GMT`.
func httpDate(_ milliseconds: UInt64) -> String {
  let seconds = Int(milliseconds / 1_000)
  let (days, clock) = (seconds / 86_400, seconds % 86_400)
  let (year, month, day) = civilDate(daysSince1970: days)
  func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
  // 1970-01-01 was a Thursday.
  let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][days % 7]
  let monthName = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][
    month - 1]
  let time = "\(two(clock / 3_600)):\(two(clock / 60 % 60)):\(two(clock % 60))"
  return "\(weekday), \(two(day)) \(monthName) \(year) \(time) GMT"
}

/// Proleptic Gregorian date, after Hinnant's `civil_from_days` with years that start in March.
private func civilDate(daysSince1970: Int) -> (year: Int, month: Int, day: Int) {
  let shifted = daysSince1970 + 719_468
  let era = shifted / 146_097
  let dayOfEra = shifted % 146_097
  let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
  let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  let marchMonth = (5 * dayOfYear + 2) / 153
  let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
  return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
}
