import EngramCore
import EngramStore
import Foundation
import GRDB
import Testing

@Suite("Damaged rows")
struct DamageTests {
  let folder: Folder
  let store: Store
  let mailbox: Int64

  init() throws {
    folder = try Folder()
    store = try folder.open()
    mailbox = try store.write { transaction throws in
      let mailbox = try transaction.deviceMailbox()
      for number in 1...3 { try transaction.post(number, to: mailbox) }
      try transaction.insertNotice(mailbox: mailbox, seq: 10, bytes: payload(4), nowMs: now)
      return mailbox
    }
  }

  /// Flips the lowest bit of the middle byte of one value.
  private func flip(_ column: String, of table: String, where key: String) throws {
    try folder.raw { db in
      var bytes = try #require(try Data.fetchOne(db, sql: "SELECT \(column) FROM \(table) WHERE \(key)"))
      bytes[bytes.count / 2] ^= 1
      try db.execute(sql: "UPDATE \(table) SET \(column) = ? WHERE \(key)", arguments: [bytes])
    }
  }

  private func list(after seq: UInt64 = 0) throws -> [UInt64] {
    try store.read { try $0.deliveries(mailbox, after: seq, maxCount: 9, maxBytes: .max).map(\.seq) }
  }

  @Test("a flipped bit in a message's bytes is found, and good rows before it are still handed out")
  func flippedBytes() throws {
    // Control: unflipped reads.
    #expect(try list() == [1, 2, 3])
    #expect(try store.read { try $0.check() } == [])
    try flip("bytes", of: "body", where: "message = 2")
    #expect(try list() == [1])
    #expect(throws: StoreError.damaged(.message, row: 2)) { try list(after: 1) }
    #expect(throws: StoreError.damaged(.message, row: 2)) { try store.read { try $0.message(digest(2)) } }
    #expect(try list(after: 2) == [3])
    #expect(try store.read { try $0.check() } == ["message row 2: does not match its check sum"])
  }

  @Test(
    "a changed column of a message is found",
    arguments: [
      "envelope_id = zeroblob(32)", "dedupe = zeroblob(32)", "sender = 'eve@a.example'", "sender = 'nobody'",
      "sender_kid = zeroblob(16)", "type = 17", "type = 999", "priority = 1", "created_ms = created_ms + 1",
      "expires_ms = expires_ms + 1", "expires_ms = -1", "not_before_ms = 1", "origin = 1", "accepted_ms = 1",
      "check_sum = zeroblob(16)", "info_sum = zeroblob(16)",
    ])
  func changedColumn(_ change: String) throws {
    try folder.raw { try $0.execute(sql: "UPDATE message SET \(change) WHERE seq = 1") }
    #expect(throws: StoreError.damaged(.message, row: 1)) { try list() }
    #expect(throws: StoreError.damaged(.message, row: 1)) {
      try store.write { try $0.removeDelivery(mailbox, seq: 1) }
    }
    #expect(try store.read { try $0.check() }.contains("message row 1: does not match its check sum"))
  }

  @Test("bytes that are gone while a delivery is open count as damage")
  func missingBytes() throws {
    try folder.raw { try $0.execute(sql: "DELETE FROM body WHERE message = 1") }
    #expect(throws: StoreError.damaged(.message, row: 1)) { try list() }
    #expect(throws: StoreError.damaged(.message, row: 1)) { try store.read { try $0.message(digest(1)) } }
  }

  @Test("a damaged message in quarantine blocks nothing and is still known as seen")
  func quarantine() throws {
    try flip("bytes", of: "body", where: "message = 1")
    #expect(throws: StoreError.damaged(.message, row: 1)) { try list() }
    let places = try store.write { try $0.quarantine(message: 1) }
    #expect(places.map(\.seq) == [1])
    #expect(places.map(\.mailbox) == [mailbox])
    #expect(try list() == [2, 3])
    #expect(try store.read { try $0.check() } == [])
    let again = try store.write { try $0.insertMessage(sample(1)) }
    #expect(again == .exists(envelope: envelopeID(1), acceptedMs: now))
  }

  @Test("expiry hands out nothing damaged")
  func damagedExpiry() throws {
    let late = now + 60_000
    #expect(try store.read { try $0.expired(nowMs: late, limit: 9).map(\.seq) } == [1, 2, 3])
    try flip("sender_kid", of: "message", where: "seq = 1")
    #expect(throws: StoreError.damaged(.message, row: 1)) {
      try store.read { try $0.expired(nowMs: late, limit: 9) }
    }
    _ = try store.write { try $0.quarantine(message: 1) }
    #expect(try store.read { try $0.expired(nowMs: late, limit: 9).map(\.seq) } == [2, 3])
  }

  @Test("a flipped bit in a notice is found")
  func flippedNotice() throws {
    func notices() throws -> [UInt64] {
      try store.read { try $0.notices(mailbox, after: 0, maxCount: 9, maxBytes: .max).map(\.seq) }
    }
    #expect(try notices() == [10])
    try flip("bytes", of: "notice", where: "seq = 10")
    #expect(throws: StoreError.damaged(.notice, row: 10)) { try notices() }
    #expect(try store.read { try $0.check() } == ["notice row 10: does not match its check sum"])
  }

  @Test("a value of the wrong shape is damage, not a trap")
  func wrongShape() throws {
    try store.write { try $0.insertClient(client(alice)) }
    try folder.raw { db in
      try db.execute(sql: "PRAGMA ignore_check_constraints = ON")
      try db.execute(sql: "UPDATE client SET identity = x'0102'")
    }
    #expect(throws: StoreError.damaged(.client, row: 0)) { try store.read { try $0.client(alice) } }
  }

  @Test("the scrub finds miscounted deliveries and references to nothing")
  func scrub() throws {
    try folder.raw { db in
      try db.execute(sql: "UPDATE message SET open = 2 WHERE seq = 3")
      try db.execute(sql: "DELETE FROM message WHERE seq = 1")
    }
    let problems = try store.read { try $0.check() }
    #expect(problems.contains("message row 3: its open deliveries are miscounted"))
    #expect(problems.contains { $0.hasPrefix("body row 1") })
    #expect(problems.contains { $0.hasPrefix("delivery row") })
  }

  @Test("every table's failure has a code for clients")
  func codes() {
    #expect(StoreError.full.code == .storageFull)
    #expect(StoreError.damaged(.message, row: 1).code == .damagedRow)
    #expect(StoreError.fsyncFailed.code == .storageFailed)
    #expect(StoreError.closed.code == .internalError)
  }
}
