/// Sixteen bytes that name one kind of thing; the tag keeps kinds apart at compile time.
package struct Identifier16<Tag>: Hashable, Comparable, Sendable, CustomStringConvertible {
  private let high: UInt64
  private let low: UInt64

  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 16 else { return nil }
    high = bigEndian(bytes.prefix(8))
    low = bigEndian(bytes.dropFirst(8))
  }

  package init(field bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard let value = Self(bytes) else { throw .wrongLength }
    self = value
  }

  package static var zero: Self { Self(high: 0, low: 0) }
  private init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

  package var bytes: [UInt8] { bigEndianBytes(high) + bigEndianBytes(low) }
  package var description: String { hex(bytes) }
  package static func < (a: Self, b: Self) -> Bool { (a.high, a.low) < (b.high, b.low) }
}

/// Thirty-two bytes that name one kind of thing: digests and public keys.
package struct Identifier32<Tag>: Hashable, Comparable, Sendable, CustomStringConvertible {
  private let words: (UInt64, UInt64, UInt64, UInt64)

  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 32 else { return nil }
    words = (
      bigEndian(bytes.prefix(8)), bigEndian(bytes.dropFirst(8).prefix(8)),
      bigEndian(bytes.dropFirst(16).prefix(8)), bigEndian(bytes.dropFirst(24))
    )
  }

  package init(field bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard let value = Self(bytes) else { throw .wrongLength }
    self = value
  }

  package static var zero: Self { Self(words: (0, 0, 0, 0)) }
  private init(words: (UInt64, UInt64, UInt64, UInt64)) { self.words = words }

  package var bytes: [UInt8] {
    bigEndianBytes(words.0) + bigEndianBytes(words.1) + bigEndianBytes(words.2) + bigEndianBytes(words.3)
  }
  package var description: String { hex(bytes) }
  package static func == (a: Self, b: Self) -> Bool { a.words == b.words }
  package static func < (a: Self, b: Self) -> Bool { a.words < b.words }
  package func hash(into hasher: inout Hasher) {
    hasher.combine(words.0)
    hasher.combine(words.1)
    hasher.combine(words.2)
    hasher.combine(words.3)
  }
}

package enum MessageTag {}
package enum ThreadTag {}
package enum KidTag {}
package enum PrekeyTag {}
package enum EnvelopeTag {}
package enum AttachmentTag {}
package enum DigestTag {}
package enum SigningKeyTag {}
package enum SealingKeyTag {}

/// Chosen at random by the sender, sealed once.
package typealias MessageID = Identifier16<MessageTag>
/// A conversation.
package typealias ThreadID = Identifier16<ThreadTag>
/// A device, named by its signing key: `T("kid", signing key)[0..<16]`.
package typealias Kid = Identifier16<KidTag>
/// `T("prekey-id", public key)[0..<16]`.
package typealias PrekeyID = Identifier16<PrekeyTag>
/// `T("envelope", hH, wT, cT, S)`: the same for full, pruned and stub copies.
package typealias EnvelopeID = Identifier32<EnvelopeTag>
package typealias AttachmentID = Identifier32<AttachmentTag>
/// Any other BLAKE2b-256 value.
package typealias Digest = Identifier32<DigestTag>
/// An Ed25519 public key as bytes; `EngramCrypto.VerifyingKey` is one that was checked.
package typealias SigningPublicKey = Identifier32<SigningKeyTag>
/// An X25519 public key as bytes.
package typealias SealingPublicKey = Identifier32<SealingKeyTag>

package func hex(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef".utf8)
  var out: [UInt8] = []
  for byte in bytes {
    out.append(digits[Int(byte >> 4)])
    out.append(digits[Int(byte & 15)])
  }
  return String(decoding: out, as: UTF8.self)
}

/// Decodes lower-case hexadecimal; nil for anything else.
package func bytes(hex text: some StringProtocol) -> [UInt8]? {
  let digits = Array(text.utf8)
  guard digits.count.isMultiple(of: 2) else { return nil }
  func nibble(_ c: UInt8) -> UInt8? {
    switch c {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): c - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): c - UInt8(ascii: "a") + 10
    default: nil
    }
  }
  var out: [UInt8] = []
  for index in stride(from: 0, to: digits.count, by: 2) {
    guard let high = nibble(digits[index]), let low = nibble(digits[index + 1]) else { return nil }
    out.append(high << 4 | low)
  }
  return out
}

private func bigEndian(_ bytes: some Sequence<UInt8>) -> UInt64 {
  bytes.reduce(0) { ($0 << 8) | UInt64($1) }
}

private func bigEndianBytes(_ word: UInt64) -> [UInt8] { withUnsafeBytes(of: word.bigEndian) { Array($0) } }
