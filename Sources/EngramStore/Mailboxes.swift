package import EngramCore

extension StoreSnapshot {
  package func mailbox(_ kind: MailboxKind, owner: [UInt8]) throws(StoreError) -> Int64? {
    try first(
      "SELECT id FROM mailbox WHERE kind = ? AND owner = ?", [.integer(kind.rawValue), .bytes(owner)],
      .mailbox
    ) { try $0.integer(0) }
  }

  /// The highest number ever taken in this mailbox; 0 when none was.
  package func highestSeq(_ mailbox: Int64) throws(StoreError) -> UInt64 {
    let next = try first("SELECT next_seq FROM mailbox WHERE id = ?", [.integer(mailbox)], .mailbox) {
      try $0.ordered(0)
    }
    guard let next, next >= 1 else { throw .missing(.mailbox) }
    return next - 1
  }

  /// Numbers still waiting in this mailbox: deliveries and notices.
  package func pendingCount(_ mailbox: Int64) throws(StoreError) -> Int {
    let sql = """
      SELECT (SELECT count(*) FROM delivery WHERE mailbox = ?1)
        + (SELECT count(*) FROM notice WHERE mailbox = ?1)
      """
    return try first(sql, [.integer(mailbox)], .mailbox) { try $0.count(0) } ?? 0
  }

  /// Notices of one kind that wait in this mailbox.
  package func noticeCount(_ mailbox: Int64, kind: MailboxItem.Kind) throws(StoreError) -> Int {
    let sql = "SELECT count(*) FROM notice WHERE mailbox = ? AND kind = ?"
    return try first(sql, [.integer(mailbox), .integer(Int64(kind.rawValue))], .notice) {
      try $0.count(0)
    } ?? 0
  }

  /// Notices after a number, ascending; always at least one if there is any, then as many as fit.
  /// - Throws: `damaged` when the first one does not match its check sum; a later one only ends the list.
  package func notices(
    _ mailbox: Int64, after seq: UInt64, maxCount: Int, maxBytes: Int
  ) throws(StoreError) -> [NoticeRow] {
    var rows: [NoticeRow] = []
    var total = 0
    let place: (inout Binding) -> Void = {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    try each(.notices, .notice, key: 0, bind: place) { fields in
      guard rows.count < maxCount else { return false }
      let bytes = try fields.bytes(1)
      guard try checkSum(bytes) == fields.identifier(2, as: CheckSum.self) else {
        if rows.isEmpty { throw fields.damaged }
        return false
      }
      total += bytes.count
      guard rows.isEmpty || total <= maxBytes else { return false }
      guard let kind = MailboxItem.Kind(rawValue: UInt8(clamping: try fields.integer(3))) else {
        throw fields.damaged
      }
      rows.append(NoticeRow(seq: try fields.ordered(0), kind: kind, bytes: bytes))
      return true
    }
    return rows
  }
}

extension StoreSnapshot {
  /// Mailboxes whose oldest notice was written before a time. Asks every mailbox: for housekeeping.
  package func mailboxesWithNotices(before ms: UInt64, limit: Int) throws(StoreError) -> [Int64] {
    let sql = """
      SELECT id FROM mailbox AS m
      WHERE (SELECT written_ms FROM notice WHERE mailbox = m.id ORDER BY seq LIMIT 1) < ? LIMIT ?
      """
    return try all(sql, [.bound(ms), .integer(limit)], .mailbox) { try $0.integer(0) }
  }
}

extension StoreTransaction {
  /// Removes notices that were written before a time, and tells how many.
  package func purgeNotices(_ mailbox: Int64, before ms: UInt64) throws(StoreError) -> Int {
    try execute("DELETE FROM notice WHERE mailbox = ? AND written_ms < ?", [.integer(mailbox), .bound(ms)])
  }

  /// Finds or makes a mailbox.
  package func createMailbox(_ kind: MailboxKind, owner: [UInt8]) throws(StoreError) -> Int64 {
    if let id = try mailbox(kind, owner: owner) { return id }
    try execute(
      "INSERT INTO mailbox (kind, owner, next_seq) VALUES (?, ?, 1)",
      [.integer(kind.rawValue), .bytes(owner)])
    return lastInsertedRow
  }

  /// Takes `count` consecutive numbers, starting at 1 in a new mailbox, and returns the first. They are never
  /// given out again unless this transaction fails.
  package func takeSeqs(_ mailbox: Int64, count: Int) throws(StoreError) -> UInt64 {
    let first = try highestSeq(mailbox) + 1
    let next = try Argument.ordered(first + UInt64(count))
    try execute("UPDATE mailbox SET next_seq = ? WHERE id = ?", [next, .integer(mailbox)])
    return first
  }

  package func insertNotice(
    mailbox: Int64, seq: UInt64, kind: MailboxItem.Kind = .receipt, bytes: [UInt8], nowMs: UInt64
  ) throws(StoreError) {
    try execute(.insertNotice) { (row) throws(StoreError) in
      row.integer(mailbox)
      try row.ordered(seq)
      try row.ordered(nowMs)
      row.bytes(bytes)
      row.identifier(checkSum(bytes))
      row.integer(Int64(kind.rawValue))
    }
  }

  /// - Returns: false when there was none.
  package func removeNotice(_ mailbox: Int64, seq: UInt64) throws(StoreError) -> Bool {
    let removed = try execute(.deleteNotice) {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    return removed > 0
  }

  /// Removes everything up to and including a number, and tells how many.
  @discardableResult
  package func removeNotices(_ mailbox: Int64, through seq: UInt64) throws(StoreError) -> Int {
    try execute("DELETE FROM notice WHERE mailbox = ? AND seq <= ?", [.integer(mailbox), .bound(seq)])
  }
}
