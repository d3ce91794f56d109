import EngramCore
import EngramCrypto
import EngramSealing
import EngramStore
import Synchronization
import TestSupport
import Testing

@testable import EngramNode

@Suite("Work is leased, settled and tried again")
struct WorkTests {
  @Test("a message that is leased and acknowledged is gone, and its sender has the device's own receipt")
  func done() throws {
    let shop = try Workshop()
    try shop.post("dig")
    let work = try #require(try shop.lease().first)
    #expect(try shop.open(work) == "dig")
    #expect(work.lease.attempt == 1)
    #expect(work.lease.leaseMs == 30_000)
    #expect(try shop.lease().isEmpty, "one message, one holder")
    #expect(try shop.node.items(shop.bobSession).allSatisfy { $0.kind != .envelope }, "nor is it shown")
    #expect(try shop.ack(work).outcome == .accepted)
    #expect(try shop.ack(work).outcome == .duplicate, "asking again changes nothing")
    #expect(try shop.told() == [.processed])
    #expect(try shop.node.store.read { try $0.check() } == [])
    try shop.node.stop()
  }

  @Test("a lease that runs out is a failed attempt; its token settles nothing any more")
  func fencing() throws {
    let shop = try Workshop()
    try shop.post()
    let first = try #require(try shop.lease(seconds: 10).first)
    try shop.node.pass(ms: 9_999)
    #expect(try shop.lease().isEmpty, "the control: it is still held")
    try shop.node.pass(ms: 1)
    #expect(try shop.lease().isEmpty, "it rests first")
    try shop.node.pass(ms: 1_000)
    let second = try #require(try shop.lease().first)
    #expect(second.token > first.token)
    #expect(second.lease.attempt == 2)
    for verb in [
      Settlement.Verb.nack(delayMs: 0, code: .none), .reject(code: .none, receipt: []), .renew,
      .ack(receipt: try shop.bob.receipt(about: first.envelope)),
    ] {
      let late = shop.settle(first.settlement(verb))
      #expect(late.outcome == .refused && late.code == .leaseLost, "\(verb)")
      #expect(shop.settle(Settlement(seq: second.seq, token: first.token, verb)).code == .leaseLost)
    }
    #expect(shop.settle(Settlement(seq: second.seq, token: 0, .renew)).code == .notLeased)
    #expect(try shop.told() == [.delivered], "nothing changed")
    #expect(try shop.ack(second).outcome == .accepted)
    try shop.node.stop()
  }

  @Test("a renewed lease lasts")
  func renewal() throws {
    let shop = try Workshop()
    try shop.post()
    let work = try #require(try shop.lease(seconds: 10).first)
    for _ in 0..<5 {
      try shop.node.pass(ms: 9_000)
      #expect(shop.settle(work.settlement(.renew)).outcome == .accepted)
    }
    #expect(try shop.ack(work).outcome == .accepted)
    try shop.node.stop()
  }

  @Test("a nack with a delay brings the message back at that time, exact to a second")
  func delayed() throws {
    let shop = try Workshop()
    try shop.post()
    let work = try #require(try shop.lease().first)
    #expect(shop.settle(work.settlement(.nack(delayMs: 5_000, code: .overloaded))).outcome == .accepted)
    try shop.node.pass(ms: 4_999)
    #expect(try shop.lease().isEmpty)
    #expect(try shop.node.items(shop.bobSession).isEmpty, "held from readers too")
    try shop.node.pass(ms: 1)
    let again = try #require(try shop.lease().first)
    #expect(again.lease.attempt == 2)
    #expect(again.seq > work.seq, "under a new number")
    #expect(shop.settle(again.settlement(.nack(delayMs: 0, code: .none))).outcome == .accepted)
    #expect(try shop.lease().first?.lease.attempt == 3, "without delay it is there at once")
    try shop.node.stop()
  }

  @Test("what keeps failing becomes a dead letter with its history, and the sender is told once")
  func exhausted() throws {
    var settings = NodeSettings()
    settings.retry.attemptsMax = 3
    let shop = try Workshop(settings: settings)
    try shop.post()
    for attempt in 1...3 as ClosedRange<UInt32> {
      let work = try #require(try shop.lease().first)
      #expect(work.lease.attempt == attempt)
      #expect(shop.settle(work.settlement(.nack(delayMs: 1, code: .unsealFailed))).outcome == .accepted)
      try shop.node.pass(ms: 1_000)
    }
    #expect(try shop.lease().isEmpty)
    let receipts = try shop.node.receipts(shop.aliceSession).filter { $0.body.state == .deadLettered }
    #expect(receipts.count == 1)
    #expect(receipts.first?.body.code == .attemptsExhausted)
    #expect(receipts.first?.body.recipientKid == shop.bob.kid)
    #expect(receipts.first?.body.attempt == 3)

    let dead = try #require(try shop.node.node.queues().first { $0.kind == "dead-letters" })
    #expect(dead.owner == shop.bob.address.text && dead.waiting == 1)
    let letter = try #require(try shop.node.node.waiting(in: dead.mailbox, after: 0, maxCount: 10).first)
    #expect(letter.state == "dead-lettered")
    #expect(letter.history.map(\.attempt) == [1, 2, 3])
    #expect(letter.history.allSatisfy { $0.code == .unsealFailed && $0.kid == shop.bob.kid })
    let whole = try shop.node.node.inspect(dead.mailbox, seq: letter.seq)
    #expect(whole.recipients == [shop.bob.address] && whole.bytes > 0)

    // The operator gives it another round.
    try shop.node.node.requeue(dead.mailbox, seq: letter.seq)
    let work = try #require(try shop.lease().first)
    #expect(work.lease.attempt == 1)
    #expect(try shop.ack(work).outcome == .accepted)
    #expect(throws: ErrorCode.notFound) { try shop.node.node.requeue(dead.mailbox, seq: letter.seq) }
    let actions = try shop.node.leaves().map(\.action)
    #expect(actions == [.accepted, .retried, .retried, .deadLettered, .requeued, .processed])
    try shop.node.stop()
  }

  @Test("rejected without a receipt is a dead letter at once; with the device's failed receipt it has failed")
  func rejected() throws {
    let shop = try Workshop()
    try shop.post("a")
    try shop.post("b")
    let work = try shop.lease()
    #expect(shop.settle(work[0].settlement(.reject(code: .rejected, receipt: []))).outcome == .accepted)
    let failed = try shop.bob.receipt(about: work[1].envelope, state: .failed, code: .rejected)
    #expect(
      shop.settle(work[1].settlement(.reject(code: .rejected, receipt: failed))).outcome == .accepted)
    #expect(try shop.told() == [.deadLettered, .failed])
    let dead = try #require(try shop.node.node.queues().first { $0.kind == "dead-letters" })
    let letter = try #require(try shop.node.node.waiting(in: dead.mailbox, after: 0, maxCount: 9).first)
    try shop.node.node.drop(dead.mailbox, seq: letter.seq)
    #expect(try shop.node.node.waiting(in: dead.mailbox, after: 0, maxCount: 9).isEmpty)
    #expect(try shop.told() == [.deadLettered, .failed], "its sender knew already")
    #expect(try shop.node.store.read { try $0.check() } == [])
    try shop.node.stop()
  }

  @Test("a wrong or foreign receipt settles nothing and leaves the lease as it was")
  func wrongReceipts() throws {
    let shop = try Workshop()
    try shop.post("a")
    try shop.post("b")
    let work = try shop.lease()
    let foreign = try shop.alice.receipt(about: work[0].envelope)
    let other = try shop.bob.receipt(about: work[1].envelope)
    var broken = try shop.bob.receipt(about: work[0].envelope)
    broken[broken.count - 1] ^= 1
    for (receipt, code) in [
      (foreign, ErrorCode.wrongHome), (other, .malformed), (broken, .badSignature), ([1], .malformed),
    ] {
      let outcome = shop.settle(work[0].settlement(.ack(receipt: receipt)))
      #expect(outcome.outcome == .refused && outcome.code == code)
    }
    let processed = try shop.bob.receipt(about: work[0].envelope)
    #expect(
      shop.settle(work[0].settlement(.reject(code: .none, receipt: processed))).code == .malformed,
      "a reject does not say processed")
    #expect(try shop.told() == [])
    #expect(try shop.ack(work[0]).outcome == .accepted, "the control")
    try shop.node.stop()
  }

  @Test("nothing is settled after its expiry, whether the node has looked yet or not")
  func expiredWork() throws {
    let shop = try Workshop()
    try shop.post { $0.expiresMs = $0.createdMs + 60_000 }
    let work = try #require(try shop.lease(seconds: 3_600).first)
    shop.node.clock.advance(ms: 60_000)
    let early = try shop.ack(work)
    #expect(early.outcome == .refused && early.code == .expired)
    try shop.node.pass(ms: 1)
    let late = try shop.ack(work)
    #expect(late.outcome == .refused && late.code == .expired)
    #expect(try shop.told().last == .expired)
    #expect(try shop.lease().isEmpty)
    try shop.node.stop()
  }

  @Test("a restart ends every lease, keeps failures, and tokens go on growing")
  func restart() throws {
    let shop = try Workshop()
    try shop.post("a")
    try shop.post("b")
    let before = try shop.lease()
    #expect(shop.settle(before[0].settlement(.nack(delayMs: 0, code: .none))).outcome == .accepted)
    try shop.node.stop()
    let next = try NodeFixture("acme.example", clock: shop.node.clock, directory: shop.node.directory)
    let session = try next.login(shop.bob)
    let after = try next.lease(session)
    #expect(after.map(\.lease.attempt) == [1, 2], "one was only held, one had failed")
    #expect(after.allSatisfy { new in before.allSatisfy { $0.token < new.token } })
    #expect(next.settle(before[1].settlement(.renew), session).code == .leaseLost)
    try next.stop()
  }

  @Test("a plain acknowledgement cannot take a message out of a consumer's hands")
  func plainAcknowledgement() throws {
    let shop = try Workshop()
    try shop.post()
    let shown = try #require(try shop.node.items(shop.bobSession).first { $0.kind == .envelope })
    let work = try #require(try shop.lease().first)
    let receipt = try shop.bob.receipt(about: shown.payload)
    let refused = shop.node.acknowledge([MailboxAck(seq: shown.seq, receipt: receipt)], shop.bobSession)
    #expect(refused.first?.code == .leaseLost)
    #expect(shop.settle(work.settlement(.nack(delayMs: 0, code: .none))).outcome == .accepted)
    let again = try #require(try shop.node.items(shop.bobSession).first { $0.kind == .envelope })
    let taken = shop.node.acknowledge([MailboxAck(seq: again.seq, receipt: receipt)], shop.bobSession)
    #expect(taken.first?.outcome == .accepted, "the control: nobody holds it now")
    try shop.node.stop()
  }
}

@Suite("Order, time and consumers")
struct WorkOrderTests {
  @Test("work comes by priority, and by arrival within one; LOW has aged enough after four steps")
  func priorities() throws {
    let shop = try Workshop()
    try shop.post("low", .low)
    try shop.post("normal", .normal)
    try shop.post("critical", .critical)
    try shop.post("high", .high)
    try shop.post("critical too", .critical)
    let texts = try shop.lease().map { try shop.open($0) }
    #expect(texts == ["critical", "critical too", "high", "normal", "low"])

    try shop.post("old and low", .low)
    try shop.node.pass(ms: 4 * 60_000 - 1)
    try shop.post("critical, just in time", .critical)
    try shop.node.pass(ms: 1)
    try shop.post("critical, too late", .critical)
    let aged = try shop.lease(max: 3).map { try shop.open($0) }
    #expect(aged == ["critical, just in time", "old and low", "critical, too late"])
    try shop.node.stop()
  }

  @Test("a message for later is held until its time, at its recipient's node, and expires like any other")
  func scheduled() throws {
    let shop = try Workshop()
    try shop.post("later") { $0.notBeforeMs = $0.createdMs + 90_000 }
    try shop.post("never") {
      $0.notBeforeMs = $0.createdMs + 30_000
      $0.expiresMs = $0.createdMs + 30_001
    }
    try shop.node.pass(ms: 29_999)
    #expect(try shop.lease().isEmpty)
    #expect(try shop.node.node.queueState(shop.bobSession).held == 2)
    try shop.node.pass(ms: 30_001)
    #expect(try shop.lease().isEmpty, "nothing that has expired is handed out")
    try shop.node.pass(ms: 30_000)
    #expect(try shop.lease().map { try shop.open($0) } == ["later"])
    #expect(try shop.told() == [.expired])
    try shop.node.stop()
  }

  @Test("consumers share work by load, never beyond their prefetch, and hear of new work")
  func consumers() throws {
    let shop = try Workshop()
    let (one, rings) = try shop.node.consumer(shop.bobSession, prefetch: 2)
    let (two, _) = try shop.node.consumer(shop.bobSession, prefetch: 4)
    var known = KnownSenders()
    func take(_ consumer: Consumer) throws -> [Leased] {
      try leased(consumer.take(maxCount: 100, maxBytes: 1 << 20, knownSenders: &known))
    }
    #expect(try take(one).isEmpty)
    for number in 0..<8 { try shop.post("\(number)") }
    try shop.node.flush()
    #expect(rings.count > 0)
    let (first, second) = (try take(one), try take(two))
    #expect((first.count, second.count) == (2, 4))
    #expect(Set(first.map(\.seq)).isDisjoint(with: second.map(\.seq)))
    #expect(first.allSatisfy { $0.lease.leaseMs == 0 }, "as long as the connection lasts")
    #expect(try take(one).isEmpty && take(two).isEmpty)
    let state = try shop.node.node.queueState(shop.bobSession)
    #expect(state == QueueState(mode: .each, waiting: 2, held: 0, leased: 6, consumers: 2))
    #expect(try shop.ack(first[0]).outcome == .accepted)
    #expect(try take(one).count == 1)
    // What the first one held goes to the second as soon as it has room.
    one.cancel()
    for work in second { #expect(try shop.ack(work).outcome == .accepted) }
    #expect(try take(two).count == 3)
    two.cancel()
    #expect(try shop.node.node.queueState(shop.bobSession).waiting == 3)
    #expect(try shop.lease().allSatisfy { $0.lease.attempt == 1 }, "going away was nobody's failure")
    try shop.node.stop()
  }

  @Test("a consumer that goes away fails what it had fetched, if it asked for that")
  func countedDisconnects() throws {
    let shop = try Workshop()
    for _ in 0..<3 { try shop.post() }
    let (consumer, _) = try shop.node.consumer(shop.bobSession, prefetch: 2, countsDisconnects: true)
    var known = KnownSenders()
    #expect(try leased(consumer.take(maxCount: 1, maxBytes: 1 << 20, knownSenders: &known)).count == 1)
    consumer.cancel()
    try shop.node.flush()
    #expect(try shop.lease().count == 2, "one rests")
    try shop.node.pass(ms: 1_000)
    #expect(try shop.lease().map(\.lease.attempt) == [2])
    try shop.node.stop()
  }

  @Test("a queue longer than what is kept in view is worked off whole and in order")
  func longQueue() throws {
    let shop = try Workshop()
    let count = 1_300
    let sealed = try (0..<count).map { number in
      try sealText("\(number)", from: shop.alice, to: [shop.bob])
    }
    for start in stride(from: 0, to: count, by: 260) {
      let outcomes = shop.node.send(sealed[start..<(start + 260)].map(\.bytes), shop.aliceSession)
      #expect(outcomes.allSatisfy { $0.outcome == .accepted })
    }
    let (consumer, _) = try shop.node.consumer(shop.bobSession, prefetch: 100)
    var known = KnownSenders()
    var seqs: [UInt64] = []
    for _ in 0..<100 where seqs.count < count {
      let work = try leased(consumer.take(maxCount: 100, maxBytes: 1 << 20, knownSenders: &known))
      seqs += work.map(\.seq)
      let acks = try work.map { try $0.ack(by: shop.bob, nowMs: shop.node.clock.nowMs()) }
      #expect(shop.node.settle(acks, shop.bobSession).allSatisfy { $0.outcome == .accepted })
    }
    #expect(seqs == Array(1...UInt64(count)))
    consumer.cancel()
    try shop.node.stop()
  }

  @Test("the sender hears of a delivery when the device has not said more by then, and only then")
  func delivered() throws {
    let shop = try Workshop()
    try shop.post("quick")
    try shop.post("slow")
    let work = try shop.lease()
    #expect(try shop.ack(work[0]).outcome == .accepted)
    try shop.node.pass(ms: 199)
    #expect(try shop.told() == [.processed])
    try shop.node.pass(ms: 1)
    #expect(try shop.told() == [.processed, .delivered])
    let receipt = try #require(
      try shop.node.receipts(shop.aliceSession).first { $0.body.state == .delivered })
    #expect(receipt.body.role == .recipientNode && receipt.body.recipientKid == shop.bob.kid)
    try shop.node.pass(ms: 1_000)
    #expect(try shop.told().count == 2, "once")
    try shop.node.stop()
  }

  @Test("what a poll cannot carry is ready for the next one")
  func bytes() throws {
    let shop = try Workshop()
    for _ in 0..<4 { try shop.post(String(repeating: "x", count: 3_000)) }
    var known = KnownSenders()
    func poll() throws -> Int {
      try leased(
        shop.node.node.lease(
          shop.bobSession, LeaseRequest(maxCount: 100, maxBytes: 9_000), knownSenders: &known)
      ).count
    }
    #expect(try poll() == 2)
    #expect(try poll() == 2)
    #expect(try poll() == 0)
    #expect(throws: ErrorCode.nonCanonical) {
      try shop.node.node.lease(
        shop.bobSession, LeaseRequest(maxCount: 1, maxBytes: 1, visibilityMs: 999), knownSenders: &known)
    }
    try shop.node.stop()
  }
}
