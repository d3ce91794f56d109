import EngramCore
import EngramCrypto
import EngramSealing
import EngramStore
import TestSupport
import Testing

@testable import EngramNode

@Suite("What devices read without a lease")
struct ReadingTests {
  private func envelopes(_ items: [MailboxItem]) -> [MailboxItem] { items.filter { $0.kind == .envelope } }

  private func read(_ shop: Workshop) throws -> [MailboxItem] {
    envelopes(try shop.node.items(shop.bobSession))
  }

  private func ack(_ item: MailboxItem, by device: TestDevice, atMs: UInt64) throws -> MailboxAck {
    MailboxAck(seq: item.seq, receipt: try device.receipt(about: item.payload, atMs: atMs))
  }

  private func acknowledge(_ item: MailboxItem, _ shop: Workshop) throws -> ItemOutcome {
    let ack = try ack(item, by: shop.bob, atMs: shop.node.clock.nowMs())
    return shop.node.acknowledge([ack], shop.bobSession)[0]
  }

  private func id(_ sealed: SealedEnvelope) throws -> MessageID {
    try UnverifiedEnvelope(parsing: sealed.bytes).header.messageID
  }

  @Test("the sender hears that a message was delivered when its reader has not said more by then, once")
  func delivered() throws {
    let shop = try Workshop()
    try shop.post("quick")
    try shop.post("slow")
    let items = try read(shop)
    #expect(try acknowledge(items[0], shop).outcome == .accepted)
    try shop.node.pass(ms: 199)
    #expect(try shop.told() == [.processed])
    try shop.node.pass(ms: 1)
    #expect(try shop.told() == [.processed, .delivered])
    let receipt = try #require(
      try shop.node.receipts(shop.aliceSession).first { $0.body.state == .delivered })
    #expect(receipt.body.role == .recipientNode && receipt.body.recipientKid == shop.bob.kid)
    #expect(try shop.node.leaves().count { $0.action == .delivered } == 1)
    for _ in 0..<3 {
      #expect(try read(shop).count == 1, "it waits until it is acknowledged")
      try shop.node.pass(ms: 1_000)
    }
    // A consumer that takes it now is nothing new to the sender.
    #expect(try shop.lease().count == 1)
    try shop.node.pass(ms: 1_000)
    #expect(try shop.told() == [.processed, .delivered])
    try shop.node.stop()
  }

  @Test("what is pushed from memory is stated as delivered like what is read from the store")
  func fresh() throws {
    let shop = try Workshop()
    let watch = shop.node.node.followMailbox(shop.bobSession)
    defer { watch.cancel() }
    var known = KnownSenders()
    // The certificate comes first, from the store.
    try shop.post("first")
    var items = try shop.node.node.items(
      shop.bobSession, after: 0, maxCount: 100, maxBytes: 1 << 20, knownSenders: &known)
    let through = try #require(items.last?.seq)
    try shop.post("second")
    items = try #require(
      shop.node.node.freshItems(
        shop.bobSession, after: through, maxCount: 100, maxBytes: 1 << 20, knownSenders: known))
    #expect(envelopes(items).count == 1)
    try shop.node.pass(ms: 200)
    #expect(try shop.told() == [.delivered, .delivered])
    try shop.node.stop()
  }

  @Test("after a restart nothing is stated again, and what was stated cannot be cancelled")
  func restart() throws {
    let shop = try Workshop()
    let shown = try shop.post("shown")
    #expect(try read(shop).count == 1)
    try shop.node.pass(ms: 200)
    let unseen = try shop.post("unseen")
    try shop.node.stop()

    let next = try NodeFixture("acme.example", clock: shop.node.clock, directory: shop.node.directory)
    let (alice, bob) = (try next.login(shop.alice), try next.login(shop.bob))
    func cancel(_ sealed: SealedEnvelope) throws -> ItemOutcome {
      let message = try id(sealed)
      return next.wait { next.node.cancel(message, alice, completion: $0) }
    }
    #expect(try cancel(shown).code == .notCancellable)
    #expect(try cancel(unseen).outcome == .accepted, "control: nobody has read it")
    #expect(envelopes(try next.items(bob)).count == 1)
    try next.pass(ms: 1_000)
    #expect(try next.told(alice) == [.delivered, .cancelled])
    try next.stop()
  }

  @Test("done with after its expiry: refused, and the device's word reaches the sender once")
  func late() throws {
    let shop = try Workshop()
    try shop.post("swept") { $0.expiresMs = $0.createdMs + 10_000 }
    try shop.post("not swept") { $0.expiresMs = $0.createdMs + 20_000 }
    let items = try read(shop)
    try shop.node.pass(ms: 10_000)
    #expect(try shop.told() == [.delivered, .expired], "what has ended is not delivered any more")
    for _ in 0..<2 {
      let outcome = try acknowledge(items[0], shop)
      #expect(outcome.outcome == .refused && outcome.code == .expired)
    }
    #expect(try shop.told() == [.delivered, .expired, .processed])
    // Its time is up, and nothing has looked at it yet.
    shop.node.clock.advance(ms: 10_000)
    for _ in 0..<2 { #expect(try acknowledge(items[1], shop).code == .expired) }
    #expect(try shop.told() == [.delivered, .expired, .processed, .processed])
    try shop.node.pass(ms: 0)
    #expect(try acknowledge(items[1], shop).code == .expired)
    #expect(try shop.told() == [.delivered, .expired, .processed, .processed, .expired])
    try shop.node.stop()
  }

  @Test(
    "the late word of a consumer reaches the sender too, that of a device which was given nothing does not")
  func lateConsumer() throws {
    let shop = try Workshop()
    try shop.post("leased") { $0.expiresMs = $0.createdMs + 10_000 }
    let work = try #require(try shop.lease(seconds: 60).first)
    let unseen = try shop.post("unseen") { $0.expiresMs = $0.createdMs + 10_000 }
    try shop.node.pass(ms: 10_000)
    #expect(try shop.told() == [.expired, .expired])
    #expect(try shop.ack(work).code == .expired)
    #expect(try shop.told() == [.expired, .expired, .processed])
    let receipt = try shop.bob.receipt(about: unseen.bytes, atMs: shop.node.clock.nowMs())
    let outcomes = shop.node.acknowledge([MailboxAck(seq: 2, receipt: receipt)], shop.bobSession)
    #expect(outcomes.map(\.code) == [.expired])
    #expect(try shop.told().count == 3, "control: nobody had it in hand")
    try shop.node.stop()
  }

  @Test("a message that was cancelled in the moment after a restart is the device's to finish")
  func lateAfterCancelling() throws {
    let shop = try Workshop()
    let sealed = try shop.post("task")
    let item = try #require(try read(shop).first)
    try shop.node.stop()
    // Nobody has been told that it was read, so nobody knows any more.
    let next = try NodeFixture("acme.example", clock: shop.node.clock, directory: shop.node.directory)
    let (alice, bob) = (try next.login(shop.alice), try next.login(shop.bob))
    let message = try id(sealed)
    #expect(next.wait { next.node.cancel(message, alice, completion: $0) }.outcome == .accepted)
    let ack = try ack(item, by: shop.bob, atMs: shop.node.clock.nowMs())
    for _ in 0..<2 { #expect(next.acknowledge([ack], bob).map(\.outcome) == [.duplicate]) }
    #expect(try next.told(alice) == [.cancelled, .processed])
    try next.stop()
  }

  @Test(
    "across organisations the sender hears of the delivery, of the expiry, and of the word that came late")
  func federated() throws {
    let (acme, globex) = try NodeFixture.federation()
    let (alice, bob) = (try TestDevice("alice@acme.example"), try TestDevice("bob@globex.example"))
    let (aliceSession, bobSession) = (try acme.join(alice), try globex.join(bob))
    let nowMs = acme.clock.nowMs()
    let sealed = try sealText("task", from: alice, to: [bob], nowMs: nowMs) { $0.expiresMs = nowMs + 5_000 }
    #expect(acme.send(sealed.bytes, aliceSession).outcome == .accepted)
    _ = try acme.carry(to: globex)
    let item = try #require(envelopes(try globex.items(bobSession)).first)
    try globex.pass(ms: 1_000)
    try globex.pass(ms: 4_000)
    let ack = try ack(item, by: bob, atMs: globex.clock.nowMs())
    #expect(globex.acknowledge([ack], bobSession).map(\.code) == [.expired])
    try globex.carryReceipts(to: acme)
    #expect(try acme.told(aliceSession) == [.delivered, .expired, .processed])
    try acme.stop()
    try globex.stop()
  }
}

@Suite("Deliveries that wait to be stated")
struct DeliveredBatchTests {
  private func entries(_ seqs: ClosedRange<UInt64>, dueMs: UInt64) throws -> [DeliveredBatch.Entry] {
    let device = try TestDevice("bob@acme.example")
    return seqs.map {
      DeliveredBatch.Entry(
        mailbox: 1, seq: $0, address: device.address, kid: device.kid, isLeased: false, dueMs: dueMs)
    }
  }

  @Test("what is settled is not stated, what is handed out again is stated once, and the bound holds")
  func bounds() throws {
    let batch = DeliveredBatch()
    batch.add(try entries(1...10, dueMs: 200))
    batch.add(try entries(5...12, dueMs: 250))
    batch.settled(1, seqs: [2, 11])
    #expect(batch.due(nowMs: 199).isEmpty)
    #expect(batch.due(nowMs: 200).map(\.seq) == [1] + Array(3...10))
    #expect(batch.due(nowMs: 300).map(\.seq) == [12])
    batch.add(try entries(1...150_000, dueMs: 400))
    #expect(batch.due(nowMs: 400).count == 100_000)
    #expect(batch.due(nowMs: 500).isEmpty)
  }
}
