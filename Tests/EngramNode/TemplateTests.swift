import EngramCore
import EngramNode
import TestSupport
import Testing

@Suite("Templates of a node")
struct TemplateTests {
  private let acme: NodeFixture
  private let alice: ClientSession
  private let bob: ClientSession

  init() throws {
    acme = try NodeFixture("acme.example")
    alice = try acme.join(try TestDevice("alice@acme.example"))
    bob = try acme.join(try TestDevice("bob@acme.example"))
  }

  private func put(
    _ name: String, _ text: String, _ session: ClientSession
  ) -> Result<StoredTemplate, ErrorCode> {
    acme.wait { acme.node.putTemplate(name, document: Array(text.utf8), session, completion: $0) }
  }

  private func code(_ result: Result<StoredTemplate, ErrorCode>) -> ErrorCode? {
    if case .failure(let code) = result { code } else { nil }
  }

  @Test("each put makes the next version, and the versions before it stay")
  func versions() throws {
    #expect(try put("review", "one", alice).get().version == 1)
    #expect(try put("review", "two", alice).get().version == 2)
    #expect(try acme.node.template("review", version: nil).document == Array("two".utf8))
    #expect(try acme.node.template("review", version: 1).document == Array("one".utf8))
    #expect(throws: ErrorCode.notFound) { try acme.node.template("review", version: 3) }
    #expect(throws: ErrorCode.notFound) { try acme.node.template("other", version: nil) }
    #expect(try put("other", "x", bob).get().author.text == "bob@acme.example")
    #expect(try acme.node.templates(after: "", maxCount: 9).map(\.name) == ["other", "review"])
  }

  @Test("the same text again makes no version; an older one does")
  func idempotence() throws {
    _ = try put("review", "one", alice).get()
    #expect(try put("review", "one", alice).get().version == 1)
    #expect(try put("review", "two", alice).get().version == 2)
    #expect(try put("review", "one", alice).get().version == 3)
  }

  @Test("a name belongs to whoever used it first")
  func owner() throws {
    _ = try put("review", "one", alice).get()
    #expect(code(put("review", "two", bob)) == .notPermitted)
    #expect(code(put("review", "one", bob)) == .notPermitted, "not even with the same text")
    #expect(try acme.node.template("review", version: nil).document == Array("one".utf8))
    #expect(try put("review", "two", alice).get().version == 2, "the control")
  }

  @Test("a bad name and a document beyond the bound are refused, and nothing is stored")
  func bounds() throws {
    for name in ["", "Review", "../x", "a b", ".a", String(repeating: "a", count: 64)] {
      #expect(code(put(name, "x", alice)) == .templateInvalid, "\(name)")
    }
    let large = String(repeating: "a", count: TemplateBounds.documentBytesMax)
    #expect(code(put("large", large + "a", alice)) == .tooLarge)
    #expect(try acme.node.templates(after: "", maxCount: 9).isEmpty)
    #expect(try put("large", large, alice).get().version == 1, "the control")
  }

  @Test("there are at most so many names, and old ones still get versions")
  func quota() throws {
    for number in 0..<TemplateBounds.namesMax { _ = try put("t\(number)", "x", alice).get() }
    #expect(code(put("one-more", "x", alice)) == .quotaExceeded)
    #expect(try put("t0", "y", alice).get().version == 2)
  }

  @Test("templates are there after a restart")
  func restart() throws {
    _ = try put("review", "one", alice).get()
    try acme.stop()
    let again = try NodeFixture("acme.example", directory: acme.directory)
    #expect(try again.node.template("review", version: 1).document == Array("one".utf8))
    try again.stop()
  }
}
