import EngramCore
import EngramCrypto
import EngramSealing
import EngramStore
import Synchronization
import TestSupport

@testable import EngramNode

/// A leased item, taken apart.
struct Leased {
  let seq: UInt64
  let lease: LeasedEnvelope

  var token: UInt64 { lease.token }
  var envelope: [UInt8] { lease.envelope }

  func settlement(_ verb: Settlement.Verb) -> Settlement { Settlement(seq: seq, token: token, verb) }

  func ack(by device: TestDevice, nowMs: UInt64) throws -> Settlement {
    settlement(.ack(receipt: try device.receipt(about: envelope, atMs: nowMs)))
  }
}

func leased(_ items: [MailboxItem]) throws -> [Leased] {
  try items.filter { $0.kind == .leased }.map {
    Leased(seq: $0.seq, lease: try LeasedEnvelope(parsing: $0.payload[...]))
  }
}

extension NodeFixture {
  func lease(_ session: ClientSession, max: Int = 100, seconds: UInt64 = 30) throws -> [Leased] {
    var known = KnownSenders()
    return try leased(
      node.lease(
        session, LeaseRequest(maxCount: max, maxBytes: 1 << 20, visibilityMs: seconds * 1_000),
        knownSenders: &known))
  }

  func settle(_ settlements: [Settlement], _ session: ClientSession) -> [ItemOutcome] {
    wait { node.settle(settlements, session, completion: $0) }
  }

  func settle(_ settlement: Settlement, _ session: ClientSession) -> ItemOutcome {
    settle([settlement], session)[0]
  }

  func consumer(
    _ session: ClientSession, prefetch: UInt32, visibilityMs: UInt32 = 0, countsDisconnects: Bool = false
  ) throws -> (consumer: Consumer, rings: Rings) {
    let rings = Rings()
    let consumer = try node.consume(
      session,
      ConsumeRequest(
        prefetch: prefetch, visibilityMs: visibilityMs, countsDisconnects: countsDisconnects)
    ) { rings.ring() }
    return (consumer, rings)
  }

  /// Every command that was queued before is done.
  func flush() throws { _ = try invite("flush-\(UInt64.random(in: 0 ... .max))") }

  /// Time passes, and everything that looks at it has looked.
  func pass(ms: UInt64) throws {
    clock.advance(ms: ms)
    node.tick()
    try flush()
    try sweep()
    try flush()
  }

  /// A second device of a client, as its first one would enrol it.
  func addDevice(_ device: TestDevice, newList: DeviceList) throws -> ClientSession {
    try store.write { transaction in
      let mailbox = try transaction.createMailbox(.device, owner: device.kid.bytes)
      try transaction.insertDevice(
        DeviceRow(
          kid: device.kid, address: device.address, certificate: device.certificate.bytes, mailbox: mailbox))
      try transaction.updateDeviceList(device.address, list: newList.bytes, version: newList.body.version)
    }
    node.roster.forget(newList.body.entries.map(\.kid))
    return try login(device)
  }

  func leaves() throws -> [AuditLeaf] {
    try store.read { try $0.auditRows(after: 0, limit: 10_000) }.flatMap {
      try AuditLeaf.decode($0.leaves[...])
    }
  }

  /// States that the sender was told of, in order, without those of acceptance.
  func told(_ session: ClientSession) throws -> [ReceiptState] {
    try receipts(session).map(\.body.state).filter { $0 != .accepted && $0 != .admitted }
  }
}

/// Counts how often a consumer was told of work.
final class Rings: Sendable {
  private let value = Mutex(0)
  var count: Int { value.withLock { $0 } }
  func ring() { value.withLock { $0 += 1 } }
}

/// One organisation with a sender and a worker.
struct Workshop {
  let node: NodeFixture
  let alice: TestDevice
  let bob: TestDevice
  let aliceSession: ClientSession
  let bobSession: ClientSession

  init(settings: NodeSettings = NodeSettings(), fault: CommitFault? = nil) throws {
    node = try NodeFixture("acme.example", settings: settings, fault: fault)
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@acme.example")
    aliceSession = try node.join(alice)
    bobSession = try node.join(bob)
  }

  @discardableResult
  func post(
    _ text: String = "work", _ priority: Priority = .normal, adjust: (inout SealRequest) -> Void = { _ in }
  ) throws -> SealedEnvelope {
    let nowMs = node.clock.nowMs()
    let sealed = try sealText(text, from: alice, to: [bob], nowMs: nowMs) {
      $0.priority = priority
      adjust(&$0)
    }
    let outcome = node.send(sealed.bytes, aliceSession)
    guard outcome.outcome == .accepted else { throw outcome.code }
    return sealed
  }

  func lease(max: Int = 100, seconds: UInt64 = 30) throws -> [Leased] {
    try node.lease(bobSession, max: max, seconds: seconds)
  }

  func settle(_ settlement: Settlement) -> ItemOutcome { node.settle(settlement, bobSession) }
  func ack(_ leased: Leased) throws -> ItemOutcome {
    settle(try leased.ack(by: bob, nowMs: node.clock.nowMs()))
  }
  func open(_ leased: Leased) throws -> String {
    String(decoding: try bob.open(leased.envelope, from: alice).body, as: UTF8.self)
  }
  func told() throws -> [ReceiptState] { try node.told(aliceSession) }
}
