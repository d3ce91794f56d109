import EngramCore
import Testing

@testable import EngramStore

@Suite("Messages and deliveries")
struct MessageTests {
  let folder: Folder
  let store: Store
  let mailbox: Int64

  init() throws {
    folder = try Folder()
    store = try folder.open()
    mailbox = try store.write { try $0.deviceMailbox() }
  }

  @Test("a message reads back as it was stored")
  func roundTrip() throws {
    var new = sample(1, open: 1)
    new.origin = 7
    new.notBeforeMs = now + 1
    let number = try store.write { transaction throws in
      let number = try stored(transaction.insertMessage(new))
      try transaction.insertDelivery(mailbox: mailbox, seq: 1, slots: [3, 5], message: number)
      return number
    }
    let row = try #require(try store.read { try $0.message(digest(1)) })
    let info = MessageInfo(
      message: number, dedupe: digest(1), envelopeID: envelopeID(1), sender: alice, senderKid: kid(0),
      type: .taskRequest, priority: .high, createdMs: now - 5, expiresMs: now + 60_000, notBeforeMs: now + 1,
      origin: 7, acceptedMs: now, open: 1)
    #expect(row == MessageRow(info: info, bytes: payload(1)))
    let place = DeliveryPlace(mailbox: mailbox, seq: 1, message: number, slots: [3, 5])
    let delivery = DeliveryRow(place: place, info: info, bytes: payload(1))
    #expect(try store.read { try $0.delivery(mailbox, seq: 1) } == delivery)
    #expect(try store.read { try $0.delivery(mailbox, seq: 2) } == nil)
    #expect(try store.read { try $0.delivery(mailbox, seq: 0) } == nil)
  }

  @Test("the same deduplication key is answered with the envelope that came first, whatever the bytes")
  func deduplication() throws {
    let original = sample(1, open: 0)
    var other = sample(1, open: 0, bytes: payload(2))
    other.envelopeID = envelopeID(2)
    other.acceptedMs = now + 9
    try store.write { transaction throws in
      _ = try stored(transaction.insertMessage(original))
      let known = InsertOutcome.exists(envelope: envelopeID(1), acceptedMs: now)
      #expect(try transaction.insertMessage(original) == known)
      #expect(try transaction.insertMessage(other) == known)
      // Control: another key is new.
      _ = try stored(transaction.insertMessage(sample(2, open: 0)))
    }
    #expect(try store.read { try $0.counts().messages } == 2)
  }

  @Test("a duplicate is recognised after its message was delivered and wiped")
  func deduplicationOutlivesDelivery() throws {
    try store.write { transaction throws in
      let seq = try transaction.post(1, to: mailbox)
      _ = try transaction.removeDelivery(mailbox, seq: seq)
      #expect(try transaction.message(digest(1))?.bytes == nil)
      #expect(try transaction.insertMessage(sample(1)) == .exists(envelope: envelopeID(1), acceptedMs: now))
    }
  }

  @Test("an expiry that SQL cannot order is refused")
  func expiryOutOfRange() throws {
    #expect(throws: StoreError.outOfRange) {
      try store.write { try $0.insertMessage(sample(1, expiresMs: 1 << 63)) }
    }
  }

  @Test("deliveries come ascending, after a number, at most as many as asked for")
  func listing() throws {
    try store.write { transaction throws in
      for number in 1...5 { try transaction.post(number, to: mailbox) }
    }
    func list(after seq: UInt64, count: Int) throws -> [UInt64] {
      try store.read {
        try $0.deliveries(mailbox, after: seq, maxCount: count, maxBytes: .max).map(\.seq)
      }
    }
    #expect(try list(after: 0, count: 10) == [1, 2, 3, 4, 5])
    #expect(try list(after: 2, count: 2) == [3, 4])
    #expect(try list(after: 5, count: 2) == [])
    #expect(try list(after: .max, count: 2) == [])
    #expect(try list(after: 0, count: 0) == [])
  }

  @Test("a list stops before it exceeds its bytes, but never at nothing")
  func byteBudget() throws {
    try store.write { transaction throws in
      for number in 1...3 { try transaction.post(number, to: mailbox, bytes: payload(number, count: 100)) }
    }
    func count(_ maxBytes: Int) throws -> Int {
      try store.read { try $0.deliveries(mailbox, after: 0, maxCount: 10, maxBytes: maxBytes).count }
    }
    #expect(try count(0) == 1)
    #expect(try count(199) == 1)
    #expect(try count(200) == 2)
    #expect(try count(300) == 3)
  }

  @Test("the bytes stay until the last delivery of a message is done")
  func lastDeliveryWipes() throws {
    try store.write { transaction throws in
      let peer = try transaction.createMailbox(.peerEnvelopes, owner: Array("b.example".utf8))
      let number = try stored(transaction.insertMessage(sample(1, open: 2)))
      try transaction.insertDelivery(mailbox: mailbox, seq: 1, slots: [0], message: number)
      try transaction.insertDelivery(mailbox: peer, seq: 9, slots: [1, 2], message: number)

      let first = try #require(try transaction.removeDelivery(peer, seq: 9))
      #expect((first.mailbox, first.seq, first.slots, first.info.open) == (peer, 9, [1, 2], 1))
      #expect(first.info.envelopeID == envelopeID(1))
      #expect(try transaction.message(digest(1))?.bytes == payload(1))

      #expect(try transaction.removeDelivery(mailbox, seq: 1)?.info.open == 0)
      #expect(try transaction.message(digest(1))?.bytes == nil)
      #expect(try transaction.removeDelivery(mailbox, seq: 1) == nil)
    }
    #expect(try store.read { try $0.check() } == [])
  }

  @Test("removing many leaves out those that are not there")
  func bulkRemoval() throws {
    try store.write { transaction throws in
      for number in 1...4 { try transaction.post(number, to: mailbox) }
      let removed = try transaction.removeDeliveries(mailbox, seqs: [4, 2, 99])
      #expect(removed.map(\.seq) == [4, 2])
      let left = try transaction.deliveries(mailbox, after: 0, maxCount: 9, maxBytes: .max)
      #expect(left.map(\.seq) == [1, 3])
      #expect(try transaction.pendingCount(mailbox) == 2)
    }
  }

  @Test("a requeued delivery waits under its new number with all its slots")
  func requeue() throws {
    try store.write { transaction throws in
      let number = try stored(transaction.insertMessage(sample(1)))
      try transaction.insertDelivery(mailbox: mailbox, seq: 1, slots: [0, 4], message: number)
      #expect(try transaction.requeueDelivery(mailbox, seq: 1, newSeq: 8))
      #expect(try transaction.requeueDelivery(mailbox, seq: 1, newSeq: 9) == false)
      #expect(try transaction.delivery(mailbox, seq: 1) == nil)
      #expect(try transaction.delivery(mailbox, seq: 8)?.slots == [0, 4])
      #expect(try transaction.removeDelivery(mailbox, seq: 8)?.info.open == 0)
    }
  }

  @Test("a place in a mailbox holds one row, and mailbox and message must exist")
  func deliveryConstraints() throws {
    let number = try store.write { transaction throws in
      let number = try stored(transaction.insertMessage(sample(1)))
      try transaction.insertDelivery(mailbox: mailbox, seq: 1, slots: [0], message: number)
      return number
    }
    func refused(_ mailbox: Int64, _ seq: UInt64, _ message: Int64) {
      refuse(StoreError.conflict) {
        try store.write { try $0.insertDelivery(mailbox: mailbox, seq: seq, slots: [0], message: message) }
      }
    }
    refused(mailbox, 1, number)
    refused(mailbox + 1, 2, number)
    refused(mailbox, 2, number + 1)
    refused(mailbox, 0, number)
  }
}
