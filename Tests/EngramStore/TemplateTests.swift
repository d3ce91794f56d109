import EngramCore
import EngramStore
import GRDB
import Testing

@Suite("Templates in the store")
struct TemplateTests {
  private let folder: Folder
  private let store: Store

  init() throws {
    folder = try Folder()
    store = try folder.open()
  }

  private func row(_ name: String, _ version: Int) throws -> TemplateRow {
    TemplateRow(
      name: name, version: version, author: try Address("alice@acme.example"), createdMs: now,
      document: Array("\(name) \(version)".utf8))
  }

  private func insert(_ rows: TemplateRow...) throws {
    try store.write { transaction in
      for row in rows { try transaction.insertTemplate(row) }
    }
  }

  @Test("every version stays; without a number it is the newest, by number and not by text")
  func versions() throws {
    for version in 1...11 { try insert(try row("review", version)) }
    #expect(try store.read { try $0.template("review", version: nil) } == row("review", 11))
    #expect(try store.read { try $0.template("review", version: 2) } == row("review", 2))
    #expect(try store.read { try $0.template("review", version: 12) } == nil)
    #expect(try store.read { try $0.template("Review", version: nil) } == nil)
    #expect(throws: StoreError.conflict) { try insert(try row("review", 3)) }
    #expect(try store.read { try $0.templateCount() } == 1)
  }

  @Test("the list has the newest of each, by name, page by page")
  func list() throws {
    try insert(try row("b", 1), try row("a", 1), try row("c", 1), try row("a", 2))
    #expect(try store.read { try $0.templates(after: "", maxCount: 2) } == [row("a", 2), row("b", 1)])
    #expect(try store.read { try $0.templates(after: "b", maxCount: 2) } == [row("c", 1)])
    #expect(try store.read { try $0.templates(after: "c", maxCount: 2) }.isEmpty)
    #expect(try store.read { try $0.templateCount() } == 3)
  }

  @Test("a document that changed on the disk is not handed out")
  func damage() throws {
    try insert(try row("a", 1), try row("b", 1))
    #expect(try store.read { try $0.template("a", version: 1) } == row("a", 1), "the control")
    try folder.raw { try $0.execute(sql: "UPDATE template SET document = x'61' WHERE name = 'a'") }
    #expect(throws: StoreError.damaged(.template, row: 1)) {
      try store.read { try $0.template("a", version: 1) }
    }
    #expect(try store.read { try $0.template("b", version: 1) } == row("b", 1))
  }
}
