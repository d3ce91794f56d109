package import EngramCore

// What a device may still say about a delivery that a node's word has ended: that its application was done
// with it after all.

extension StoreTransaction {
  /// Remembers that a device read a delivery without a lease and that its sender was told: stated once, and
  /// not taken back.
  package func markShown(_ mailbox: Int64, seq: UInt64) throws(StoreError) {
    try execute(
      "UPDATE delivery SET shown = 1 WHERE mailbox = ? AND seq = ?", [.integer(mailbox), .bound(seq)])
  }

  /// A delivery of this message was ended while a device may have been at work on it.
  package func expectLateWord(
    about dedupe: Digest, in mailbox: Int64, expiresMs: UInt64
  ) throws(StoreError) {
    try insert(dedupe, mailbox, expiresMs, heard: false)
  }

  /// The word has come.
  /// - Parameter isOpen: the delivery has run out and is still there; otherwise the word must be expected.
  /// - Returns: true the first time.
  package func hearLateWord(
    about dedupe: Digest, in mailbox: Int64, expiresMs: UInt64, isOpen: Bool
  ) throws(StoreError) -> Bool {
    if isOpen, try insert(dedupe, mailbox, expiresMs, heard: true) { return true }
    let sql = "UPDATE late_word SET heard = 1 WHERE dedupe = ? AND mailbox = ? AND heard = 0"
    return try execute(sql, [.bytes(dedupe.bytes), .integer(mailbox)]) > 0
  }

  /// Forgets words about what ran out before a time, oldest first.
  package func purgeLateWords(expiredBefore ms: UInt64, limit: Int) throws(StoreError) {
    try execute(
      """
      DELETE FROM late_word WHERE (dedupe, mailbox) IN (
        SELECT dedupe, mailbox FROM late_word WHERE expires_ms < ? ORDER BY expires_ms LIMIT ?
      )
      """, [.bound(ms), .integer(limit)])
  }

  /// - Returns: false when there was one.
  @discardableResult
  private func insert(
    _ dedupe: Digest, _ mailbox: Int64, _ expiresMs: UInt64, heard: Bool
  ) throws(StoreError) -> Bool {
    try execute(
      """
      INSERT INTO late_word (dedupe, mailbox, expires_ms, heard) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
      """, [.bytes(dedupe.bytes), .integer(mailbox), .ordered(expiresMs), .flag(heard)]) > 0
  }
}
