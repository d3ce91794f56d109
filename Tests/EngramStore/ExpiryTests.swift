import EngramCore
import EngramStore
import GRDB
import Testing

@Suite("Expiry and purge")
struct ExpiryTests {
  let folder: Folder
  let store: Store
  let mailbox: Int64
  let peer: Int64

  init() throws {
    folder = try Folder()
    store = try folder.open()
    (mailbox, peer) = try store.write {
      (try $0.deviceMailbox(), try $0.createMailbox(.peerEnvelopes, owner: Array("b.example".utf8)))
    }
  }

  @Test("open messages that ran out are listed with all their places, the earliest first")
  func expired() throws {
    try store.write { transaction throws in
      try transaction.post(1, to: mailbox, expiresMs: now)
      try transaction.post(2, to: mailbox, expiresMs: now + 1)
      let number = try stored(transaction.insertMessage(sample(3, open: 2, expiresMs: now - 1)))
      try transaction.insertDelivery(mailbox: mailbox, seq: 50, slots: [0], message: number)
      try transaction.insertDelivery(mailbox: peer, seq: 7, slots: [1, 2], message: number)

      let rows = try transaction.expired(nowMs: now, limit: 10)
      #expect(rows.map(\.seq) == [50, 7, 1])
      #expect(rows.map(\.mailboxKind) == [.device, .peerEnvelopes, .device])
      #expect(rows.map(\.slots) == [[0], [1, 2], [0]])
      #expect(rows[1].info.envelopeID == envelopeID(3))
      #expect(try transaction.expired(nowMs: now, limit: 1).map(\.seq) == [50, 7])
      #expect(try transaction.expired(nowMs: now - 2, limit: 10) == [])

      for row in rows { _ = try transaction.removeDelivery(row.mailbox, seq: row.seq) }
      #expect(try transaction.expired(nowMs: now, limit: 10) == [])
      #expect(try transaction.message(digest(3))?.bytes == nil)
    }
    #expect(try store.read { try $0.check() } == [])
  }

  @Test("the purge takes what is done and has run out, oldest first, and tells how far it came")
  func purge() throws {
    try store.write { transaction throws in
      for number in 1...3 {
        let seq = try transaction.post(number, to: mailbox, expiresMs: now + UInt64(number))
        _ = try transaction.removeDelivery(mailbox, seq: seq)
      }
      try transaction.post(4, to: mailbox, expiresMs: now)  // still open

      let first = try transaction.purgeMessages(expiredBefore: now + 3, limit: 1)
      #expect(first == (1, now + 1))
      let rest = try transaction.purgeMessages(expiredBefore: now + 3, limit: 10)
      #expect(rest == (1, now + 2))
      let none = try transaction.purgeMessages(expiredBefore: now + 3, limit: 10)
      #expect(none == (0, 0))
      #expect(try transaction.message(digest(1)) == nil)
      #expect(try transaction.message(digest(3)) != nil)
      #expect(try transaction.message(digest(4))?.bytes == payload(4))
      // What was purged is forgotten.
      _ = try stored(transaction.insertMessage(sample(1, open: 0)))
    }
    #expect(try store.read { try $0.check() } == [])
  }

  @Test("expiry and purge each walk an index of just what concerns them")
  func plans() throws {
    func plan(_ sql: String) throws -> String {
      try folder.raw { db in
        try Row.fetchAll(db, sql: "EXPLAIN QUERY PLAN " + sql).map { $0["detail"] as String }.joined()
      }
    }
    let expired = "SELECT sender FROM message WHERE open > 0 AND expires_ms <= 5 ORDER BY expires_ms LIMIT 3"
    #expect(try plan(expired).contains("message_open"))
    let done = "SELECT seq FROM message WHERE open = 0 AND expires_ms < 5 ORDER BY expires_ms LIMIT 3"
    #expect(try plan(done).contains("message_done"))
    #expect(try plan("SELECT seq FROM delivery WHERE message = 5").contains("delivery_of_message"))
  }

  @Test("a late word is heard once, where it was expected or its delivery is still there, until it is purged")
  func lateWords() throws {
    try store.write { transaction throws in
      func hear(_ number: Int, isOpen: Bool) throws -> Bool {
        try transaction.hearLateWord(about: digest(number), in: mailbox, expiresMs: now, isOpen: isOpen)
      }
      #expect(try !hear(1, isOpen: false), "nobody waits for it")
      try transaction.expectLateWord(about: digest(1), in: mailbox, expiresMs: now)
      #expect(try hear(1, isOpen: false))
      #expect(try !hear(1, isOpen: false))
      #expect(try hear(2, isOpen: true))
      try transaction.expectLateWord(about: digest(2), in: mailbox, expiresMs: now)
      #expect(try !hear(2, isOpen: false), "it was heard before the delivery ended")
      #expect(
        try !transaction.hearLateWord(about: digest(2), in: peer, expiresMs: now, isOpen: false),
        "that is another mailbox's")
      try transaction.purgeLateWords(expiredBefore: now, limit: 10)
      #expect(try !hear(2, isOpen: true), "control: its time has not come")
      try transaction.purgeLateWords(expiredBefore: now + 1, limit: 10)
      #expect(try hear(2, isOpen: true))
    }
  }

  @Test("that a delivery was shown stays with it when it moves")
  func shown() throws {
    try store.write { transaction throws in
      let seq = try transaction.post(1, to: mailbox, expiresMs: now)
      var place = try #require(try transaction.place(mailbox, seq: seq))
      #expect(!place.isShown)
      try transaction.markShown(mailbox, seq: seq)
      (place.mailbox, place.seq) = (peer, 9)
      #expect(try transaction.moveDelivery(mailbox, seq: seq, to: place))
      #expect(try transaction.place(peer, seq: 9)?.isShown == true)
    }
  }
}
