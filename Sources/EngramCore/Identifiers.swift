// The members below are inlinable because these types stand in every hot path of every module: without it
// each use would go through unspecialised generic code.

/// Sixteen bytes that name one kind of thing; the tag keeps kinds apart at compile time.
@usableFromInline
package struct Identifier16<Tag>: Hashable, Comparable, Sendable, CustomStringConvertible {
  @usableFromInline let high: UInt64
  @usableFromInline let low: UInt64

  @inlinable
  init(high: UInt64, low: UInt64) { (self.high, self.low) = (high, low) }

  @inlinable
  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 16 else { return nil }
    var reader = WordReader(bytes)
    self.init(high: reader.next(), low: reader.next())
  }

  @inlinable
  package init(field bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard let value = Self(bytes) else { throw .wrongLength }
    self = value
  }

  @inlinable package static var zero: Self { Self(high: 0, low: 0) }

  @inlinable package var bytes: [UInt8] { bigEndianWords(high, low) }

  /// The bytes without an array: for hashing and for binding, where an allocation each would cost most.
  @inlinable
  package func withBytes<T>(_ body: (UnsafeRawBufferPointer) -> T) -> T {
    withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { body($0) }
  }
  @usableFromInline package var description: String { hex(bytes) }
  @inlinable
  package static func == (a: Self, b: Self) -> Bool { a.high == b.high && a.low == b.low }
  @inlinable
  package static func < (a: Self, b: Self) -> Bool { (a.high, a.low) < (b.high, b.low) }
  @inlinable
  package func hash(into hasher: inout Hasher) {
    hasher.combine(high)
    hasher.combine(low)
  }
}

/// Thirty-two bytes that name one kind of thing: digests and public keys.
@usableFromInline
package struct Identifier32<Tag>: Hashable, Comparable, Sendable, CustomStringConvertible {
  @usableFromInline let first: UInt64
  @usableFromInline let second: UInt64
  @usableFromInline let third: UInt64
  @usableFromInline let fourth: UInt64

  @inlinable
  init(_ first: UInt64, _ second: UInt64, _ third: UInt64, _ fourth: UInt64) {
    (self.first, self.second, self.third, self.fourth) = (first, second, third, fourth)
  }

  @inlinable
  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == 32 else { return nil }
    var reader = WordReader(bytes)
    self.init(reader.next(), reader.next(), reader.next(), reader.next())
  }

  @inlinable
  package init(field bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard let value = Self(bytes) else { throw .wrongLength }
    self = value
  }

  @inlinable package static var zero: Self { Self(0, 0, 0, 0) }

  @inlinable package var bytes: [UInt8] { bigEndianWords(first, second, third, fourth) }

  /// The bytes without an array, as in `Identifier16`.
  @inlinable
  package func withBytes<T>(_ body: (UnsafeRawBufferPointer) -> T) -> T {
    withUnsafeBytes(of: (first.bigEndian, second.bigEndian, third.bigEndian, fourth.bigEndian)) { body($0) }
  }
  @usableFromInline package var description: String { hex(bytes) }
  @inlinable
  package static func == (a: Self, b: Self) -> Bool {
    a.first == b.first && a.second == b.second && a.third == b.third && a.fourth == b.fourth
  }
  @inlinable
  package static func < (a: Self, b: Self) -> Bool {
    (a.first, a.second, a.third, a.fourth) < (b.first, b.second, b.third, b.fourth)
  }
  @inlinable
  package func hash(into hasher: inout Hasher) {
    hasher.combine(first)
    hasher.combine(second)
    hasher.combine(third)
    hasher.combine(fourth)
  }
}

/// Reads big-endian words from the front of a collection that is known to hold enough.
@usableFromInline
struct WordReader<Bytes: Collection<UInt8>> {
  @usableFromInline var iterator: Bytes.Iterator

  @inlinable
  init(_ bytes: Bytes) { iterator = bytes.makeIterator() }

  @inlinable
  mutating func next() -> UInt64 {
    var word: UInt64 = 0
    for _ in 0..<8 { word = word << 8 | UInt64(iterator.next() ?? 0) }
    return word
  }
}

@inlinable
func bigEndianWords(_ words: UInt64...) -> [UInt8] {
  [UInt8](unsafeUninitializedCapacity: words.count * 8) { buffer, count in
    let target = UnsafeMutableRawBufferPointer(buffer)
    for (index, word) in words.enumerated() {
      target.storeBytes(of: word.bigEndian, toByteOffset: index * 8, as: UInt64.self)
    }
    count = words.count * 8
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
