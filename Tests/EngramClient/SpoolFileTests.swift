import EngramCore
import Foundation
import Testing

@testable import EngramClient

@Suite("Names and documents of a spool")
struct SpoolFileTests {
  private let uuid = "01234567-89ab-cdef-0123-456789abcdef"
  private var name: SpoolName { get throws { try SpoolName(parsing: "p3_1767225600123_\(uuid).json") } }

  private func parse(_ json: String) throws -> SpoolDocument {
    try SpoolDocument(parsing: Array(json.utf8), name: name)
  }

  private func problem(_ body: () throws -> Void) -> String? {
    do { try body() } catch { return (error as? SpoolProblem)?.name ?? "\(error)" }
    return nil
  }

  @Test(
    "a timestamp is milliseconds, seconds or written out, and always written as milliseconds",
    arguments: [
      ("1767225600123", 1_767_225_600_123), ("1767225600", 1_767_225_600_000),
      ("20260101T000000Z", 1_767_225_600_000), ("20260101T000000", 1_767_225_600_000),
      ("20260101T000000.123Z", 1_767_225_600_123), ("20260101T000000.1Z", 1_767_225_600_100),
    ] as [(String, UInt64)])
  func timestamps(_ text: String, _ ms: UInt64) throws {
    let name = try SpoolName(parsing: "p5_\(text)_\(uuid).json")
    #expect(name.timestampMs == ms && name.priority == .critical)
    #expect(name.text == "p5_\(ms)_\(uuid).json")
    #expect(name.id.description == uuid.filter { $0 != "-" })
  }

  @Test(
    "what is not a name of a spool is none",
    arguments: [
      "", "p3.json", "p0_1_U.json", "p6_1_U.json", "p３_1_U.json", "P3_1_U.json", "p33_1_U.json", "3_1_U.json",
      "p3__U.json", "p3_-1_U.json", "p3_+1_U.json", "p3_1e3_U.json", "p3_9999999999999999_U.json",
      "p3_20261301T000000Z_U.json", "p3_20260101T250000Z_U.json", "p3_20260101T006000Z_U.json",
      "p3_20260101T_U.json", "p3_1_.json",
      "p3_1_../../etc/passwd.json", "p3_1_01234567.json", "p3_1_U", "p3_1_U.json.tmp", "p3_1_U_2.json",
      "p3_1_0123456789abcdef0123456789abcde.json", "p3_1_0123456-789ab-cdef-0123-456789abcdef.json",
    ])
  func badNames(_ pattern: String) {
    let file = pattern.replacing("U", with: uuid)
    #expect(problem { _ = try SpoolName(parsing: file) } == "spool-name", "\(file)")
  }

  @Test("urgent comes first, then old")
  func order() throws {
    let names = try ["p1_1_U", "p5_3_U", "p5_2_U", "p3_1_U"].map {
      try SpoolName(parsing: $0.replacing("U", with: uuid) + ".json")
    }
    #expect(
      names.sorted().map { "\($0.priority.rawValue) \($0.timestampMs)" } == [
        "5 2000", "5 3000", "3 1000", "1 1000",
      ])
  }

  @Test("a document with everything is read, and written so that it reads the same")
  func document() throws {
    let json = """
      {"id": "\(uuid)", "from": "alice@acme.example", "to": ["bob@globex.example", "eve@acme.example"],
       "type": "TASK_REQUEST", "priority": 3, "created": "2026-01-01T00:00:00Z", "expires": 1767229200,
       "not_before": "2026-01-01T00:10:00.500Z", "thread": "fedcba98-7654-3210-fedc-ba9876543210",
       "reply_to": "\(String(repeating: "ab", count: 32))", "labels": {"project": "apollo"},
       "content_type": "text/plain", "body": "Grüße\\n"}
      """
    let document = try parse(json)
    #expect(document.to == ["bob@globex.example", "eve@acme.example"] && document.type == "TASK_REQUEST")
    #expect(document.createdMs == 1_767_225_600_000 && document.expiresMs == 1_767_229_200_000)
    #expect(document.notBeforeMs == 1_767_226_200_500)
    #expect(document.thread == "fedcba9876543210fedcba9876543210" && document.labels == ["project": "apollo"])
    #expect(document.body == Array("Grüße\n".utf8))
    #expect(try SpoolDocument(parsing: document.encoded(), name: document.name) == document)
  }

  @Test("receipts in a file are kept as they are, whatever they say")
  func receipts() throws {
    let odd =
      #"[{"state": "processed", "by": "mallory", "n": 12345678901234567890}, "x", null, [true, 1.5], {}]"#
    let document = try parse(#"{"to": "b@a.example", "body": "x", "receipts": \#(odd)}"#)
    #expect(document.receipts?.count == 5 && document.state == nil)
    #expect(
      document.receipts?.first
        == .object([
          "state": .text("processed"), "by": .text("mallory"),
          "n": .number(try #require(Decimal(string: "12345678901234567890"))),
        ]))
    #expect(document.receipts?[3] == .list([.flag(true), .number(1.5)]))
    #expect(try SpoolDocument(parsing: document.encoded(), name: document.name) == document)
    #expect(try parse(#"{"to": "b@a.example", "body": "x"}"#).receipts == nil, "the control")
  }

  @Test("little is enough: a recipient and a body, as text or in base64")
  func small() throws {
    let document = try parse(#"{"to": "bob@globex.example", "body": "hi"}"#)
    #expect(document.to == ["bob@globex.example"] && document.type == "DIRECT" && document.priority == .high)
    #expect(document.createdMs == 1_767_225_600_123 && document.expiresMs == nil)
    let binary = try parse(#"{"to": ["bob@globex.example"], "body_base64": "AP8B", "ttl_seconds": 60}"#)
    #expect(binary.body == [0, 0xFF, 1] && binary.contentType == "application/octet-stream")
    #expect(binary.expiresMs == 1_767_225_660_123)
    #expect(try SpoolDocument(parsing: binary.encoded(), name: binary.name) == binary)
    var text = document
    text.body = [0xFF, 0xFE]
    #expect(
      try SpoolDocument(parsing: text.encoded(), name: text.name) == text, "what is no text is kept exactly")
    #expect(try parse(#"{"to": "b@a.example", "body": "x", "priority": "HIGH"}"#).priority == .high)
  }

  @Test("a document that says too much, too little or something else is refused with its own code")
  func badDocuments() throws {
    let cases: [(String, String)] = [
      ("", "spool-not-json"), ("{", "spool-not-json"), ("[]", "spool-not-json"), ("7", "spool-not-json"),
      (#"{"to": "b@a.example"}"#, "spool-bad-value"), (#"{"body": "x"}"#, "spool-bad-value"),
      (#"{"to": [], "body": "x"}"#, "spool-bad-value"), (#"{"to": 7, "body": "x"}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": 7}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "body_base64": "AA=="}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body_base64": "?"}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "colour": 1}"#, "spool-unknown-key"),
      (#"{"to": "b@a.example", "body": "x", "Body": "y"}"#, "spool-unknown-key"),
      (
        #"{"to": "b@a.example", "body": "x", "id": "fedcba98-7654-3210-fedc-ba9876543210"}"#,
        "spool-contradiction"
      ),
      (#"{"to": "b@a.example", "body": "x", "id": "../x"}"#, "spool-contradiction"),
      (#"{"to": "b@a.example", "body": "x", "priority": 2}"#, "spool-contradiction"),
      (#"{"to": "b@a.example", "body": "x", "priority": 9}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "priority": "HIGHEST"}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "expires": "tomorrow"}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "ttl_seconds": 18446744073709551615}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "direction": "sideways"}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "labels": {"a": 1}}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "receipts": "processed"}"#, "spool-bad-value"),
      (#"{"to": "b@a.example", "body": "x", "receipts": {"state": "processed"}}"#, "spool-bad-value"),
      (
        #"{"to": "b@a.example", "body": "x", "receipts": \#(String(repeating: "[", count: 600))"#,
        "spool-not-json"
      ),
    ]
    for (json, name) in cases { #expect(problem { _ = try parse(json) } == name, "\(json)") }
    let bytes = Array(#"{"to": "b@a.example", "body": ""#.utf8) + [0xFF] + Array(#""}"#.utf8)
    #expect(problem { _ = try SpoolDocument(parsing: bytes, name: try name) } == "spool-not-utf8")
  }

  @Test(
    "a key that stands twice in one object is refused, however it is spelled",
    arguments: [
      #"{"to": "b@a.example", "body": "x", "to": "c@a.example"}"#,
      #"{"to": "b@a.example", "body": "x", "\u0074o": "c@a.example"}"#,
      #"{"to": "b@a.example", "body": "x", "body": "x"}"#,
      #"{"to": ["b@a.example"], "labels": {"a": "1", "b": "2", "a": "1"}, "body": "x"}"#,
      #"{"to": "b@a.example", "labels": {"\u00e9": "1", "e\u0301": "2"}, "body": "x"}"#,
      #"{"to": "b@a.example", "body": "x", "receipts": [[{}, {"a": [{"b": 1, "b": 1}]}]]}"#,
      #"{"body": "\\", "to": "b@a.example", "type":"DIRECT","type" : "DIRECT"}"#,
    ])
  func repeatedKeys(_ json: String) { #expect(problem { _ = try parse(json) } == "spool-repeated-key") }

  @Test(
    "the same word in different objects, in a list or in a value is no repeated key",
    arguments: [
      #"{"to": "b@a.example", "body": "{\"to\": 1, \"to\": 2}", "labels": {"to": "to", "body": "to"}}"#,
      #"{"to": ["b@a.example", "b@a.example"], "body": "to", "receipts": [{"a": 1}, {"a": {"a": 1}}, "a"]}"#,
      #"{"to": "b@a.example", "body": "\\", "labels": {}, "receipts": [], "type": "DIRECT"}"#,
    ])
  func differentKeys(_ json: String) throws { _ = try parse(json) }

  @Test("zeros that would make a decoder read something else than we do are refused")
  func otherEncodings() throws {
    let json = #"{"to": "b@a.example", "body": "x"}"#
    let wide: [UInt8] = json.utf8.flatMap { (byte: UInt8) -> [UInt8] in [byte, 0] }
    #expect(problem { _ = try SpoolDocument(parsing: wide, name: try name) } == "spool-not-json")
    _ = try SpoolDocument(parsing: Array(json.utf8), name: try name)
  }

  @Test("what a file says is shown without what would drive a terminal")
  func messages() {
    #expect(!SpoolProblem.unknownKey("\u{1B}[2J").message.contains("\u{1B}"))
    #expect(!SpoolProblem.repeatedKey("a\u{202E}b\u{2028}").message.contains("\u{202E}"))
    #expect(SpoolProblem.unknownKey("colour").message.contains("'colour'"), "the control")
  }
}
