import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport
import Testing

@testable import EngramNode

@Suite("Receipts signed together, at nodes")
struct DeviceReceiptTests {
  private func texts(_ count: Int, from alice: TestDevice, to bob: TestDevice) throws -> [[UInt8]] {
    try (0..<count).map { try sealText("\($0)", from: alice, to: [bob]).bytes }
  }

  @Test("in one acknowledgement each receipt stands for itself: a bad one is refused alone")
  func acknowledgement() throws {
    let shop = try Workshop()
    let sent = try texts(4, from: shop.alice, to: shop.bob)
    _ = shop.node.send(sent, shop.aliceSession)
    let items = try shop.node.items(shop.bobSession).filter { $0.kind == .envelope }
    var receipts = try shop.bob.receipts(about: items.map(\.payload))
    let good = receipts
    receipts[1][receipts[1].count - 1] ^= 1
    receipts[2][60] ^= 1
    func acknowledge(_ receipts: [[UInt8]]) -> [DeliveryOutcome] {
      let acks = zip(items, receipts).map { MailboxAck(seq: $0.seq, receipt: $1) }
      return shop.node.acknowledge(acks, shop.bobSession).map(\.outcome)
    }
    #expect(acknowledge(receipts) == [.accepted, .refused, .refused, .accepted])
    #expect(acknowledge(good) == [.duplicate, .accepted, .accepted, .duplicate])
    #expect(try shop.told() == [.processed, .processed, .processed, .processed])
  }

  @Test("leases are settled with receipts signed together, one signature for all")
  func leases() throws {
    let shop = try Workshop()
    for text in ["a", "b", "c"] { try shop.post(text) }
    let work = try shop.lease()
    var receipts = try shop.bob.receipts(about: work.map(\.envelope), atMs: shop.node.clock.nowMs())
    receipts[1][80] ^= 1
    let settlements = zip(work, receipts).map { $0.settlement(.ack(receipt: $1)) }
    #expect(
      shop.node.settle(settlements, shop.bobSession).map(\.outcome) == [.accepted, .refused, .accepted])
    receipts[1][80] ^= 1
    let again = work[1].settlement(.ack(receipt: receipts[1]))
    #expect(shop.node.settle(again, shop.bobSession).outcome == .accepted, "control: it keeps its lease")
    #expect(try shop.told() == [.processed, .processed, .processed])
  }

  @Test("another device's receipts do not pass among one's own, nor more of them than are allowed")
  func others() throws {
    let shop = try Workshop()
    _ = shop.node.send(try texts(2, from: shop.alice, to: shop.bob), shop.aliceSession)
    let items = try shop.node.items(shop.bobSession).filter { $0.kind == .envelope }
    let foreign = try shop.alice.receipts(about: items.map(\.payload))
    let own = try shop.bob.receipts(about: items.map(\.payload))
    let many = try shop.bob.receipts(
      about: Array(repeating: items[0].payload, count: Limits.deviceReceiptsPerSignatureMax + 1))
    func outcomes(_ receipts: [[UInt8]]) -> [DeliveryOutcome] {
      let acks = receipts.map { MailboxAck(seq: items[0].seq, receipt: $0) }
      return shop.node.acknowledge(acks, shop.bobSession).map(\.outcome)
    }
    #expect(outcomes([foreign[0], many[0], own[0]]) == [.refused, .refused, .accepted])
  }

  @Test("receipts signed together cross to the sender's node, and hold there under one signature")
  func federation() throws {
    let (acme, globex) = try NodeFixture.federation()
    let (alice, bob) = (try TestDevice("alice@acme.example"), try TestDevice("bob@globex.example"))
    let (aliceSession, bobSession) = (try acme.join(alice), try globex.join(bob))
    _ = acme.send(try texts(3, from: alice, to: bob), aliceSession)
    _ = try acme.carry(to: globex)
    let items = try globex.items(bobSession).filter { $0.kind == .envelope }
    let receipts = try bob.receipts(about: items.map(\.payload))
    let acks = zip(items, receipts).map { MailboxAck(seq: $0.seq, receipt: $1) }
    #expect(globex.acknowledge(acks, bobSession).allSatisfy { $0.outcome == .accepted })
    try globex.carryReceipts(to: acme)
    let told = try acme.receipts(aliceSession).filter { $0.body.role == .device }
    #expect(told.map(\.count) == [3, 3, 3] && Set(told.map(\.signature)).count == 1)
    let (roots, key) = (ReceiptRoots(), bob.certificate.key)
    for receipt in told {
      #expect(throws: Never.self) { try VerifiedReceipt(receipt, bytes: [], key: key, roots: roots) }
    }
  }
}
