import EngramCore
import TestSupport
import Testing

@Suite("Strict fields")
struct FieldCodecTests {
  @Test("integers are big-endian and as wide as their type, inside a length-prefixed field")
  func integers() throws {
    let encoded = fields {
      $0.field(UInt8(1))
      $0.field(UInt16(0x0203))
      $0.field(UInt64(4))
      $0.field("ab")
    }
    #expect(hex(encoded) == "0000000101" + "000000020203" + "000000080000000000000004" + "000000026162")
    var reader = FieldReader(encoded)
    #expect(try reader.integer(UInt8.self) == 1)
    #expect(try reader.integer(UInt16.self) == 0x0203)
    #expect(try reader.integer(UInt64.self) == 4)
    #expect(try reader.string(max: 2) == "ab")
    #expect(throws: Never.self) { try reader.finish() }
  }

  @Test("a field of another width is no integer")
  func widths() {
    var reader = FieldReader([0, 0, 0, 1, 5])
    #expect(throws: CodecError.wrongLength) { try reader.integer(UInt16.self) }
    reader = FieldReader([0, 0, 0, 2, 0, 5])
    #expect(throws: CodecError.wrongLength) { try reader.integer(UInt8.self) }
  }

  @Test("lengths beyond the input and beyond the limit are refused before anything is copied")
  func lengths() {
    var reader = FieldReader([0xff, 0xff, 0xff, 0xff, 1])
    #expect(throws: CodecError.truncated) { try reader.field() }
    reader = FieldReader([0xff, 0xff, 0xff, 0xff, 1])
    #expect(throws: CodecError.tooLarge) { try reader.field(max: 10) }
    reader = FieldReader([0, 0, 0])
    #expect(throws: CodecError.truncated) { try reader.field() }
    reader = FieldReader([0, 0, 0, 1])
    #expect(throws: CodecError.truncated) { try reader.field() }
    reader = FieldReader([0, 0, 0, 0])
    #expect(throws: Never.self) { try reader.field() }
  }

  @Test("trailing bytes, too many elements and text that is not UTF-8 are refused")
  func rest() throws {
    var reader = FieldReader([0, 0, 0, 0, 9])
    _ = try reader.field()
    #expect(throws: CodecError.trailingBytes) { try reader.finish() }
    let list = fields { $0.list { inner in for _ in 0..<3 { inner.field([UInt8]()) } } }
    func read(maxCount: Int) throws {
      var reader = FieldReader(list)
      try reader.list(maxCount: maxCount) { (inner) throws(CodecError) in _ = try inner.field() }
    }
    #expect(throws: Never.self) { try read(maxCount: 3) }
    #expect(throws: CodecError.tooLarge) { try read(maxCount: 2) }
    for text: [UInt8] in [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf5, 0x80, 0x80, 0x80]] {
      var reader = FieldReader(fields { $0.field(text) })
      #expect(throws: CodecError.nonCanonical) { try reader.string(max: 10) }
    }
  }

  @Test("hexadecimal has one form")
  func hexadecimal() {
    #expect(bytes(hex: "00ff") == [0, 255])
    #expect(bytes(hex: "") == [])
    for text in ["0", "0g", "FF", "0x", " 00", "００"] { #expect(bytes(hex: text) == nil, "\(text)") }
  }
}

@Suite("Names")
struct NameTests {
  @Test(
    "addresses in their one form are accepted",
    arguments: [
      "a@b.c", "planner@acme.example", "0@1.example", "a.b-c_d@x-y.example", "a@xn--bcher-kva.example",
      String(repeating: "a", count: 63) + "@" + String(repeating: "b", count: 63) + ".example",
    ])
  func accepted(text: String) throws {
    #expect(try Address(text).text == text)
    #expect(try Address(Array(text.utf8)[...]) == Address(text))
  }

  @Test(
    "anything else is refused, never folded",
    arguments: [
      "", "@", "a@", "@b.c", "a@b", "A@b.c", "a@B.c", "a@b.C", "a b@c.d", "a@b.c ", " a@b.c", "a@b.c.",
      "a@.b.c",
      "a@b..c", "a@-b.c", "a@b-.c", "a@b_c.d", "-a@b.c", ".a@b.c", "_a@b.c", "#a@b.c", "+a@b.c", "a+b@c.d",
      "a@b@c.d", "ä@b.c", "a@ä.c", "a\u{301}@b.c", "a@\u{301}b.c", "a\u{0}@b.c", "ａ@b.c", "a@b.c\n", "ſ@b.c",
      "\u{212A}@b.c", String(repeating: "a", count: 64) + "@b.c",
      "a@" + String(repeating: "b", count: 64) + ".c",
      "a@" + String(repeating: "b.", count: 126) + "cc",
    ])
  func refused(text: String) {
    #expect(throws: CodecError.nonCanonical) { try Address(text) }
    #expect(throws: CodecError.nonCanonical) { try Address(Array(text.utf8)[...]) }
  }

  @Test("a node's name goes up to 253 bytes")
  func nodeNameLength() throws {
    let long = String(repeating: "b.", count: 126) + "c"
    #expect(long.utf8.count == 253)
    #expect(throws: Never.self) { try NodeName(long) }
    #expect(throws: CodecError.nonCanonical) { try NodeName("a" + long) }
  }

  @Test("a node id has one text: spare bits, upper case, padding and another prefix are refused")
  func nodeIDs() throws {
    var generator = SeededGenerator(seed: 5)
    for _ in 0..<50 {
      let id = NodeID(try #require(SigningPublicKey(generator.bytes(32))))
      #expect(try NodeID(parsing: id.description) == id)
    }
    let text = NodeID(try #require(SigningPublicKey(generator.bytes(32)))).description
    let last = try #require(text.last)
    // 52 digits carry 260 bits: the last digit has four spare ones and is one of two.
    #expect("aq".contains(last))
    for digit in "abcdefghijklmnopqrstuvwxyz234567" where !"aq".contains(digit) {
      #expect(throws: CodecError.nonCanonical) { try NodeID(parsing: text.dropLast() + String(digit)) }
    }
    for bad in [
      text.uppercased(), text + "=", String(text.dropLast()), text + "a", "engram-node", "engram-node:",
      String(text.dropFirst(12)), "engram-nodf:" + text.dropFirst(12), " " + text,
    ] {
      #expect(throws: CodecError.nonCanonical) { try NodeID(parsing: bad) }
    }
    #expect(base32Decode("") == [])
    for bad in ["a", "aaa", "aaaaaa", "a1", "aA", "a=", "ab"] { #expect(base32Decode(bad) == nil, "\(bad)") }
    #expect(base32Decode("me") == [0x61], "control")
  }

  @Test("topics are dot-separated tokens")
  func topics() {
    for good in ["a", "a.b", "builds.linux_x86.failed-2"] { #expect(isTopic(good)) }
    for bad in ["", ".", "a.", ".a", "a..b", "A", "a b", "ä", String(repeating: "a", count: 256)] {
      #expect(!isTopic(bad))
    }
  }

  @Test("message types and priorities have the numbers and names of the protocol")
  func numbers() {
    let types = [
      "STARTUP": 1, "SHUTDOWN": 2, "HEARTBEAT": 3, "TASK_REQUEST": 16, "TASK_PROGRESS": 17, "TASK_RESULT": 18,
      "TASK_CANCEL": 19, "QUERY": 32, "RESPONSE": 33, "BROADCAST": 34, "DIRECT": 35, "ERROR": 48,
      "WARNING": 49,
      "INFO": 50, "CAPABILITY": 64, "HANDOFF": 65, "CONTEXT": 66,
    ]
    #expect(MessageType.allCases.count == types.count)
    for (name, number) in types { #expect(MessageType(name: name)?.rawValue == UInt8(number)) }
    let priorities = Priority.allCases.map { "\($0.rawValue) \($0.name)" }
    #expect(priorities == ["1 LOW", "2 NORMAL", "3 HIGH", "4 URGENT", "5 CRITICAL"])
  }
}

@Suite("Padmé")
struct PaddingTests {
  @Test("padded lengths never shrink, are fixed points, and add at most 12 % above the floor")
  func properties() {
    var last = 0
    for length in Array(0...5_000) + stride(from: 5_001, to: Limits.bodyBytesMax, by: 7_919) {
      let padded = paddedLength(of: length)
      #expect(padded >= length && padded >= last)
      #expect(paddedLength(of: padded) == padded)
      #expect(isPaddedLength(padded))
      if length > Limits.paddedBytesMin { #expect(Double(padded) <= Double(length) * 1.12) }
      last = padded
    }
    for length in [0, 1, 255, 257, 271, 273, 1_025] { #expect(!isPaddedLength(length)) }
  }

  @Test("the lengths agree with the definition in the paper, computed another way")
  func definition() {
    for length in stride(from: 257, to: 100_000, by: 13) {
      // E = floor(log2 L), S = floor(log2 E) + 1: keep S bits below the leading one.
      var exponent = 0
      while length >> (exponent + 1) > 0 { exponent += 1 }
      var kept = 1
      while exponent >> kept > 0 { kept += 1 }
      let step = 1 << (exponent - kept)
      #expect(paddedLength(of: length) == (length + step - 1) / step * step)
    }
  }
}
