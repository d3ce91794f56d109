package import EngramCore
internal import EngramStore

/// Bounds of the templates at one node, with their reasons.
package enum TemplateBounds {
  /// The document of a template; what a person reads and keeps in a file.
  package static let documentBytesMax = 320 << 10
  /// Names; a list of them stays readable.
  package static let namesMax = 1_000
  /// Templates of one answer, which carries them whole.
  package static let perPageMax = 20
  /// Versions of one template. Old ones stay, because messages in progress refer to them.
  package static let versionsMax = 1_000
}

/// A version of a template, as it was put.
package struct StoredTemplate: Sendable {
  package let name: String
  /// From 1.
  package let version: Int
  package let author: Address
  package let createdMs: UInt64
  package let document: [UInt8]

  init(_ row: TemplateRow) {
    (name, version, author) = (row.name, row.version, row.author)
    (createdMs, document) = (row.createdMs, row.document)
  }
}

// Templates are text with holes that the members of an organisation share. The node keeps and versions them;
// it neither fills them nor looks into them: rendering happens before sealing, on the client.

extension Node {
  /// Stores the next version of a template. The first version's author owns the name.
  /// - Parameter document: checked for its shape by the edge.
  package func putTemplate(
    _ name: String, document: [UInt8], _ session: ClientSession,
    completion: @escaping @Sendable (Result<StoredTemplate, ErrorCode>) -> Void
  ) {
    guard isLocalName(name) else { return completion(.failure(.templateInvalid)) }
    guard document.count <= TemplateBounds.documentBytesMax else { return completion(.failure(.tooLarge)) }
    commitLoop.submit(
      CommitCommand(weight: 1) { group in
        let newest = try group.transaction.template(name, version: nil)
        if let newest {
          guard newest.author == session.address else { throw ErrorCode.notPermitted }
          // Putting the same text twice, after an answer that was lost, makes no second version.
          guard newest.document != document else {
            return group.afterCommit { _ in completion(.success(StoredTemplate(newest))) }
          }
          guard newest.version < TemplateBounds.versionsMax else { throw ErrorCode.quotaExceeded }
        } else {
          guard try group.transaction.templateCount() < TemplateBounds.namesMax else {
            throw ErrorCode.quotaExceeded
          }
        }
        let row = TemplateRow(
          name: name, version: (newest?.version ?? 0) + 1, author: session.address,
          createdMs: group.nowMs, document: document)
        try group.transaction.insertTemplate(row)
        group.afterCommit { _ in completion(.success(StoredTemplate(row))) }
      } refused: {
        completion(.failure($0))
      })
  }

  /// A blocking read.
  package func template(_ name: String, version: Int?) throws(ErrorCode) -> StoredTemplate {
    guard let row = try reading({ try $0.template(name, version: version) }) else { throw .notFound }
    return StoredTemplate(row)
  }

  /// The newest version of each, by name, after one. A blocking read.
  package func templates(after name: String, maxCount: Int) throws(ErrorCode) -> [StoredTemplate] {
    try reading { try $0.templates(after: name, maxCount: maxCount) }.map(StoredTemplate.init)
  }
}
