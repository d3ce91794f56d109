internal import EngramCore
internal import FoundationEssentials

/// A file name of a spool: `p{priority}_{timestamp}_{uuid}.json`. The UUID is the message id.
struct SpoolName: Equatable, Comparable, Sendable {
  let priority: Priority
  /// Milliseconds since 1970.
  let timestampMs: UInt64
  let id: MessageID

  init(priority: Priority, timestampMs: UInt64, id: MessageID) {
    (self.priority, self.timestampMs, self.id) = (priority, timestampMs, id)
  }

  /// Timestamps may be milliseconds or seconds since 1970, or `YYYYMMDDThhmmss`, with `.fff` and `Z` or
  /// without, always UTC.
  init(parsing name: String) throws(SpoolProblem) {
    guard name.hasSuffix(".json") else { throw .name }
    let parts = name.dropLast(5).split(separator: "_", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].utf8.count == 2, parts[0].first == "p",
      let priority = parts[0].last?.wholeNumberValue.flatMap({ UInt8(exactly: $0) })
        .flatMap(Priority.init(rawValue:)),
      let timestampMs = Self.milliseconds(parts[1]), let id = Self.messageID(parts[2])
    else { throw .name }
    self.init(priority: priority, timestampMs: timestampMs, id: id)
  }

  var text: String { "p\(priority.rawValue)_\(timestampMs)_\(Self.uuid(id)).json" }

  /// The order in which a spool is worked off: urgent first, then old first.
  static func < (a: SpoolName, b: SpoolName) -> Bool {
    (b.priority.rawValue, a.timestampMs, a.id.bytes.description)
      < (a.priority.rawValue, b.timestampMs, b.id.bytes.description)
  }

  /// `8-4-4-4-12` hexadecimal digits.
  static func uuid(_ id: MessageID) -> String {
    let digits = Array(id.description)
    var out = ""
    for (index, digit) in digits.enumerated() {
      if [8, 12, 16, 20].contains(index) { out.append("-") }
      out.append(digit)
    }
    return out
  }

  static func messageID(_ text: some StringProtocol) -> MessageID? {
    let groups = text.split(separator: "-", omittingEmptySubsequences: false).map(\.count)
    guard groups == [8, 4, 4, 4, 12] || groups == [32] else { return nil }
    return bytes(hex: String(text.filter { $0 != "-" }).lowercased()).flatMap { MessageID($0) }
  }

  /// Digits below this are seconds: as milliseconds they would be before 1973.
  private static let secondsBound: UInt64 = 100_000_000_000

  static func milliseconds(_ text: some StringProtocol) -> UInt64? {
    if !text.isEmpty, areDigits(text) {
      guard text.utf8.count <= 15, let number = UInt64(text) else { return nil }
      return number < secondsBound ? number * 1_000 : number
    }
    return compactTime(text)
  }

  private static func compactTime(_ text: some StringProtocol) -> UInt64? {
    var rest = text.hasSuffix("Z") ? text.dropLast() : text[...]
    var fraction: UInt64 = 0
    if let dot = rest.firstIndex(of: ".") {
      let digits = rest[rest.index(after: dot)...]
      guard (1...3).contains(digits.count), areDigits(digits), let value = UInt64(digits) else { return nil }
      fraction = value * [100, 10, 1][digits.count - 1]
      rest = rest[..<dot]
    }
    let halves = rest.split(separator: "T", omittingEmptySubsequences: false)
    guard halves.count == 2, halves[0].count == 8, halves[1].count == 6,
      areDigits(halves.joined())
    else { return nil }
    let (day, time) = (Array(halves[0]), Array(halves[1]))
    // The parser would take hour 25 for the next day.
    let bounds = [24, 60, 60]
    for (index, bound) in bounds.enumerated() {
      guard let value = Int(String(time[index * 2..<index * 2 + 2])), value < bound else { return nil }
    }
    let iso =
      "\(String(day[0..<4]))-\(String(day[4..<6]))-\(String(day[6..<8]))"
      + "T\(String(time[0..<2])):\(String(time[2..<4])):\(String(time[4..<6]))Z"
    return Timestamp.milliseconds(iso: iso).map { $0 + fraction }
  }
}

private func areDigits(_ text: some StringProtocol) -> Bool {
  text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
}

/// Times in spool documents: RFC 3339 in UTC, with milliseconds.
enum Timestamp {
  static func text(_ ms: UInt64) -> String {
    let whole = Date(timeIntervalSince1970: Double(ms / 1_000)).formatted(.iso8601)
    let digits = String(ms % 1_000 + 1_000).dropFirst()
    return whole.dropLast() + ".\(digits)Z"
  }

  static func milliseconds(iso text: String) -> UInt64? {
    for withFraction in [false, true] {
      let style = Date.ISO8601FormatStyle(includingFractionalSeconds: withFraction)
      guard let date = try? Date(text, strategy: style), date.timeIntervalSince1970 >= 0 else { continue }
      return UInt64((date.timeIntervalSince1970 * 1_000).rounded())
    }
    return nil
  }
}
