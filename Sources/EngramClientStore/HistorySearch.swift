package import EngramCore

/// What a search asks of a message; what is nil is not asked. All of it has to hold.
package struct HistoryFilter: Sendable, Equatable {
  package var text: TextQuery?
  package var sender: Address?
  package var recipient: Address?
  package var type: MessageType?
  package var priority: Priority?
  package var thread: ThreadID?
  /// The value nil: the label is there, whatever it says.
  package var labels: [(key: String, value: String?)] = []
  /// By the time that the sender gave.
  package var sinceMs: UInt64?
  package var untilMs: UInt64?

  package init() {}

  package static func == (a: Self, b: Self) -> Bool { a.encoded() == b.encoded() }

  /// One value for equal filters: a cursor belongs to the filter that it was made with.
  package func encoded() -> [UInt8] {
    fields { w in
      w.list { list in for word in text?.words ?? [] { list.field(word) } }
      w.list { list in for phrase in text?.phrases ?? [] { list.field(phrase.joined(separator: " ")) } }
      w.field(UInt8(text?.stems == true ? 1 : 0))
      w.field(sender?.text ?? "")
      w.field(recipient?.text ?? "")
      w.field(type?.rawValue ?? 0)
      w.field(priority?.rawValue ?? 0)
      w.field(thread?.bytes ?? [])
      w.list { list in
        for label in labels {
          list.field(label.key)
          list.field(label.value.map { "=" + $0 } ?? "")
        }
      }
      w.field(sinceMs ?? 0)
      w.field(untilMs ?? .max)
    }
  }

  /// Whether the index has to be asked.
  package var needsIndex: Bool { text != nil || recipient != nil || !labels.isEmpty }
}

extension ClientSnapshot {
  /// Kept messages that pass a filter, newest first, from below a row on. Phrases are not looked at here.
  ///
  /// A page is stable under writes: new messages have higher rows, and rows are never used again.
  package func search(_ filter: HistoryFilter, below row: Int64, limit: Int) throws -> [HistoryRow] {
    var conditions = ["h.row < ?"]
    var arguments: [Argument] = [.number(row)]
    func add(_ condition: String, _ argument: Argument?) {
      guard let argument else { return }
      conditions.append(condition)
      arguments.append(argument)
    }
    add("h.sender = ?", filter.sender.map { .text($0.text) })
    add("h.type = ?", filter.type.map { .number($0.rawValue) })
    add("h.priority = ?", filter.priority.map { .number($0.rawValue) })
    add("h.thread = ?", filter.thread.map { .bytes($0.bytes) })
    add("h.created_ms >= ?", filter.sinceMs.map { .number($0) })
    add("h.created_ms < ?", filter.untilMs.map { .number($0) })
    var source = "history AS h"
    if filter.needsIndex {
      source = "history_text AS t JOIN history AS h ON h.row = t.rowid"
      add("history_text MATCH ?", .text(match(filter)))
      add("t.rowid < ?", .number(row))
    }
    arguments.append(.number(limit))
    let condition = conditions.joined(separator: " AND ") + " ORDER BY h.row DESC LIMIT ?"
    return try history(from: source, where: condition, arguments)
  }

  /// https://www.sqlite.org/fts5.html section 3: column filters, AND, OR over quoted tokens.
  private func match(_ filter: HistoryFilter) -> String {
    var facets: [String] = []
    if let recipient = filter.recipient { facets.append(searchKey.recipient(recipient)) }
    for label in filter.labels {
      facets.append(
        label.value.map { searchKey.label(label.key, $0) } ?? searchKey.label(label.key))
    }
    var parts: [String] = []
    if let text = filter.text { parts.append("words : (\(text.match(searchKey)))") }
    if !facets.isEmpty {
      parts.append("facets : (\(facets.map { "\"\($0)\"" }.joined(separator: " AND ")))")
    }
    return parts.joined(separator: " AND ")
  }

  /// Whether messages were kept since the index was last brought up to date.
  package func isIndexBehind() throws -> Bool {
    try first("SELECT (SELECT ifnull(max(row), 0) FROM history) > indexed_through FROM account") {
      try $0.flag(0)
    } ?? false
  }
}

extension ClientTransaction {
  /// Indexes the oldest messages that are not indexed yet. Done before a search rather than on arrival, where
  /// it would cost every message what few ever need.
  /// - Returns: how many were done; fewer than `limit` when the index is complete.
  package func indexHistory(limit: Int = HistoryLimits.indexedPerCommit) throws -> Int {
    let through = try first("SELECT indexed_through FROM account") { Int64(try $0.number(0)) } ?? 0
    let rows = try history(
      where: "h.row > ? ORDER BY h.row LIMIT ?", [.number(through), .number(limit)])
    for row in rows {
      var facets = row.head.recipients.map { searchKey.recipient($0) }
      for label in row.head.labels {
        facets += [searchKey.label(label.key), searchKey.label(label.key, label.value)]
      }
      try execute(
        "INSERT INTO history_text (rowid, words, facets) VALUES (?, ?, ?)",
        [
          .number(row.row), .text(try indexTokens(of: indexableText(row) ?? "", key: searchKey)),
          .text(facets.sorted().joined(separator: " ")),
        ])
    }
    if let last = rows.last {
      try execute("UPDATE account SET indexed_through = ?", [.number(last.row)])
    }
    return rows.count
  }

  private func indexableText(_ row: HistoryRow) throws -> String? {
    guard row.hasBody, isTextual(row.head.contentType), let body = try body(of: row.envelopeID) else {
      return nil
    }
    // A cut inside a character costs that character, not the text.
    return String(decoding: body.prefix(HistoryLimits.indexedBytesMax), as: UTF8.self)
  }
}

/// Whether bodies of a MIME type are text that people search in.
package func isTextual(_ contentType: String) -> Bool {
  let essence = contentType.prefix { $0 != ";" }.lowercased().filter { !$0.isWhitespace }
  return essence.hasPrefix("text/") || essence.hasSuffix("json") || essence.hasSuffix("xml")
    || essence.hasSuffix("yaml")
}
