internal import EngramCore

/// A passage of another message, named rather than copied: whoever reads it sees the text of their own
/// verified copy, so nobody can put words into somebody's mouth.
///
/// Travels as a parameter of the sealed content type, `quote=ENVELOPE-ID` or `quote=ENVELOPE-ID.FROM-TO`, and
/// so is hidden from nodes.
public struct Quote: Sendable, Equatable, Hashable {
  /// 64 hexadecimal digits.
  public let envelopeID: String
  /// Counted from 1; nil for the whole body.
  public let lines: ClosedRange<Int>?

  public init(envelopeID: String, lines: ClosedRange<Int>? = nil) {
    (self.envelopeID, self.lines) = (envelopeID, lines)
  }

  /// More do not fit beside a MIME type.
  static let perMessageMax = 2
  private static let linesMax = 1_000_000

  var parameter: String {
    "; quote=\(envelopeID)" + (lines.map { ".\($0.lowerBound)-\($0.upperBound)" } ?? "")
  }

  /// Checks form only.
  init?(value: some StringProtocol) {
    let parts = value.split(separator: ".", maxSplits: 1)
    guard let id = parts.first, id.utf8.count == 64, bytes(hex: id) != nil else { return nil }
    var lines: ClosedRange<Int>?
    if parts.count == 2 {
      let ends = parts[1].split(separator: "-").compactMap { Int($0) }
      guard ends.count == 2, ends[0] >= 1, ends[0] <= ends[1], ends[1] <= Self.linesMax else { return nil }
      lines = ends[0]...ends[1]
    }
    self.init(envelopeID: String(id), lines: lines)
  }

  /// The quoted lines of a text.
  public func passage(of text: String) -> String {
    guard let lines else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false)
      .dropFirst(lines.lowerBound - 1).prefix(lines.count).joined(separator: "\n")
  }
}

/// A sealed content type with its quotes.
struct QuotedContentType: Equatable {
  /// Without the quotes.
  var contentType: String
  var quotes: [Quote]

  /// - Throws: `EngramError` when it does not fit.
  static func encode(_ contentType: String, quoting quotes: [Quote]) throws -> String {
    guard quotes.count <= Quote.perMessageMax, quotes.allSatisfy({ Quote(value: $0.value) == $0 }) else {
      throw EngramError(
        .badInput, name: "bad-quote", "a message quotes at most \(Quote.perMessageMax) others, by envelope id")
    }
    return contentType + quotes.map(\.parameter).joined()
  }

  init(parsing text: String) {
    let parts = text.split(separator: ";", omittingEmptySubsequences: false)
    var (kept, quotes): ([Substring], [Quote]) = ([], [])
    for part in parts {
      let trimmed = part.drop { $0 == " " }
      if trimmed.hasPrefix("quote="), let quote = Quote(value: trimmed.dropFirst("quote=".count)) {
        quotes.append(quote)
      } else {
        kept.append(part)
      }
    }
    (contentType, self.quotes) = (kept.joined(separator: ";"), quotes)
  }
}

extension Quote {
  fileprivate var value: Substring { parameter.dropFirst("; quote=".count) }
}
