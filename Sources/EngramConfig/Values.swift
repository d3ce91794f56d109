import EngramCore
import Foundation

/// `host:port`; an IPv6 address stands in brackets.
package struct HostPort: Sendable, Equatable, CustomStringConvertible {
  /// An IPv4 or IPv6 address without brackets, or a DNS name.
  package let host: String
  package let port: Int

  /// What the text has to look like, for messages.
  static let expectation = "host:port, such as 127.0.0.1:7443, [::1]:7443 or node.acme.example:7443"

  /// Nil when `text` is not exactly a host and a port in 0...65535 without leading zeros.
  package init?(_ text: String) {
    // Beyond visible ASCII there are zeros that end a C string, and letters that only fold into ours.
    guard text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { return nil }
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let digits = text[text.index(after: colon)...]
    guard let port = UInt16(digits), String(port) == digits else { return nil }
    let host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      let address = String(host.dropFirst().dropLast())
      guard Self.isIPv6(address) else { return nil }
      self.host = address
    } else {
      guard Self.isIPv4(String(host)) || Self.isHostName(host) else { return nil }
      self.host = String(host)
    }
    self.port = Int(port)
  }

  package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  private static func isIPv4(_ text: String) -> Bool {
    var address = in_addr()
    return inet_pton(AF_INET, text, &address) == 1
  }

  private static func isIPv6(_ text: String) -> Bool {
    var address = in6_addr()
    return inet_pton(AF_INET6, text, &address) == 1
  }

  /// Labels as in a node's name, in either case; a single one will do. A last label of digits alone would be
  /// a mistyped IPv4 address (RFC 3696, section 2).
  private static func isHostName(_ text: Substring) -> Bool {
    let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard text.utf8.count <= Limits.nodeNameBytesMax, let last = labels.last else { return false }
    return labels.allSatisfy(isLabel) && !last.allSatisfy(isDigit)
  }

  private static func isLabel(_ label: Substring.UTF8View) -> Bool {
    let hyphen = UInt8(ascii: "-")
    return (1...63).contains(label.count) && label.first != hyphen && label.last != hyphen
      && label.allSatisfy { isDigit($0) || isLetter($0) || $0 == hyphen }
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  private static func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }
}

/// Offers the known word nearest to a mistyped one.
enum Suggestion {
  /// Nil when nothing is near enough to be meant: at most two edits, as for two letters swapped.
  static func nearest(to word: String, among known: [String]) -> String? {
    let bound = min(2, max(1, word.count / 2))
    let ranked = known.map { (word: $0, distance: distance(word, $0)) }.filter { $0.distance <= bound }
    return ranked.min { ($0.distance, $0.word) < ($1.distance, $1.word) }?.word
  }

  /// Levenshtein's edit distance, row by row.
  private static func distance(_ first: String, _ second: String) -> Int {
    let second = Array(second)
    var row = Array(0...second.count)
    for (index, character) in first.enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for column in second.indices {
        let replaced = diagonal + (character == second[column] ? 0 : 1)
        diagonal = row[column + 1]
        row[column + 1] = min(replaced, row[column] + 1, row[column + 1] + 1)
      }
    }
    return row[second.count]
  }
}
