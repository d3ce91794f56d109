internal import EngramCore

extension StoreSnapshot {
  /// Deliveries after a number, ascending, one per number with all its slots; always at least one if there is
  /// any, then as many as fit. Expired and not yet due ones are included: the caller decides.
  /// - Throws: `damaged(.message)` when the first one cannot be trusted (see `quarantine`); a later one only
  ///   ends the list.
  package func deliveries(
    _ mailbox: Int64, after seq: UInt64, maxCount: Int, maxBytes: Int
  ) throws(StoreError) -> [DeliveryRow] {
    guard maxCount > 0 else { return [] }
    var rows: [DeliveryRow] = []
    var pending: PendingDelivery?
    var budget = ReadBudget(countLeft: maxCount, bytesLeft: maxBytes)
    let place: (inout Binding) -> Void = {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    try each(.waiting, .delivery, key: 0, bind: place) { fields in
      let next = try PendingDelivery(fields)
      if pending?.seq == next.seq {
        pending?.slots += next.slots
        return true
      }
      if let done = pending {
        pending = nil
        guard try load(done, &budget, into: &rows) else { return false }
      }
      pending = next
      return true
    }
    if let last = pending { _ = try load(last, &budget, into: &rows) }
    return rows
  }

  package func delivery(_ mailbox: Int64, seq: UInt64) throws(StoreError) -> DeliveryRow? {
    guard seq > 0 else { return nil }
    return try deliveries(mailbox, after: seq - 1, maxCount: 1, maxBytes: 0).first { $0.seq == seq }
  }

  /// - Returns: false when the list is full or the next row is damaged behind good ones.
  private func load(
    _ delivery: PendingDelivery, _ budget: inout ReadBudget, into rows: inout [DeliveryRow]
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
        return DeliveryRow(seq: delivery.seq, slots: delivery.slots, info: message.info, bytes: Array(bytes))
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
  /// Puts a message into a mailbox for one of its recipients. All slots of one message that go to the same
  /// mailbox share one number. `NewMessage.openDeliveries` has to count this row.
  /// - Throws: `conflict` when the place is taken, or the mailbox or message does not exist.
  package func insertDelivery(mailbox: Int64, seq: UInt64, slot: Int, message: Int64) throws(StoreError) {
    try execute(.insertDelivery) { (row) throws(StoreError) in
      row.integer(mailbox)
      try row.ordered(seq)
      row.integer(slot)
      row.integer(message)
    }
  }

  /// Takes a delivery out with all its slots. With the last delivery of a message its bytes are wiped.
  /// - Parameter check: sees the message before anything changes, and may throw.
  /// - Returns: nil when there is none under this number.
  package func removeDelivery(
    _ mailbox: Int64, seq: UInt64, check: (MessageInfo) throws -> Void
  ) throws -> RemovedDelivery? {
    let removed = try slots(mailbox, seq: seq)
    guard let message = removed.first?.message else { return nil }
    guard removed.allSatisfy({ $0.message == message }) else {
      throw StoreError.damaged(.delivery, row: Int64(clamping: seq))
    }
    var info = try info(of: message)
    try check(info)
    // Not DELETE … RETURNING: SQLite sets up a 64 KiB statement journal for each of those.
    try execute(.deleteDelivery) {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    try settle(&info, done: removed.count)
    return RemovedDelivery(mailbox: mailbox, seq: seq, slots: removed.flatMap(\.slots), info: info)
  }

  package func removeDelivery(_ mailbox: Int64, seq: UInt64) throws(StoreError) -> RemovedDelivery? {
    do { return try removeDelivery(mailbox, seq: seq) { _ in } } catch { throw StoreError(any: error) }
  }

  private func slots(_ mailbox: Int64, seq: UInt64) throws(StoreError) -> [PendingDelivery] {
    var found: [PendingDelivery] = []
    let place: (inout Binding) -> Void = {
      $0.integer(mailbox)
      $0.bound(seq)
    }
    try each(.deliverySlots, .delivery, key: 0, bind: place) {
      found.append(try PendingDelivery($0))
      return true
    }
    return found
  }

  /// `removeDelivery` for each number; those that are not there are left out.
  package func removeDeliveries(_ mailbox: Int64, seqs: [UInt64]) throws(StoreError) -> [RemovedDelivery] {
    var out: [RemovedDelivery] = []
    for seq in seqs {
      if let removed = try removeDelivery(mailbox, seq: seq) { out.append(removed) }
    }
    return out
  }

  /// Moves a delivery with all its slots to a number that was just taken.
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
      "SELECT DISTINCT mailbox, seq FROM delivery WHERE message = ? ORDER BY mailbox, seq",
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

/// The delivery rows of one number, on their way to their message.
private struct PendingDelivery {
  let seq: UInt64
  var slots: [Int]
  let message: Int64

  /// From `seq, slot, message`.
  init(_ fields: Fields) throws(StoreError) {
    seq = try fields.ordered(0)
    slots = [try fields.count(1)]
    message = try fields.integer(2)
  }
}
