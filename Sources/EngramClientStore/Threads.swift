package import EngramCore

/// A conversation as this device knows it.
package struct ThreadRow: Sendable, Equatable {
  package let thread: ThreadID
  /// Messages kept here, our own among them.
  package let messages: Int
  /// Received and not acknowledged.
  package let open: Int
  package let firstMs: UInt64
  package let lastMs: UInt64
  /// The newest kept message, which orders threads.
  package let lastRow: Int64
}

extension ClientSnapshot {
  /// The newest row of the history: the horizon of a listing.
  package func newestRow() throws -> Int64 {
    try first("SELECT ifnull(max(row), 0) FROM history") { Int64(try $0.number(0)) } ?? 0
  }

  /// Threads by their newest message, newest first, as they stood when `horizon` was the newest row: pages do
  /// not shift when messages arrive between them.
  /// - Parameter below: the `lastRow` of the last thread of the page before.
  package func threads(horizon: Int64, below: Int64, limit: Int) throws -> [ThreadRow] {
    try all(
      """
      SELECT h.thread, count(*), count(i.row), min(h.created_ms), max(h.created_ms), max(h.row)
      FROM history AS h LEFT JOIN inbox AS i ON i.envelope_id = h.envelope_id AND i.receipt IS NULL
      WHERE h.row <= ? GROUP BY h.thread HAVING max(h.row) < ? ORDER BY max(h.row) DESC LIMIT ?
      """, [.number(horizon), .number(below), .number(limit)]
    ) { c in
      ThreadRow(
        thread: try c.id16(0), messages: try c.count(1), open: try c.count(2), firstMs: try c.number(3),
        lastMs: try c.number(4), lastRow: Int64(try c.number(5)))
    }
  }

  /// Who wrote in a thread, by address.
  package func senders(in thread: ThreadID) throws -> [Address] {
    try all(
      "SELECT DISTINCT sender FROM history WHERE thread = ? ORDER BY sender", [.bytes(thread.bytes)]
    ) { try $0.address(0) }
  }

  /// The newest messages of a thread, in order of arrival.
  package func messages(in thread: ThreadID, limit: Int) throws -> [HistoryRow] {
    try history(where: "h.thread = ? ORDER BY h.row DESC LIMIT ?", [.bytes(thread.bytes), .number(limit)])
      .reversed()
  }

  package func message(row: Int64) throws -> HistoryRow? {
    try history(where: "h.row = ?", [.number(row)]).first
  }

  /// Thread and parent of a message that was opened or sent here.
  package func lineage(of id: EnvelopeID) throws -> (thread: ThreadID, parent: EnvelopeID?)? {
    try first("SELECT thread, parent FROM history WHERE envelope_id = ?", [.bytes(id.bytes)]) {
      (try $0.id16(0), try $0.optionalID32(1))
    }
  }
}
