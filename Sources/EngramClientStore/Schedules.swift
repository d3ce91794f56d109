package import EngramCore

// Messages that this client sends again and again. When and what are sealed; that something is planned, and
// how far it got, is not.

extension Schema {
  static let schedules = """
    CREATE TABLE schedule (
      row INTEGER PRIMARY KEY,
      id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
      plan BLOB NOT NULL,
      content BLOB NOT NULL,
      created_ms INTEGER NOT NULL,
      through_ms INTEGER NOT NULL,
      sent_ms INTEGER,
      code INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    """
}

/// When something is sent, and how far that got.
package struct ScheduleRow: Sendable {
  package let id: MessageID
  /// Opened; what it means is the caller's. Nil when it does not open: damaged, or of another home.
  package let plan: [UInt8]?
  package let createdMs: UInt64
  /// Occurrences up to here are dealt with.
  package let throughMs: UInt64
  /// The last occurrence that was sent.
  package let sentMs: UInt64?
  /// Why the last one went nowhere; `none` when it was sent.
  package let code: ErrorCode
}

extension ClientSnapshot {
  /// In the order in which they were added.
  package func schedules() throws -> [ScheduleRow] {
    try all("SELECT id, plan, created_ms, through_ms, sent_ms, code FROM schedule ORDER BY row") { c in
      let id: MessageID = try c.id16(0)
      return ScheduleRow(
        id: id, plan: try? opened(try c.bytes(1), at: place("schedule", "plan", id.bytes)),
        createdMs: try c.number(2), throughMs: try c.number(3), sentMs: try c.optionalNumber(4),
        code: try c.code(5))
    }
  }

  /// What is sent; nil when it was removed.
  package func scheduledContent(_ id: MessageID) throws -> [UInt8]? {
    try first("SELECT content FROM schedule WHERE id = ?", [.bytes(id.bytes)]) { c in
      try opened(try c.bytes(0), at: place("schedule", "content", id.bytes))
    }
  }
}

extension ClientTransaction {
  /// - Parameter nowMs: occurrences count from here on.
  /// - Throws: `full` when there are too many.
  package func insertSchedule(_ id: MessageID, plan: [UInt8], content: [UInt8], nowMs: UInt64) throws {
    let count = try first("SELECT count(*) FROM schedule") { try $0.count(0) }
    guard count ?? 0 < ClientStoreLimits.schedulesMax else { throw ClientStoreError.full }
    try execute(
      "INSERT INTO schedule (id, plan, content, created_ms, through_ms) VALUES (?, ?, ?, ?, ?)",
      [
        .bytes(id.bytes), .bytes(sealed(plan, at: place("schedule", "plan", id.bytes))),
        .bytes(sealed(content, at: place("schedule", "content", id.bytes))), .number(nowMs), .number(nowMs),
      ])
  }

  /// Everything up to `throughMs` is dealt with. Nothing happens when it was removed meanwhile.
  /// - Parameters:
  ///   - sentMs: the occurrence that was sent, nil when none was.
  ///   - code: why the last one went nowhere.
  package func noteSchedule(_ id: MessageID, throughMs: UInt64, sentMs: UInt64?, code: ErrorCode) throws {
    try execute(
      "UPDATE schedule SET through_ms = ?, sent_ms = ifnull(?, sent_ms), code = ? WHERE id = ?",
      [.number(throughMs), .number(sentMs), .code(code), .bytes(id.bytes)])
  }

  /// - Returns: false when there was none.
  package func removeSchedule(_ id: MessageID) throws -> Bool {
    try execute("DELETE FROM schedule WHERE id = ?", [.bytes(id.bytes)]) > 0
  }
}
