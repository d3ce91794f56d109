package import EngramCore

/// A row that may be handed out, in the order of work.
package struct ReadyRow: Equatable, Sendable {
  package var seq: UInt64
  package var rank: UInt64
  package var attempt: UInt32
  package var kids: [Kid]?
  package init(seq: UInt64, rank: UInt64, attempt: UInt32, kids: [Kid]?) {
    (self.seq, self.rank, self.attempt, self.kids) = (seq, rank, attempt, kids)
  }
}

/// A row whose hold is over.
package struct DueRow: Equatable, Sendable {
  package var place: DeliveryPlace
  package var priority: Priority
}

extension StoreSnapshot {
  /// Rows that may be handed out, from a place in the order of work on: by rank, then by number. A scan of
  /// the index, without a look at any message.
  package func readyDeliveries(
    _ mailbox: Int64, fromRank rank: UInt64, seq: UInt64, limit: Int
  ) throws(StoreError) -> [ReadyRow] {
    let sql = """
      SELECT seq, rank, attempt, kids FROM delivery
      WHERE mailbox = ?1 AND rank IS NOT NULL AND (rank, seq) >= (?2, ?3)
      ORDER BY rank, seq LIMIT ?4
      """
    return try all(
      sql, [.integer(mailbox), .bound(rank), .bound(seq), .integer(limit)], .delivery, key: 0
    ) { fields in
      ReadyRow(
        seq: try fields.ordered(0), rank: try fields.ordered(1),
        attempt: UInt32(clamping: try fields.integer(2)),
        kids: try fields.isNull(3) ? nil : kids(fields, 3))
    }
  }

  /// Rows of one lane of an outbox after a number, ascending, without their messages. Nil is the lane that
  /// has no index: rows of others between its own are walked over.
  package func outboxLane(
    _ mailbox: Int64, lane: UInt64?, after seq: UInt64, limit: Int
  ) throws(StoreError) -> [DeliveryPlace] {
    guard let lane else {
      return try all(
        DeliverySQL.mainLane, [.integer(mailbox), .bound(seq), .integer(limit)], .delivery, key: 1,
        deliveryPlace)
    }
    return try all(
      DeliverySQL.rankedLane, [.integer(mailbox), .bound(lane), .bound(seq), .integer(limit)], .delivery,
      key: 1, deliveryPlace)
  }

  /// A row of an outbox with its message.
  /// - Parameter bytesMax: the bytes of a longer one are left out, and not looked at.
  package func outboxRow(_ place: DeliveryPlace, bytesMax: Int) throws(StoreError) -> OutboxRow {
    let bind: (inout Binding) -> Void = { $0.integer(place.message) }
    let row = try first(.loadDelivery, .message, key: 0, bind: bind) { fields -> OutboxRow in
      let message = try messageInfo(fields)
      let count = try fields.count(infoColumnCount)
      guard count <= bytesMax else { return OutboxRow(place: place, info: message.info, byteCount: count) }
      let bytes = try fields.lentBytes(infoColumnCount + 1)
      guard checkSum(bytes) == message.checkSum else { throw fields.damaged }
      return OutboxRow(place: place, info: message.info, byteCount: count, bytes: Array(bytes))
    }
    guard let row else { throw .damaged(.message, row: place.message) }
    return row
  }

  /// Held rows of every mailbox whose time has come, the longest overdue first.
  package func dueDeliveries(nowMs: UInt64, limit: Int) throws(StoreError) -> [DueRow] {
    let columns = placeColumns.split(separator: ", ").map { "d.\($0)" }.joined(separator: ", ")
    let sql = """
      SELECT \(columns), m.priority FROM delivery AS d JOIN message AS m ON m.seq = d.message
      WHERE d.hold_ms > 0 AND d.hold_ms <= ? ORDER BY d.hold_ms LIMIT ?
      """
    return try all(sql, [.bound(nowMs), .integer(limit)], .delivery, key: 1) { fields in
      let number = UInt8(exactly: try fields.integer(placeColumnCount))
      guard let priority = number.flatMap(Priority.init(rawValue:)) else { throw fields.damaged }
      return DueRow(place: try deliveryPlace(fields), priority: priority)
    }
  }

  /// When the next held row is due; nil when none is held.
  package func nextDueMs() throws(StoreError) -> UInt64? {
    try first("SELECT min(hold_ms) FROM delivery WHERE hold_ms > 0", [], .delivery) {
      try $0.optionalInteger(0).map { UInt64(clamping: $0) }
    } ?? nil
  }

  package func mailbox(_ id: Int64) throws(StoreError) -> MailboxRow? {
    try first("SELECT id, kind, owner FROM mailbox WHERE id = ?", [.integer(id)], .mailbox, mailboxRow)
  }

  package func mailboxes(_ kind: MailboxKind) throws(StoreError) -> [MailboxRow] {
    try all(
      "SELECT id, kind, owner FROM mailbox WHERE kind = ? ORDER BY id", [.integer(kind.rawValue)], .mailbox,
      mailboxRow)
  }

  /// Counts by index; for people, not for every message.
  package func queueCounts(_ mailbox: Int64) throws(StoreError) -> QueueCounts {
    let sql = """
      SELECT count(*), (SELECT count(*) FROM delivery WHERE mailbox = ?1 AND rank IS NOT NULL)
      FROM delivery WHERE mailbox = ?1
      """
    let counts = try first(sql, [.integer(mailbox)], .delivery) { fields in
      QueueCounts(ready: try fields.count(1), held: try fields.count(0) - fields.count(1))
    }
    return counts ?? QueueCounts(ready: 0, held: 0)
  }

  /// What waits in a mailbox after a number, without the bytes.
  package func listDeliveries(
    _ mailbox: Int64, after seq: UInt64, limit: Int
  ) throws(StoreError) -> [(place: DeliveryPlace, info: MessageInfo)] {
    let sql = "SELECT \(placeColumns) FROM delivery WHERE mailbox = ? AND seq > ? ORDER BY seq LIMIT ?"
    let places = try all(
      sql, [.integer(mailbox), .bound(seq), .integer(limit)], .delivery, key: 1, deliveryPlace)
    return try places.map { place throws(StoreError) in (place, try info(of: place.message)) }
  }

  /// What is known about a message, by the row's number in this store.
  package func info(of message: Int64) throws(StoreError) -> MessageInfo {
    let found = try first(.messageInfo, .message, key: 0, bind: { $0.integer(message) }, messageInfo)
    guard let found else { throw .damaged(.message, row: message) }
    return found.info
  }

  /// The bytes of an open message, checked; nil for one that is done.
  package func bytes(of message: Int64) throws(StoreError) -> [UInt8]? {
    let found = try first(.messageInfo, .message, key: 0, bind: { $0.integer(message) }, messageInfo)
    return try found.map { found throws(StoreError) in try body(of: found) } ?? nil
  }

  /// The message of these bytes' envelope id is looked up by its deduplication key alone.
  package func info(_ dedupe: Digest) throws(StoreError) -> MessageInfo? {
    try first(.findMessage, .message, key: 0, bind: { $0.identifier(dedupe) }, messageInfo)?.info
  }
}

private func mailboxRow(_ fields: Fields) throws(StoreError) -> MailboxRow {
  guard let kind = MailboxKind(rawValue: try fields.integer(1)) else { throw fields.damaged }
  return MailboxRow(id: try fields.integer(0), kind: kind, owner: try fields.bytes(2))
}

extension StoreTransaction {
  /// Writes anew how a delivery waits: its place, rank, hold, failures, slots and devices. The message stays.
  /// - Returns: false when there is nothing under the old number.
  /// - Throws: `conflict` when the new place is taken.
  package func moveDelivery(
    _ mailbox: Int64, seq: UInt64, to place: DeliveryPlace
  ) throws(StoreError) -> Bool {
    let sql = """
      UPDATE delivery SET mailbox = ?3, seq = ?4, slots = ?5, rank = ?6, hold_ms = ?7, attempt = ?8,
        kids = ?9, history = ?10
      WHERE mailbox = ?1 AND seq = ?2
      """
    return try execute(
      sql,
      [
        .integer(mailbox), .bound(seq), .integer(place.mailbox), .ordered(place.seq),
        .bytes(slotBytes(place.slots)),
        place.rank.map { rank throws(StoreError) in try .ordered(rank) } ?? .null,
        .ordered(place.holdMs), .integer(Int64(place.attempt)),
        place.kids.map { .bytes($0.flatMap(\.bytes)) } ?? .null, place.history.map { .bytes($0) } ?? .null,
      ]) > 0
  }

  /// Adds a delivery to a message that is open already, counting it.
  package func addDelivery(_ place: DeliveryPlace) throws(StoreError) {
    try insertDelivery(place)
    let changed = try execute(
      "UPDATE message SET open = open + 1 WHERE seq = ? AND open > 0", [.integer(place.message)])
    guard changed == 1 else { throw .missing(.message) }
  }

  /// The leaves of one group commit, in one row: `lp(leaf)…`.
  package func insertAudit(atMs: UInt64, count: Int, leaves: [UInt8]) throws(StoreError) {
    try execute(
      "INSERT INTO audit (at_ms, count, leaves) VALUES (?, ?, ?)",
      [.bits(atMs), .integer(count), .bytes(leaves)])
  }
}

extension StoreSnapshot {
  /// Audit rows after a number, ascending.
  package func auditRows(
    after seq: Int64, limit: Int
  ) throws(StoreError) -> [(seq: Int64, atMs: UInt64, leaves: [UInt8])] {
    try all(
      "SELECT seq, at_ms, leaves FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",
      [.integer(seq), .integer(limit)], .audit, key: 0
    ) { (seq: try $0.integer(0), atMs: try $0.bits(1), leaves: try $0.bytes(2)) }
  }
}
