import EngramCore
import Testing

@testable import EngramStore

@Suite("Mailboxes, notices and links")
struct MailboxTests {
  let folder: Folder
  let store: Store
  let mailbox: Int64

  init() throws {
    folder = try Folder()
    store = try folder.open()
    mailbox = try store.write { try $0.deviceMailbox() }
  }

  @Test("a mailbox is made once per kind and owner")
  func creation() throws {
    let owner = Array("b.example".utf8)
    try store.write { transaction throws in
      let envelopes = try transaction.createMailbox(.peerEnvelopes, owner: owner)
      let receipts = try transaction.createMailbox(.peerReceipts, owner: owner)
      #expect(envelopes != receipts)
      #expect(try transaction.createMailbox(.peerEnvelopes, owner: owner) == envelopes)
      #expect(try transaction.mailbox(.peerReceipts, owner: owner) == receipts)
      #expect(try transaction.mailbox(.device, owner: owner) == nil)
    }
  }

  @Test("numbers start at 1, are consecutive and belong to their mailbox")
  func numbers() throws {
    try store.write { transaction throws in
      let other = try transaction.deviceMailbox(2)
      #expect(try transaction.highestSeq(mailbox) == 0)
      #expect(try transaction.takeSeqs(mailbox, count: 5) == 1)
      #expect(try transaction.takeSeqs(mailbox, count: 1) == 6)
      #expect(try transaction.takeSeqs(other, count: 1) == 1)
      #expect(try transaction.highestSeq(mailbox) == 6)
      refuse(StoreError.missing(.mailbox)) { try transaction.takeSeqs(99, count: 1) }
      refuse(StoreError.missing(.mailbox)) { try transaction.highestSeq(99) }
    }
  }

  @Test("numbers taken in a transaction that failed are given out again")
  func numbersRollBack() throws {
    #expect(throws: Refusal()) {
      try store.write { transaction throws in
        _ = try transaction.takeSeqs(mailbox, count: 5)
        throw Refusal()
      }
    }
    #expect(try store.write { try $0.takeSeqs(mailbox, count: 1) } == 1)
  }

  @Test("notices come ascending within count and bytes, and go one by one or up to a number")
  func notices() throws {
    func list(_ snapshot: StoreSnapshot, after: UInt64 = 0, count: Int = 9, bytes: Int = .max) throws
      -> [UInt64]
    {
      try snapshot.notices(mailbox, after: after, maxCount: count, maxBytes: bytes).map(\.seq)
    }
    try store.write { transaction throws in
      for seq: UInt64 in [3, 1, 2, 5] {
        try transaction.insertNotice(
          mailbox: mailbox, seq: seq, bytes: payload(Int(seq), count: 10), nowMs: now)
      }
      refuse(StoreError.conflict) {
        try transaction.insertNotice(mailbox: mailbox, seq: 3, bytes: [], nowMs: now)
      }
      #expect(try list(transaction) == [1, 2, 3, 5])
      #expect(try list(transaction, after: 2) == [3, 5])
      #expect(try list(transaction, count: 2) == [1, 2])
      #expect(try list(transaction, bytes: 0) == [1])
      #expect(try list(transaction, bytes: 29) == [1, 2])
      #expect(try list(transaction, bytes: 30) == [1, 2, 3])
      #expect(
        try transaction.notices(mailbox, after: 4, maxCount: 1, maxBytes: 0)
          == [NoticeRow(seq: 5, kind: .receipt, bytes: payload(5, count: 10))])

      #expect(try transaction.removeNotice(mailbox, seq: 2))
      #expect(try transaction.removeNotice(mailbox, seq: 2) == false)
      #expect(try transaction.removeNotices(mailbox, through: 3) == 2)
      #expect(try list(transaction) == [5])
    }
  }

  @Test("a device's mailbox counts deliveries once per number, and notices")
  func pending() throws {
    try store.write { transaction throws in
      let number = try stored(transaction.insertMessage(sample(1)))
      try transaction.insertDelivery(mailbox: mailbox, seq: 1, slots: [0, 1], message: number)
      try transaction.insertNotice(mailbox: mailbox, seq: 2, bytes: [1], nowMs: now)
      #expect(try transaction.pendingCount(mailbox) == 2)
      #expect(try transaction.pendingCount(mailbox + 1) == 0)
    }
  }

  @Test("a link starts at zeros and keeps all 64 bits of every number")
  func links() throws {
    let unknown = try store.read { try $0.link(peer: mailbox) }
    #expect(unknown == LinkRow(peer: mailbox))
    let row = LinkRow(
      peer: mailbox, outEpoch: .max, inEpoch: 1 << 63, inThrough: 3, receiptsInEpoch: 4, receiptsInThrough: 5,
      ackedThrough: 6)
    try store.write { transaction throws in
      try transaction.setLink(LinkRow(peer: mailbox, outEpoch: 1))
      try transaction.setLink(row)
    }
    #expect(try store.read { try $0.link(peer: mailbox) } == row)
    #expect(throws: StoreError.conflict) { try store.write { try $0.setLink(LinkRow(peer: 99)) } }
  }

  @Test("a named value is replaced as a whole")
  func values() throws {
    #expect(try store.read { try $0.value("key") } == nil)
    try store.write { transaction throws in
      try transaction.setValue([1, 2, 3], for: "key")
      try transaction.setValue([], for: "key")
    }
    #expect(try store.read { try $0.value("key") } == [])
  }
}
