package import EngramCore

/// One version of a template of this organisation. What the document says is not the node's business.
package struct TemplateRow: Equatable, Sendable {
  package var name: String
  package var version: Int
  package var author: Address
  package var createdMs: UInt64
  package var document: [UInt8]

  package init(name: String, version: Int, author: Address, createdMs: UInt64, document: [UInt8]) {
    (self.name, self.version, self.author) = (name, version, author)
    (self.createdMs, self.document) = (createdMs, document)
  }
}

private let templateColumns = "name, version, author, created_ms, document, check_sum"

extension StoreSnapshot {
  /// A version of a template, or the newest.
  /// - Throws: `damaged` when it does not match its check sum.
  package func template(_ name: String, version: Int?) throws(StoreError) -> TemplateRow? {
    let sql = """
      SELECT \(templateColumns) FROM template WHERE name = ?1 AND (?2 IS NULL OR version = ?2)
      ORDER BY version DESC LIMIT 1
      """
    return try first(
      sql, [.text(name), .integer(version.map { Int64($0) })], .template, key: 1, StoreSnapshot.templateRow)
  }

  /// The newest version of each template after a name, by name.
  package func templates(after name: String, maxCount: Int) throws(StoreError) -> [TemplateRow] {
    let sql = """
      SELECT \(templateColumns) FROM template AS t WHERE name > ?1
        AND version = (SELECT max(version) FROM template WHERE name = t.name)
      ORDER BY name LIMIT ?2
      """
    return try all(
      sql, [.text(name), .integer(maxCount)], .template, key: 1, StoreSnapshot.templateRow)
  }

  package func templateCount() throws(StoreError) -> Int {
    try first("SELECT count(DISTINCT name) FROM template", [], .template) { try $0.count(0) } ?? 0
  }

  private static func templateRow(_ fields: Fields) throws(StoreError) -> TemplateRow {
    let document = try fields.bytes(4)
    guard try fields.identifier(5, as: CheckSum.self) == checkSum(document) else { throw fields.damaged }
    return TemplateRow(
      name: try fields.text(0), version: try fields.count(1), author: try fields.address(2),
      createdMs: try fields.ordered(3), document: document)
  }
}

extension StoreTransaction {
  /// - Throws: `conflict` when that version is there: versions never change.
  package func insertTemplate(_ row: TemplateRow) throws(StoreError) {
    try execute(
      "INSERT INTO template (\(templateColumns)) VALUES (?, ?, ?, ?, ?, ?)",
      [
        .text(row.name), .integer(row.version), .text(row.author.text), .ordered(row.createdMs),
        .bytes(row.document), .bytes(checkSum(row.document).bytes),
      ])
  }
}
