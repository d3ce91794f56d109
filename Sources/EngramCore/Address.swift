/// A node's name: a lower-case DNS name of at most 253 bytes. Anything else is refused, never folded.
package struct NodeName: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let text: String

  package init(_ text: String) throws(CodecError) { try self.init(Array(text.utf8)[...]) }

  package init(_ bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard isNodeName(bytes) else { throw .nonCanonical }
    text = String(decoding: bytes, as: UTF8.self)
  }

  package var description: String { text }
  package static func < (a: Self, b: Self) -> Bool { ascending(a.text, b.text) }
}

/// A client's address, `name@node`; name is `[a-z0-9][a-z0-9._-]{0,62}`. The whole text is kept beside its
/// parts: every message has its addresses parsed once and written several times.
package struct Address: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let text: String
  package let name: String
  package let node: NodeName

  package init(name: String, node: NodeName) throws(CodecError) {
    guard isLocalName(name) else { throw .nonCanonical }
    (self.name, self.node, text) = (name, node, "\(name)@\(node.text)")
  }

  package init(_ text: String) throws(CodecError) { try self.init(Array(text.utf8)[...]) }

  package init(_ bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard bytes.count <= Limits.addressBytesMax, let at = bytes.firstIndex(of: UInt8(ascii: "@")),
      isLocalName(bytes[..<at])
    else { throw .nonCanonical }
    node = try NodeName(bytes[(at + 1)...])
    // ASCII, as just checked.
    name = String(decoding: bytes[..<at], as: UTF8.self)
    text = String(decoding: bytes, as: UTF8.self)
  }

  package var description: String { text }
  package static func == (a: Self, b: Self) -> Bool { a.text == b.text }
  package func hash(into hasher: inout Hasher) { hasher.combine(text) }
  /// Byte order of the text, the order that "strictly ascending" means in the protocol.
  package static func < (a: Self, b: Self) -> Bool { ascending(a.text, b.text) }
}

/// A node's Ed25519 identity key, shown as `engram-node:` + lower-case base32 (RFC 4648 section 6, no
/// padding).
package struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible {
  package let key: SigningPublicKey
  private static let prefix = "engram-node:"

  package init(_ key: SigningPublicKey) { self.key = key }
  package init(_ bytes: ArraySlice<UInt8>) throws(CodecError) { key = try SigningPublicKey(field: bytes) }

  package init(parsing text: String) throws(CodecError) {
    guard text.hasPrefix(Self.prefix), let bytes = base32Decode(text.dropFirst(Self.prefix.count)),
      let key = SigningPublicKey(bytes)
    else { throw .nonCanonical }
    self.key = key
  }

  package var bytes: [UInt8] { key.bytes }
  package var description: String { Self.prefix + base32Encode(key.bytes) }
  package static func < (a: Self, b: Self) -> Bool { a.key < b.key }
}

/// `[a-z0-9][a-z0-9._-]{0,62}`: names of clients and label keys.
package func isLocalName(_ name: String) -> Bool { isLocalName(Array(name.utf8)[...]) }

private func isLocalName(_ bytes: ArraySlice<UInt8>) -> Bool {
  guard (1...63).contains(bytes.count), let first = bytes.first, isLowerAlphanumeric(first) else {
    return false
  }
  return bytes.allSatisfy {
    isLowerAlphanumeric($0) || $0 == dash || $0 == dot || $0 == underscore
  }
}

/// At least two labels of letters, digits and inner hyphens, 1 to 63 bytes each (RFC 1123 section 2.1).
private func isNodeName(_ bytes: ArraySlice<UInt8>) -> Bool {
  guard bytes.count <= Limits.nodeNameBytesMax else { return false }
  var (labels, length, previous) = (1, 0, dot)
  for byte in bytes {
    if byte == dot {
      guard length > 0, previous != dash else { return false }
      (labels, length) = (labels + 1, 0)
    } else {
      guard isLowerAlphanumeric(byte) || (byte == dash && length > 0), length < 63 else { return false }
      length += 1
    }
    previous = byte
  }
  return labels >= 2 && length > 0 && previous != dash
}

private var dash: UInt8 { UInt8(ascii: "-") }
private var dot: UInt8 { UInt8(ascii: ".") }
private var underscore: UInt8 { UInt8(ascii: "_") }
private let base32Alphabet = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)

func isLowerAlphanumeric(_ c: UInt8) -> Bool {
  (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(c) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(c)
}

private func ascending(_ a: String, _ b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }

/// Lower-case base32 without padding, RFC 4648 section 6.
package func base32Encode(_ bytes: [UInt8]) -> String {
  var out: [UInt8] = []
  var buffer: UInt32 = 0
  var bits = 0
  for byte in bytes {
    buffer = (buffer << 8) | UInt32(byte)
    bits += 8
    while bits >= 5 {
      bits -= 5
      out.append(base32Alphabet[Int((buffer >> UInt32(bits)) & 31)])
    }
  }
  if bits > 0 { out.append(base32Alphabet[Int((buffer << UInt32(5 - bits)) & 31)]) }
  return String(decoding: out, as: UTF8.self)
}

/// The inverse of `base32Encode`; refuses upper case, padding and non-zero spare bits.
package func base32Decode(_ text: some StringProtocol) -> [UInt8]? {
  var out: [UInt8] = []
  var buffer: UInt32 = 0
  var bits = 0
  for c in text.utf8 {
    guard let value = base32Alphabet.firstIndex(of: c) else { return nil }
    buffer = (buffer << 5) | UInt32(value)
    bits += 5
    if bits >= 8 {
      bits -= 8
      out.append(UInt8((buffer >> UInt32(bits)) & 255))
    }
  }
  guard bits < 5, buffer & ((1 << UInt32(bits)) - 1) == 0 else { return nil }
  return out
}
