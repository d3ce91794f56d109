import Testing

/// Controls: every rule reports a sample that breaks it, and leaves alone one that only looks as if it did.
@Suite("each rule on text reports a breach")
struct TextRulesTests {
  private func swift(_ text: String, at path: String = "Sources/EngramNode/Sample.swift") -> RepositoryFile {
    RepositoryFile(path: path, text: text)
  }

  @Test("a file of 451 lines is reported, one of 450 is not")
  func fileLength() {
    #expect(TextRules.fileLength(swift(String(repeating: "\n", count: 451))).count == 1)
    #expect(TextRules.fileLength(swift(String(repeating: "\n", count: 450))).isEmpty)
  }

  @Test(
    "a body of 61 lines is reported whatever declares it",
    arguments: ["func f()", "init(x: Int)", "deinit", "var x: Int", "subscript(i: Int) -> Int"])
  func functionLength(declaration: String) {
    func sample(_ lines: Int) -> RepositoryFile {
      swift("struct S {\n\(declaration) {\n\(String(repeating: "a()\n", count: lines - 2))}\n}\n")
    }
    #expect(TextRules.functionLength(sample(61)).map(\.line) == [2])
    #expect(TextRules.functionLength(sample(60)).isEmpty)
  }

  @Test("braces in comments, strings and interpolations do not end a body")
  func bracesThatAreNone() {
    let decoys = #"""
      // }
      /* } /* } */ } */
      a("}", #"}"}"#, "\(b.map { "}" })", "\"}")
      """#
    let body = decoys + String(repeating: "\na()", count: 60)
    #expect(TextRules.functionLength(swift("func f() {\n\(body)\n}\n")).map(\.line) == [1])
  }

  @Test("a value taken by force is reported, but not in tests, and not what only looks like it")
  func forcedValues() {
    for line in ["a(b!)", "let x = y[0]!.z", "try! f()", "f()!", "x!"] {
      #expect(TextRules.forcedValues(swift(line + "\n")).map(\.line) == [1], "\(line)")
      #expect(TextRules.forcedValues(swift(line + "\n", at: "Tests/House/Sample.swift")).isEmpty)
    }
    for line in ["a != b", "!a", "a(!b)", "// x!", "\"x!\"", "a!=b"] {
      #expect(TextRules.forcedValues(swift(line + "\n")).isEmpty, "\(line)")
    }
  }

  @Test("a requirement of a protocol has no body, and a call of init is no declaration")
  func declarationsWithoutBody() {
    let long = String(repeating: "  let x = 1\n", count: 70)
    #expect(TextRules.functionLength(swift("protocol P {\n  func f()\n}\nenum E {\n\(long)}\n")).isEmpty)
    #expect(TextRules.functionLength(swift("let x = S.init(1)\nenum E {\n\(long)}\n")).isEmpty)
  }

  @Test("a long function of C is reported")
  func functionLengthOfC() {
    let body = String(repeating: "  x++;\n", count: 60)
    let file = RepositoryFile(
      path: "Sources/CZstd/a.c", text: "struct s { int a; };\nstatic int\nf(char c) {\n\(body)}\n")
    #expect(TextRules.functionLength(file).map(\.line) == [2])
  }

  @Test("a line of 111 columns is reported unless it holds an address of the web")
  func lineLength() {
    #expect(TextRules.lineLength(swift(String(repeating: "é", count: 111))).count == 1)
    #expect(TextRules.lineLength(swift(String(repeating: "é", count: 110))).isEmpty)
    #expect(
      TextRules.lineLength(swift("// https://example.org/" + String(repeating: "a", count: 110))).isEmpty)
  }

  @Test(
    "work left undone and a bare crash are reported",
    arguments: ["// TODO: later", "// FIXME", "/* XXX */", "fatalError()"])
  func bannedWords(sample: String) {
    #expect(TextRules.bannedWords(swift(sample)).count == 1)
  }

  @Test("words that only contain a banned one are not reported")
  func permittedWords() {
    #expect(TextRules.bannedWords(swift("/tmp/a.XXXXXX todo fatalError(\"why\")")).isEmpty)
  }

  @Test("an unchecked conformance is reported unless a comment stands beside it")
  func uncheckedSendable() {
    let bare = "final class C: @unchecked Sendable {}"
    #expect(TextRules.uncheckedSendable(swift(bare)).count == 1)
    #expect(TextRules.uncheckedSendable(swift("// Confined to one event loop.\n" + bare)).isEmpty)
  }

  @Test("a statement of SQL is reported outside the stores only")
  func straySQL() {
    let text = "let a = 1\nlet q = \"SELECT a FROM b\""
    #expect(TextRules.straySQL(swift(text)).map(\.line) == [2])
    #expect(TextRules.straySQL(swift("let q = \"\"\"\n  DELETE FROM b\n  \"\"\"")).count == 1)
    #expect(TextRules.straySQL(swift(text, at: "Sources/EngramStore/Messages.swift")).isEmpty)
    #expect(TextRules.straySQL(swift("// SELECT a\nlet q = \"RESELECT a\"")).isEmpty)
  }

  @Test(
    "a name that says nothing is reported, in a file as in a folder",
    arguments: [
      "Sources/A/Utils.swift", "Sources/Helpers/A.swift", "Sources/A/PeerManager.swift", "a/common/b",
    ])
  func fileNames(path: String) {
    #expect(TextRules.fileNames(swift("", at: path)).count == 1)
  }

  @Test("a name that merely ends alike is not reported")
  func permittedNames() {
    #expect(TextRules.fileNames(swift("", at: "Tests/Support/Uncommon.swift")).isEmpty)
  }

  @Test("a path of one machine is reported, an address of the web is not")
  func machinePaths() {
    for folder in TextRules.machineFolders {
      #expect(TextRules.machinePaths(swift("see \(folder)x", at: "docs/a.md")).count == 1)
      #expect(TextRules.machinePaths(swift("https://example.org\(folder)x", at: "docs/a.md")).isEmpty)
    }
  }

  @Test("a link that leads nowhere is reported, from the folder of its file")
  func deadLinks() {
    let file = RepositoryFile(
      path: "docs/a.md", text: "[x](b.md) [y](../c.md#part) [z](https://d) [e](#f)\n```\n[g](h)\n```")
    #expect(TextRules.deadLinks(file, exists: { _ in false }).count == 2)
    #expect(TextRules.deadLinks(file, exists: ["docs/b.md", "c.md"].contains).isEmpty)
  }
}
