import EngramCore
import TestSupport
import Testing

@Suite("Topics and patterns")
struct TopicTests {
  @Test(
    "a topic is words joined by dots",
    arguments: ["a", "orders.new", "a-b_c.0", "x.y.z", String(repeating: "a", count: 64)])
  func topics(text: String) throws {
    #expect(try Topic(text).text == text)
    #expect(try TopicPattern(text).topic?.text == text)
  }

  @Test(
    "everything else is refused, never folded",
    arguments: [
      "", ".", "a.", ".a", "a..b", "A", "a b", "a.*", ">", "a.>", "ö", "a/b", "a@b", "#a",
      String(repeating: "a", count: 65), Array(repeating: "abcdefg", count: 33).joined(separator: "."),
    ])
  func badTopics(text: String) { #expect(throws: CodecError.nonCanonical) { try Topic(text) } }

  @Test(
    "a pattern has whole wildcards only, and > at its end only",
    arguments: ["a*", "*a", "a.b*", ">.a", "a.>.b", ">>", "**", "a.>b", "*.", "", "a..>", "a.*.B"])
  func badPatterns(text: String) { #expect(throws: CodecError.nonCanonical) { try TopicPattern(text) } }

  @Test("the longest topic is as long as a header's field, and one byte more is refused")
  func bounds() throws {
    let words = Array(repeating: String(repeating: "a", count: 63), count: 4).joined(separator: ".")
    #expect(words.utf8.count == Limits.topicBytesMax)
    #expect(try Topic(words).text == words)
    #expect(throws: CodecError.nonCanonical) { try Topic("b" + words) }
    #expect(throws: CodecError.nonCanonical) { try TopicPattern(words + ".>") }
  }

  @Test(
    "matching, by example",
    arguments: [
      ("orders.new", "orders.new", true), ("orders.new", "orders.old", false),
      ("orders.*", "orders.new", true), ("orders.*", "orders", false),
      ("orders.*", "orders.new.eu", false), ("*.new", "orders.new", true),
      ("*", "orders", true), ("*", "orders.new", false), ("*.*", "orders.new", true),
      ("orders.>", "orders.new", true), ("orders.>", "orders.new.eu", true), ("orders.>", "orders", false),
      (">", "orders", true), (">", "a.b.c.d", true), ("*.>", "a", false), ("*.>", "a.b", true),
      ("a.*.c.>", "a.b.c.d", true), ("a.*.c.>", "a.b.c", false), ("ab.>", "a.b", false),
    ])
  func examples(pattern: String, topic: String, matches: Bool) throws {
    #expect(try TopicPattern(pattern).matches(try Topic(topic)) == matches)
  }

  /// The same rule, written as a recursion over the two lists.
  private func oracle(_ pattern: ArraySlice<String>, _ topic: ArraySlice<String>) -> Bool {
    guard let first = pattern.first else { return topic.isEmpty }
    if first == ">" { return !topic.isEmpty }
    guard let word = topic.first, first == "*" || first == word else { return false }
    return oracle(pattern.dropFirst(), topic.dropFirst())
  }

  @Test("matching agrees with its definition for random patterns and topics", arguments: 0..<4)
  func definition(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var matched = 0
    for _ in 0..<5_000 {
      // Few words, so that they meet.
      let topic = generator.array(upTo: 4, atLeast: 1) { $0.one(of: ["a", "b", "ab"]) }
      var pattern = generator.array(upTo: 4, atLeast: 1) { $0.one(of: ["a", "b", "ab", "*", "*"]) }
      if generator.count(upTo: 3) == 0 { pattern.append(">") }
      let parsed = try TopicPattern(pattern.joined(separator: "."))
      let expected = oracle(pattern[...], topic[...])
      matched += expected ? 1 : 0
      #expect(parsed.matches(try Topic(topic.joined(separator: "."))) == expected)
      // Rows are found by their first word: what matches must be among those that are looked at.
      if expected { #expect([topic[0], "*", ">"].contains(parsed.head)) }
    }
    #expect((500..<4_500).contains(matched), "the property would hold for nothing")
  }

  @Test("every text that parses is the one text of its value, and noise crashes nothing")
  func noise() {
    var generator = SeededGenerator(name: "topic noise")
    var parsed = 0
    for _ in 0..<20_000 {
      let text = String((0...generator.count(upTo: 12)).map { _ in generator.one(of: "ab.*>#@ A-_é") })
      guard let pattern = try? TopicPattern(text) else { continue }
      parsed += 1
      #expect(pattern.text == text)
      #expect((pattern.topic != nil) == ((try? Topic(text)) != nil))
    }
    #expect(parsed > 100)
  }

  @Test("an address of a topic names its node, or the own one is meant")
  func addresses() throws {
    let acme = try NodeName("acme.example")
    let address = try TopicAddress("#orders.*@globex.example", home: acme)
    #expect(address.text == "orders.*@globex.example" && "\(address)" == "#orders.*@globex.example")
    #expect(address.topic == nil)
    #expect(try TopicAddress("orders.new", home: acme).text == "orders.new@acme.example")
    #expect(throws: CodecError.nonCanonical) { try TopicAddress("orders.new") }
    for bad in ["#", "@acme.example", "orders@", "orders@ACME.example", "##orders@acme.example"] {
      #expect(throws: CodecError.nonCanonical) { try TopicAddress(bad, home: acme) }
    }
  }

  @Test("a header takes a topic and no pattern")
  func header() throws {
    var generator = SeededGenerator(name: "header topic")
    var header = generator.header()
    header.topic = "builds.linux"
    #expect(try EnvelopeHeader(parsing: header.encoded()[...]).topic == "builds.linux")
    for bad in ["builds.*", "builds.>", "Builds", "a..b"] {
      header.topic = bad
      #expect(throws: CodecError.nonCanonical) { try EnvelopeHeader(parsing: header.encoded()[...]) }
    }
  }
}
