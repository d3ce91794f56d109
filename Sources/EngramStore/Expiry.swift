internal import EngramCore

extension StoreSnapshot {
  /// Open deliveries of at most `limit` messages that ran out at or before `nowMs`, those that ran out first
  /// leading. Remove each with `removeDelivery`.
  /// - Throws: `damaged(.message)` when the first message cannot be trusted; a later one only ends the list.
  package func expired(nowMs: UInt64, limit: Int) throws(StoreError) -> [PlacedDelivery] {
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
    var out: [PlacedDelivery] = []
    for info in messages { out += try places(of: info) }
    return out
  }

  /// Where an open message waits, by mailbox and number.
  package func places(of info: MessageInfo) throws(StoreError) -> [PlacedDelivery] {
    let sql = """
      SELECT \(placeColumns), b.kind FROM delivery JOIN mailbox AS b ON b.id = mailbox
      WHERE message = ? ORDER BY mailbox, seq
      """
    return try all(sql, [.integer(info.message)], .delivery, key: 1) { fields in
      guard let kind = MailboxKind(rawValue: try fields.integer(placeColumnCount)) else {
        throw fields.damaged
      }
      return PlacedDelivery(place: try deliveryPlace(fields), mailboxKind: kind, info: info)
    }
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
