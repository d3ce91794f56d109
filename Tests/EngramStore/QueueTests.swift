import EngramCore
import EngramStore
import GRDB
import Testing

@Suite("A mailbox as a queue")
struct QueueTests {
  let folder: Folder
  let store: Store
  let mailbox: Int64

  init() throws {
    folder = try Folder()
    let store = try folder.open()
    self.store = store
    mailbox = try store.write { try $0.deviceMailbox() }
  }

  private func put(
    _ number: Int, seq: UInt64, rank: UInt64? = nil, holdMs: UInt64 = 0, kids: [Kid]? = nil,
    in transaction: StoreTransaction
  ) throws {
    let message = try stored(transaction.insertMessage(sample(number)))
    try transaction.insertDelivery(
      DeliveryPlace(
        mailbox: mailbox, seq: seq, message: message, slots: [0], rank: rank, holdMs: holdMs, kids: kids))
  }

  @Test("ready rows come by rank, then by number; held rows and those without a rank do not come")
  func order() throws {
    try store.write { transaction throws in
      try put(1, seq: 1, rank: 30, in: transaction)
      try put(2, seq: 2, rank: 10, in: transaction)
      try put(3, seq: 3, holdMs: now + 5, in: transaction)
      try put(4, seq: 4, rank: 10, kids: [kid(1), kid(2)], in: transaction)
      try put(5, seq: 5, in: transaction)

      func seqs(_ rank: UInt64, _ seq: UInt64, limit: Int = 10) throws -> [UInt64] {
        try transaction.readyDeliveries(mailbox, fromRank: rank, seq: seq, limit: limit).map(\.seq)
      }
      #expect(try seqs(0, 0) == [2, 4, 1])
      #expect(try seqs(10, 2) == [2, 4, 1])
      #expect(try seqs(10, 3) == [4, 1])
      #expect(try seqs(11, 0) == [1])
      #expect(try seqs(0, 0, limit: 2) == [2, 4])
      let row = try transaction.readyDeliveries(mailbox, fromRank: 10, seq: 4, limit: 1)
      #expect(row == [ReadyRow(seq: 4, rank: 10, attempt: 0, kids: [kid(1), kid(2)])])
      #expect(try transaction.queueCounts(mailbox) == QueueCounts(ready: 3, held: 2))
    }
  }

  @Test("reading the front of a long queue is a walk along the index, and so is looking for what is due")
  func plans() throws {
    try store.write { try put(1, seq: 1, rank: 1, in: $0) }
    let plans = try folder.raw { db in
      try [
        "SELECT seq FROM delivery WHERE mailbox = 1 AND rank IS NOT NULL AND (rank, seq) >= (2, 3) "
          + "ORDER BY rank, seq LIMIT 4",
        "SELECT seq FROM delivery WHERE hold_ms > 0 AND hold_ms <= 5 ORDER BY hold_ms LIMIT 4",
        // The control: an order that no index has.
        "SELECT seq FROM delivery ORDER BY attempt",
      ].map { sql in
        try Row.fetchAll(db, sql: "EXPLAIN QUERY PLAN " + sql).map { $0["detail"] as String }
          .joined(separator: "; ")
      }
    }
    #expect(plans[0].contains("delivery_ready") && !plans[0].contains("TEMP B-TREE"))
    #expect(plans[1].contains("delivery_held") && !plans[1].contains("TEMP B-TREE"))
    #expect(plans[2].contains("TEMP B-TREE"))
  }

  @Test("held rows are due at their time, the longest overdue first")
  func due() throws {
    try store.write { transaction throws in
      try put(1, seq: 1, holdMs: now + 2, in: transaction)
      try put(2, seq: 2, holdMs: now, in: transaction)
      try put(3, seq: 3, holdMs: now + 1, in: transaction)
      try put(4, seq: 4, rank: 9, in: transaction)
      #expect(try transaction.nextDueMs() == now)
      #expect(try transaction.dueDeliveries(nowMs: now - 1, limit: 10).isEmpty)
      #expect(try transaction.dueDeliveries(nowMs: now + 1, limit: 10).map(\.place.seq) == [2, 3])
      #expect(try transaction.dueDeliveries(nowMs: now + 9, limit: 2).map(\.place.seq) == [2, 3])
      #expect(try transaction.dueDeliveries(nowMs: now, limit: 1).first?.priority == .high)
    }
  }

  @Test("a delivery moves with everything that is said about it, and the message stays one")
  func move() throws {
    try store.write { transaction throws in
      try put(1, seq: 1, rank: 5, in: transaction)
      let dead = try transaction.createMailbox(.deadLetters, owner: [1])
      var place = try #require(try transaction.place(mailbox, seq: 1))
      (place.mailbox, place.seq, place.rank) = (dead, 1, nil)
      (place.attempt, place.history, place.kids) = (7, [1, 2, 3], [kid(4)])
      #expect(try transaction.moveDelivery(mailbox, seq: 1, to: place))
      #expect(try transaction.moveDelivery(mailbox, seq: 1, to: place) == false)
      #expect(try transaction.place(dead, seq: 1) == place)
      #expect(try transaction.delivery(mailbox, seq: 1) == nil)
      #expect(try transaction.listDeliveries(dead, after: 0, limit: 9).map(\.info.open) == [1])
      #expect(
        try transaction.mailboxes(.deadLetters) == [MailboxRow(id: dead, kind: .deadLetters, owner: [1])])
      #expect(try transaction.check() == [])
    }
  }

  @Test("a second delivery of an open message is counted, one of a message that is done is refused")
  func added() throws {
    try store.write { transaction throws in
      try put(1, seq: 1, rank: 5, in: transaction)
      var place = try #require(try transaction.place(mailbox, seq: 1))
      place.seq = 2
      try transaction.addDelivery(place)
      #expect(try transaction.removeDelivery(mailbox, seq: 1)?.info.open == 1)
      #expect(try transaction.message(digest(1))?.bytes == payload(1))
      #expect(try transaction.check() == [])
      #expect(try transaction.removeDelivery(mailbox, seq: 2)?.info.open == 0)
      refuse(StoreError.missing(.message)) { try transaction.addDelivery(place) }
    }
  }

  @Test("a message for many recipients in one mailbox is one row with all its slots")
  func slots() throws {
    try store.write { transaction throws in
      let slots = Array(0..<1_000)
      let message = try stored(transaction.insertMessage(sample(1)))
      try transaction.insertDelivery(mailbox: mailbox, seq: 1, slots: slots, message: message)
      #expect(try transaction.delivery(mailbox, seq: 1)?.slots == slots)
      #expect(try transaction.deliveries(mailbox, seqs: [9, 1], maxBytes: 0).map(\.seq) == [1])
    }
  }

  @Test("audit rows keep what was decided, in order")
  func audit() throws {
    try store.write { transaction throws in
      try transaction.insertAudit(atMs: now, count: 2, leaves: [1, 2])
      try transaction.insertAudit(atMs: now + 1, count: 1, leaves: [3])
      #expect(try transaction.auditRows(after: 0, limit: 9).map(\.leaves) == [[1, 2], [3]])
      #expect(try transaction.auditRows(after: 1, limit: 9).map(\.atMs) == [now + 1])
    }
  }
}
