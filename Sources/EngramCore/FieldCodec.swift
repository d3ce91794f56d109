/// Why bytes that claim to be a structure of this protocol are not one. Carries no data of the sender.
@usableFromInline
package enum CodecError: Error, Equatable, Sendable {
  /// A byte sequence that decodes, but is not the one encoding of its value (order, case, range, padding).
  case nonCanonical
  /// A critical extension is present; none is defined.
  case criticalExtension
  /// A length, count or size goes past its limit.
  case tooLarge
  /// Bytes remain after the last field.
  case trailingBytes
  /// A field runs past the end of the input.
  case truncated
  case unknownSuite
  /// An enumeration holds a number that is not in the table.
  case unknownValue
  /// A field that has a fixed width has another one.
  case wrongLength

  /// The stable code that goes on the wire for this mistake.
  package var code: ErrorCode {
    switch self {
    case .criticalExtension: .criticalExtension
    case .nonCanonical: .nonCanonical
    case .tooLarge: .tooLarge
    case .trailingBytes: .trailingBytes
    case .truncated, .wrongLength: .malformed
    case .unknownSuite: .unknownSuite
    case .unknownValue: .unknownValue
    }
  }
}

// Writer and reader are inlinable because every structure of every module goes through their generic members.

/// Writes `a | b | c`: every field as a u32 big-endian length and its bytes, integers fixed-width big-endian
/// inside their field.
@usableFromInline
package struct FieldWriter: Sendable {
  @inlinable package var bytes: [UInt8] { storage }
  @usableFromInline var storage: [UInt8]

  @inlinable
  package init(capacity: Int = 256) {
    storage = []
    storage.reserveCapacity(capacity)
  }

  @inlinable
  package mutating func field(_ value: some Collection<UInt8>) {
    raw(UInt32(value.count))
    storage.append(contentsOf: value)
  }

  @inlinable
  package mutating func field(_ value: String) { field(value.utf8) }

  @inlinable
  package mutating func field<Tag>(_ value: Identifier16<Tag>) {
    raw(UInt32(16))
    raw(value)
  }

  @inlinable
  package mutating func field<Tag>(_ value: Identifier32<Tag>) {
    raw(UInt32(32))
    raw(value)
  }

  @inlinable
  package mutating func raw<Tag>(_ value: Identifier16<Tag>) {
    withUnsafeBytes(of: (value.high.bigEndian, value.low.bigEndian)) { storage.append(contentsOf: $0) }
  }

  @inlinable
  package mutating func raw<Tag>(_ value: Identifier32<Tag>) {
    withUnsafeBytes(
      of: (
        value.first.bigEndian, value.second.bigEndian, value.third.bigEndian, value.fourth.bigEndian
      )
    ) { storage.append(contentsOf: $0) }
  }

  @inlinable
  package mutating func field(_ value: some FixedWidthInteger & UnsignedInteger) {
    raw(UInt32(value.bitWidth / 8))
    raw(value)
  }

  /// One field that holds further length-prefixed elements. Written in place: the length follows when it is
  /// known.
  @inlinable
  package mutating func list(_ body: (inout FieldWriter) -> Void) {
    let start = storage.count
    raw(UInt32(0))
    body(&self)
    let length = UInt32(storage.count - start - 4)
    withUnsafeBytes(of: length.bigEndian) { length in
      for index in 0..<4 { storage[start + index] = length[index] }
    }
  }

  /// Bytes without a length: for structures that are already length-prefixed.
  @inlinable
  package mutating func raw(_ value: some Collection<UInt8>) { storage.append(contentsOf: value) }

  @inlinable
  package mutating func raw(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.bigEndian) { storage.append(contentsOf: $0) }
  }
}

/// Reads fields strictly: every read is bounded, and `finish` refuses what is left over.
@usableFromInline
package struct FieldReader: Sendable {
  @usableFromInline let source: ArraySlice<UInt8>
  @usableFromInline var offset: Int
  /// Index of the next byte in the source.
  @inlinable package var position: Int { offset }

  @inlinable
  package init(_ source: ArraySlice<UInt8>) {
    self.source = source
    offset = source.startIndex
  }

  @inlinable
  package init(_ source: [UInt8]) { self.init(source[...]) }

  @inlinable package var isAtEnd: Bool { offset == source.endIndex }

  @inlinable
  package mutating func field(max: Int = .max) throws(CodecError) -> ArraySlice<UInt8> {
    let count = Int(try rawInteger(UInt32.self))
    guard count <= max else { throw .tooLarge }
    guard count <= source.endIndex - offset else { throw .truncated }
    defer { offset += count }
    return source[offset..<(offset + count)]
  }

  @inlinable
  package mutating func integer<T: FixedWidthInteger & UnsignedInteger>(
    _: T.Type = T.self
  ) throws(CodecError) -> T {
    guard try rawInteger(UInt32.self) == UInt32(T.bitWidth / 8) else { throw .wrongLength }
    return try rawInteger(T.self)
  }

  package mutating func string(max: Int) throws(CodecError) -> String {
    let bytes = try field(max: max)
    guard let text = String(validating: bytes, as: UTF8.self) else { throw .nonCanonical }
    return text
  }

  /// One field holding elements; `element` is called until the field is used up.
  package mutating func list(
    maxCount: Int, maxBytes: Int = .max, element: (inout FieldReader) throws(CodecError) -> Void
  ) throws(CodecError) {
    var inner = FieldReader(try field(max: maxBytes))
    try inner.rest(maxCount: maxCount, element: element)
  }

  /// Calls `element` for every further field up to the end of the input.
  package mutating func rest(
    maxCount: Int, element: (inout FieldReader) throws(CodecError) -> Void
  ) throws(CodecError) {
    var count = 0
    while !isAtEnd {
      count += 1
      guard count <= maxCount else { throw .tooLarge }
      try element(&self)
    }
  }

  @inlinable
  package func finish() throws(CodecError) {
    guard isAtEnd else { throw .trailingBytes }
  }

  @inlinable
  mutating func rawInteger<T: FixedWidthInteger>(_: T.Type) throws(CodecError) -> T {
    let width = T.bitWidth / 8
    guard width <= source.endIndex - offset else { throw .truncated }
    var value: T = 0
    for index in offset..<(offset + width) { value = (value << 8) | T(truncatingIfNeeded: source[index]) }
    offset += width
    return value
  }
}

/// Encodes `a | b | c` in one expression.
@inlinable
package func fields(capacity: Int = 256, _ body: (inout FieldWriter) -> Void) -> [UInt8] {
  var writer = FieldWriter(capacity: capacity)
  body(&writer)
  return writer.bytes
}

/// Decodes a whole byte sequence with `body` and refuses trailing bytes.
@inlinable
package func parse<T>(
  _ bytes: ArraySlice<UInt8>, _ body: (inout FieldReader) throws(CodecError) -> T
) throws(CodecError) -> T {
  var reader = FieldReader(bytes)
  let value = try body(&reader)
  try reader.finish()
  return value
}
