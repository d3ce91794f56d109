internal import EngramCore

extension StoreSnapshot {
  /// Deliveries after a number, ascending; always at least one if there is any, then as many as fit. Expired
  /// and held ones are included: the caller decides.
  /// - Throws: `damaged(.message)` when the first one cannot be trusted (see `quarantine`); a later one only
  ///   ends the list.
  package func deliveries(
    _ mailbox: Int64, after seq: UInt64, maxCount: Int, maxBytes: Int
  ) throws(StoreError) -> [DeliveryRow] {
    guard maxCount > 0 else { return [] }
    var rows: [DeliveryRow] = []
    var budget = ReadBudget(countLeft: maxCount, bytesLeft: maxBytes)
    let place: (inout Binding) -> Void = {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    try each(.waiting, .delivery, key: 1, bind: place) { fields in
      try load(try deliveryPlace(fields), &budget, into: &rows)
    }
    return rows
  }

  /// The deliveries under these numbers, in that order, as long as they fit, at least one if there is any.
  /// Those that are not there are left out.
  /// - Throws: as `deliveries(_:after:)`.
  package func deliveries(
    _ mailbox: Int64, seqs: [UInt64], maxBytes: Int
  ) throws(StoreError) -> [DeliveryRow] {
    var rows: [DeliveryRow] = []
    var budget = ReadBudget(countLeft: seqs.count, bytesLeft: maxBytes)
    for seq in seqs {
      guard let place = try place(mailbox, seq: seq) else { continue }
      guard try load(place, &budget, into: &rows) else { break }
    }
    return rows
  }

  /// Where and how a delivery waits, without its message.
  package func place(_ mailbox: Int64, seq: UInt64) throws(StoreError) -> DeliveryPlace? {
    let bind: (inout Binding) -> Void = {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    return try first(.findDelivery, .delivery, key: 1, bind: bind, deliveryPlace)
  }

  package func delivery(_ mailbox: Int64, seq: UInt64) throws(StoreError) -> DeliveryRow? {
    guard seq > 0 else { return nil }
    return try deliveries(mailbox, after: seq - 1, maxCount: 1, maxBytes: 0).first { $0.seq == seq }
  }

  /// - Returns: false when the list is full or the next row is damaged behind good ones.
  private func load(
    _ delivery: DeliveryPlace, _ budget: inout ReadBudget, into rows: inout [DeliveryRow]
  ) throws(StoreError) -> Bool {
    do throws(StoreError) {
      let limits = budget
      let isFirst = rows.isEmpty
      let read = try first(.loadDelivery, .message, key: 0, bind: { $0.integer(delivery.message) }) {
        fields -> DeliveryRow? in
        // The length comes from the row's header: a blob that does not fit is not read.
        guard try isFirst || limits.admits(fields.count(infoColumnCount)) else { return nil }
        let message = try messageInfo(fields)
        let bytes = try fields.lentBytes(infoColumnCount + 1)
        guard checkSum(bytes) == message.checkSum else { throw fields.damaged }
        return DeliveryRow(place: delivery, info: message.info, bytes: Array(bytes))
      }
      guard let read else { throw .damaged(.message, row: delivery.message) }
      guard let row = read else { return false }
      budget.spend(row.bytes.count)
      rows.append(row)
      return budget.countLeft > 0
    } catch {
      guard case .damaged = error, !rows.isEmpty else { throw error }
      return false
    }
  }
}

extension StoreTransaction {
  /// Puts a message into a mailbox, for all its recipients that the mailbox serves.
  /// `NewMessage.openDeliveries` has to count this row.
  /// - Throws: `conflict` when the place is taken, or the mailbox or message does not exist.
  package func insertDelivery(_ place: DeliveryPlace) throws(StoreError) {
    try execute(.insertDelivery) { (row) throws(StoreError) in
      row.integer(place.mailbox)
      try row.ordered(place.seq)
      row.integer(place.message)
      row.bytes(slotBytes(place.slots))
      if let rank = place.rank { try row.ordered(rank) } else { row.null() }
      try row.ordered(place.holdMs)
      row.integer(Int64(place.attempt))
      if let kids = place.kids { row.bytes(kids.flatMap(\.bytes)) } else { row.null() }
      if let history = place.history { row.bytes(history) } else { row.null() }
    }
  }

  /// Takes a delivery out. With the last delivery of a message its bytes are wiped.
  /// - Parameter check: sees the message before anything changes, and may throw.
  /// - Returns: nil when there is none under this number.
  package func removeDelivery(
    _ mailbox: Int64, seq: UInt64, check: (MessageInfo) throws -> Void
  ) throws -> RemovedDelivery? {
    guard let place = try place(mailbox, seq: seq) else { return nil }
    var info = try info(of: place.message)
    try check(info)
    // Not DELETE … RETURNING: SQLite sets up a 64 KiB statement journal for each of those.
    try execute(.deleteDelivery) {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    try settle(&info, done: 1)
    return RemovedDelivery(place: place, info: info)
  }

  package func removeDelivery(_ mailbox: Int64, seq: UInt64) throws(StoreError) -> RemovedDelivery? {
    do { return try removeDelivery(mailbox, seq: seq) { _ in } } catch { throw StoreError(any: error) }
  }

  /// `removeDelivery` for each number; those that are not there are left out.
  package func removeDeliveries(_ mailbox: Int64, seqs: [UInt64]) throws(StoreError) -> [RemovedDelivery] {
    var out: [RemovedDelivery] = []
    for seq in seqs {
      if let removed = try removeDelivery(mailbox, seq: seq) { out.append(removed) }
    }
    return out
  }

  /// Moves a delivery to a number that was just taken.
  /// - Returns: false when there is none under the old number.
  package func requeueDelivery(_ mailbox: Int64, seq: UInt64, newSeq: UInt64) throws(StoreError) -> Bool {
    let sql = "UPDATE delivery SET seq = ?3 WHERE mailbox = ?1 AND seq = ?2"
    return try execute(sql, [.integer(mailbox), .bound(seq), .ordered(newSeq)]) > 0
  }

  /// Takes a damaged message, named by `damaged(.message, row:)`, out of every mailbox and wipes its bytes,
  /// so that it stops blocking what is behind it. Its deduplication row stays.
  /// - Returns: the places it waited in, for the operator.
  package func quarantine(message: Int64) throws(StoreError) -> [(mailbox: Int64, seq: UInt64)] {
    let places = try all(
      "SELECT mailbox, seq FROM delivery WHERE message = ? ORDER BY mailbox, seq",
      [.integer(message)],
      .delivery, key: 1
    ) { (mailbox: try $0.integer(0), seq: try $0.ordered(1)) }
    try execute("DELETE FROM delivery WHERE message = ?", [.integer(message)])
    try execute("DELETE FROM body WHERE message = ?", [.integer(message)])
    try execute("UPDATE message SET open = 0 WHERE seq = ?", [.integer(message)])
    return places
  }
}

/// How much more a list may hold.
private struct ReadBudget {
  var countLeft: Int
  var bytesLeft: Int

  func admits(_ bytes: Int) -> Bool { bytes <= bytesLeft }

  mutating func spend(_ bytes: Int) {
    countLeft -= 1
    bytesLeft -= bytes
  }
}

/// What a new row of `delivery` is given; the rest has defaults.
private let insertedColumns = "mailbox, seq, message, slots, rank, hold_ms, attempt, kids, history"
/// The columns that `deliveryPlace` decodes, in its order, from `delivery`.
let placeColumns = insertedColumns + ", shown"
/// Where columns after `placeColumns` begin.
let placeColumnCount: Int32 = 10

enum DeliverySQL {
  static let insert = "INSERT INTO delivery (\(insertedColumns)) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
  static let find = "SELECT \(placeColumns) FROM delivery WHERE mailbox = ? AND seq = ?"
  static let mainLane = """
    SELECT \(placeColumns) FROM delivery WHERE mailbox = ? AND seq > ? AND rank IS NULL ORDER BY seq LIMIT ?
    """
  // Without the word the planner would rather walk over everything else.
  static let rankedLane = """
    SELECT \(placeColumns) FROM delivery INDEXED BY delivery_ready
    WHERE mailbox = ? AND rank = ? AND seq > ? ORDER BY seq LIMIT ?
    """
  static let waiting = "SELECT \(placeColumns) FROM delivery WHERE mailbox = ? AND seq > ? ORDER BY seq"
}

func deliveryPlace(_ fields: Fields) throws(StoreError) -> DeliveryPlace {
  var place = DeliveryPlace(
    mailbox: try fields.integer(0), seq: try fields.ordered(1), message: try fields.integer(2),
    slots: try slots(fields, 3), rank: try fields.optionalInteger(4).map { UInt64(clamping: $0) },
    holdMs: try fields.ordered(5), attempt: UInt32(clamping: try fields.integer(6)),
    kids: try fields.isNull(7) ? nil : kids(fields, 7),
    history: try fields.isNull(8) ? nil : fields.bytes(8))
  place.isShown = try fields.integer(9) != 0
  return place
}

/// Recipients number at most 1,000, so two bytes each.
func slotBytes(_ slots: [Int]) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(2 * slots.count)
  for slot in slots {
    let slot = UInt16(truncatingIfNeeded: slot)
    bytes.append(UInt8(slot >> 8))
    bytes.append(UInt8(slot & 0xff))
  }
  return bytes
}

private func slots(_ fields: Fields, _ index: Int32) throws(StoreError) -> [Int] {
  let bytes = try fields.lentBytes(index)
  guard !bytes.isEmpty, bytes.count.isMultiple(of: 2) else { throw fields.damaged }
  return stride(from: 0, to: bytes.count, by: 2).map { Int(bytes[$0]) << 8 | Int(bytes[$0 + 1]) }
}

func kids(_ fields: Fields, _ index: Int32) throws(StoreError) -> [Kid] {
  let bytes = try fields.bytes(index)
  guard bytes.count.isMultiple(of: 16) else { throw fields.damaged }
  return stride(from: 0, to: bytes.count, by: 16).compactMap { Kid(bytes[$0..<($0 + 16)]) }
}
