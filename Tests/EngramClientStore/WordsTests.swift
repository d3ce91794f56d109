import EngramClientStore
import Testing

@Suite("Words of a text")
struct WordsTests {
  @Test(
    "a text is split and folded the same way wherever it comes from",
    arguments: [
      ("Deploy the BUILD, now!", ["deploy", "the", "build", "now"]),
      ("Über-Größe café", ["uber", "grosse", "cafe"]),
      ("cafe\u{301} = caf\u{e9}", ["cafe", "cafe"]),
      ("ΣΊΣΥΦΟΣ σίσυφος", ["σισυφοσ", "σισυφοσ"]),
      ("Łódź Ærø", ["lodz", "aero"]),
      ("ﬁle ①②", ["file", "12"]),
      ("Москва ЁЛКА", ["москва", "елка"]),
      ("東京 tower", ["東", "京", "tower"]),
      ("don't_stop v2.10", ["don", "t", "stop", "v2", "10"]),
      ("مُحَمَّد", ["محمد"]),
      ("", []), ("—!?…", []),
    ])
  func split(_ text: String, _ words: [String]) { #expect(Words.split(text) == words) }

  @Test("what is longer than any word is left out, and splits what is around it")
  func longRuns() {
    let data = String(repeating: "a1", count: 64)
    #expect(Words.split("before \(data) after") == ["before", "after"])
    #expect(Words.split(String(repeating: "a", count: 64)).count == 1, "control")
  }

  @Test(
    "forms of one English word have one stem, and other words keep theirs",
    arguments: [
      (["report", "reports", "reported", "reporting"], true), (["policy", "policies"], true),
      (["plan", "planned", "planning", "plans"], true), (["class", "classes"], true),
      (["create", "created", "creates"], true), (["status", "stats"], false),
      (["sing", "string"], false), (["bus", "business"], false),
    ])
  func stems(_ words: [String], _ isOne: Bool) {
    let stems = Set(words.map { Words.stem($0) })
    #expect((stems.count == 1) == isOne, "\(stems)")
  }

  @Test("words of other scripts and short words are their own stems")
  func unstemmed() {
    for word in ["как", "東", "is", "as", "x2s", "bed"] { #expect(Words.stem(word) == word) }
  }

  @Test("a query needs a word, and takes quoted words as a phrase")
  func queries() throws {
    #expect(TextQuery("") == nil && TextQuery("\"?!\"") == nil)
    #expect(TextQuery(String(repeating: "w", count: 1)) != nil, "control")
    let query = try #require(TextQuery("deploy \"build failed\" deploy"))
    #expect(query.words == ["deploy", "build", "failed"] && query.phrases == [["build", "failed"]])
    #expect(query.accepts("The build FAILED again") && query.accepts("builds failed"))
    #expect(!query.accepts("failed build") && !query.accepts("build has failed"))
    #expect(!(try #require(TextQuery("\"build failed\"", stems: false))).accepts("builds failed"))
    #expect(try #require(TextQuery("東京")).phrases == [["東", "京"]], "nothing stands between")
    let many = (0...TextQuery.wordsMax).map { "w\($0)" }.joined(separator: " ")
    #expect(TextQuery(many) == nil)
  }
}
