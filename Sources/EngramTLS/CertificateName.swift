/// Names as certificates carry them.
enum CertificateName {
  /// Upper bound of a common name, RFC 5280 appendix A (`ub-common-name`), in bytes.
  static let commonNameBytesMax = 64

  /// Letters, digits, hyphens and underscores in labels of 1 to 63 bytes, at most 253 bytes together (RFC
  /// 1035 section 2.3.4); a wildcard is not a name.
  static func isDNSName(_ name: String) -> Bool {
    guard (1...253).contains(name.utf8.count) else { return false }
    return name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy {
      label in
      (1...63).contains(label.count) && label.allSatisfy(isLabelByte)
        && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
    }
  }

  static func isCommonName(_ name: String) -> Bool {
    (1...commonNameBytesMax).contains(name.utf8.count) && !name.utf8.contains { $0 < 0x20 || $0 == 0x7f }
  }

  private static func isLabelByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
      true
    default: false
    }
  }
}
