internal import EngramCore

extension StoreSnapshot {
  /// Open deliveries of at most `limit` messages that ran out at or before `nowMs`, those that ran out first
  /// leading. Remove each with `removeDelivery`.
  /// - Throws: `damaged(.message)` when the first message cannot be trusted; a later one only ends the list.
  package func expired(nowMs: UInt64, limit: Int) throws(StoreError) -> [ExpiredDelivery] {
    var messages: [MessageInfo] = []
    let sql = """
      SELECT \(infoColumns) FROM message WHERE open > 0 AND expires_ms <= ?
      ORDER BY expires_ms LIMIT ?
      """
    try each(sql, [.bound(nowMs), .integer(limit)], .message, key: 0) { fields in
      do throws(StoreError) {
        messages.append(try messageInfo(fields).info)
        return true
      } catch {
        guard case .damaged = error, !messages.isEmpty else { throw error }
        return false
      }
    }
    var out: [ExpiredDelivery] = []
    for info in messages { out += try places(of: info) }
    return out
  }

  private func places(of info: MessageInfo) throws(StoreError) -> [ExpiredDelivery] {
    let sql = """
      SELECT d.seq, d.slot, d.mailbox, b.kind FROM delivery AS d JOIN mailbox AS b ON b.id = d.mailbox
      WHERE d.message = ? ORDER BY d.mailbox, d.seq, d.slot
      """
    var out: [ExpiredDelivery] = []
    try each(sql, [.integer(info.message)], .delivery, key: 0) { fields in
      let (seq, slot, mailbox) = (try fields.ordered(0), try fields.count(1), try fields.integer(2))
      if let last = out.last, last.mailbox == mailbox, last.seq == seq {
        out[out.count - 1].slots.append(slot)
        return true
      }
      guard let kind = MailboxKind(rawValue: try fields.integer(3)) else { throw fields.damaged }
      out.append(ExpiredDelivery(mailbox: mailbox, mailboxKind: kind, seq: seq, slots: [slot], info: info))
      return true
    }
    return out
  }
}

extension StoreTransaction {
  /// Deletes at most `limit` messages that are done and ran out before the given time, oldest first, and with
  /// them the memory that they were seen.
  /// - Returns: how many went and the latest expiry among them (0 for none): replays from before that time
  ///   can no longer be told apart.
  package func purgeMessages(
    expiredBefore ms: UInt64, limit: Int
  ) throws(StoreError) -> (count: Int, highestExpiresMs: UInt64) {
    let sql = """
      DELETE FROM message WHERE seq IN (
        SELECT seq FROM message WHERE open = 0 AND expires_ms < ? ORDER BY expires_ms LIMIT ?
      ) RETURNING seq, expires_ms
      """
    let gone = try all(sql, [.bound(ms), .integer(limit)], .message, key: 0) { try $0.ordered(1) }
    return (gone.count, gone.max() ?? 0)
  }
}
