import EngramCore
import EngramCrypto
import EngramSealing
import EngramStore
import TestSupport
import Testing

@testable import EngramNode

@Suite("Several devices of one agent share its work")
struct WorkQueueTests {
  let node: NodeFixture
  let alice: TestDevice
  let aliceSession: ClientSession
  /// Two devices of the same agent.
  let bobs: [TestDevice]
  let sessions: [ClientSession]

  init() throws {
    node = try NodeFixture("acme.example")
    alice = try TestDevice("alice@acme.example")
    aliceSession = try node.join(alice)
    let first = try TestDevice("bob@acme.example")
    let second = try TestDevice("bob@acme.example", device: "second", others: [first.kid], listVersion: 2)
    let one = try node.join(first)
    bobs = [first, second]
    sessions = [one, try node.addDevice(second, newList: second.list)]
  }

  private func post(_ text: String, to devices: [TestDevice]) throws {
    let sealed = try sealText(text, from: alice, to: devices, nowMs: node.clock.nowMs())
    let outcome = node.send(sealed.bytes, aliceSession)
    guard outcome.outcome == .accepted else { throw outcome.code }
  }

  private func mode(_ mode: QueueMode) -> ErrorCode {
    node.wait { node.node.setQueueMode(mode, sessions[0], completion: $0) }
  }

  private func text(_ work: Leased, _ device: Int) throws -> String {
    String(decoding: try bobs[device].open(work.envelope, from: alice).body, as: UTF8.self)
  }

  @Test("in mode each every device gets its copy, in mode one exactly one device gets it")
  func modes() throws {
    try post("each", to: bobs)
    #expect(try node.lease(sessions[0]).count == 1)
    #expect(try node.lease(sessions[1]).count == 1)
    try node.pass(ms: 40_000)
    try node.pass(ms: 2_000)
    #expect(mode(.one) == .none)
    #expect(mode(.one) == .none, "again changes nothing")
    for number in 0..<6 { try post("\(number)", to: bobs) }
    let shares = [try node.lease(sessions[0], max: 3), try node.lease(sessions[1], max: 10)]
    // Copies that waited for both have become one.
    #expect(shares.map(\.count) == [3, 4])
    let seqs = shares.flatMap { $0.map(\.seq) }
    #expect(Set(seqs).count == seqs.count)
    #expect(try node.lease(sessions[0]).isEmpty)
    for (device, share) in shares.enumerated() {
      for work in share {
        _ = try text(work, device)
        let ack = try work.ack(by: bobs[device], nowMs: node.clock.nowMs())
        #expect(node.settle(ack, sessions[1 - device]).outcome == .refused, "the other did not have it")
        #expect(node.settle(ack, sessions[device]).outcome == .accepted)
      }
    }
    #expect(try node.store.read { try $0.counts().openDeliveries } == 0)
    #expect(try node.store.read { try $0.check() } == [])
    try node.stop()
  }

  @Test("a device never gets a message that was not sealed for it, and does not hide it from the other")
  func eligibility() throws {
    #expect(mode(.one) == .none)
    try post("first only", to: [bobs[0]])
    try post("second only", to: [bobs[1]])
    try post("both", to: bobs)
    let second = try node.lease(sessions[1])
    #expect(try second.map { try text($0, 1) } == ["second only", "both"])
    #expect(try node.lease(sessions[0]).map { try text($0, 0) } == ["first only"])
    try node.stop()
  }

  @Test("changing the mode takes what waits along, in both directions, with its failures")
  func moving() throws {
    for number in 0..<5 { try post("\(number)", to: bobs) }
    let failed = try #require(try node.lease(sessions[0], max: 1).first)
    #expect(node.settle(failed.settlement(.nack(delayMs: 0, code: .none)), sessions[0]).outcome == .accepted)
    #expect(mode(.one) == .none)
    #expect(try node.node.queueState(sessions[1]).waiting == 5)
    #expect(try node.store.read { try $0.check() } == [])
    #expect(mode(.each) == .none)
    #expect(try node.store.read { try $0.check() } == [])
    for (device, session) in sessions.enumerated() {
      let work = try node.lease(session)
      #expect(Set(try work.map { try text($0, device) }) == ["0", "1", "2", "3", "4"])
      for one in work {
        let ack = try one.ack(by: bobs[device], nowMs: node.clock.nowMs())
        #expect(node.settle(ack, session).outcome == .accepted)
      }
    }
    #expect(try node.store.read { try $0.counts().openDeliveries } == 0)
    try node.stop()
  }

  @Test("a move that a stop cut short goes on at the next start")
  func resumed() throws {
    for number in 0..<3 { try post("\(number)", to: bobs) }
    #expect(mode(.one) == .none)
    for number in 3..<5 { try post("\(number)", to: bobs) }
    try node.stop()
    // As if the stop had come right after the mode was written back.
    let store = try Store(path: node.directory.file("node.db"))
    try store.write { try $0.setQueueMode(bobs[0].address, .each) }
    try store.close()
    let next = try NodeFixture("acme.example", clock: node.clock, directory: node.directory)
    let session = try next.login(bobs[0])
    try next.flush()
    try next.flush()
    #expect(try next.lease(session).count == 5)
    try next.stop()
  }

  @Test("the mode does not change while somebody works")
  func busy() throws {
    let (consumer, _) = try node.consumer(sessions[0], prefetch: 1)
    #expect(mode(.one) == .wrongMode)
    consumer.cancel()
    try post("x", to: bobs)
    let work = try #require(try node.lease(sessions[1]).first)
    #expect(mode(.one) == .wrongMode)
    #expect(
      node.settle(try work.ack(by: bobs[1], nowMs: node.clock.nowMs()), sessions[1]).outcome == .accepted)
    #expect(mode(.one) == .none, "the control: now nobody does")
    #expect(try node.node.queueState(sessions[0]).mode == .one)
    try node.stop()
  }
}

@Suite("Cancelling")
struct CancelTests {
  private func cancel(_ shop: Workshop, _ message: MessageID) -> ItemOutcome {
    shop.node.wait { shop.node.node.cancel(message, shop.aliceSession, completion: $0) }
  }

  private func id(_ sealed: SealedEnvelope) throws -> MessageID {
    try UnverifiedEnvelope(parsing: sealed.bytes).header.messageID
  }

  @Test("what waits or is held can be cancelled, once; what is in somebody's hands, done or unknown cannot")
  func local() throws {
    let shop = try Workshop()
    let waiting = try shop.post("waiting")
    let held = try shop.post("held") { $0.notBeforeMs = $0.createdMs + 60_000 }
    #expect(cancel(shop, try id(waiting)).outcome == .accepted)
    #expect(cancel(shop, try id(held)).outcome == .accepted)
    #expect(cancel(shop, try id(held)).code == .notCancellable)
    let leased = try shop.post("leased")
    let work = try #require(try shop.lease().first)
    #expect(try shop.open(work) == "leased", "the cancelled ones are gone")
    #expect(cancel(shop, try id(leased)).code == .notCancellable)
    #expect(try shop.ack(work).outcome == .accepted)
    #expect(cancel(shop, try id(leased)).code == .notCancellable)
    #expect(cancel(shop, .zero).code == .notFound)
    #expect(try shop.told() == [.cancelled, .cancelled, .processed])
    #expect(try shop.node.leaves().filter { $0.action == .cancelled }.count == 2)
    // Only the sender: another client's name for the same message means nothing.
    let other = try shop.post("mine")
    let foreign = shop.node.wait {
      shop.node.node.cancel((try? id(other)) ?? .zero, shop.bobSession, completion: $0)
    }
    #expect(foreign.code == .notFound)
    #expect(try shop.lease().count == 1)
    try shop.node.stop()
  }

  @Test("a TASK_CANCEL ends the task where it waits and is delivered itself")
  func byMessage() throws {
    let shop = try Workshop()
    let task = try shop.post("task") { $0.type = .taskRequest }
    let name = "\(try id(task))"
    try shop.post("cancel") {
      $0.type = .taskCancel
      $0.labels = [Label(key: "cancels", value: name)]
    }
    #expect(try shop.lease().map { try shop.open($0) } == ["cancel"])
    #expect(try shop.told() == [.cancelled])
    // Labels without meaning, and another type, cancel nothing.
    let kept = "\(try id(try shop.post("kept")))"
    try shop.post("odd") {
      $0.type = .taskCancel
      $0.labels = [Label(key: "cancels", value: "xyz")]
    }
    try shop.post("direct") { $0.labels = [Label(key: "cancels", value: kept)] }
    #expect(try shop.lease().map { try shop.open($0) } == ["kept", "odd", "direct"])
    try shop.node.stop()
  }

  @Test("across organisations the outbox is cancelled while it is unsent, then the recipient's node does it")
  func federated() throws {
    let (acme, globex) = (try NodeFixture("acme.example"), try NodeFixture("globex.example"))
    try acme.peer(with: globex)
    let alice = try TestDevice("alice@acme.example")
    let bob = try TestDevice("bob@globex.example")
    let (aliceSession, bobSession) = (try acme.join(alice), try globex.join(bob))
    func send(_ text: String, adjust: (inout SealRequest) -> Void = { _ in }) throws -> MessageID {
      let sealed = try sealText(text, from: alice, to: [bob], adjust: adjust)
      #expect(acme.send(sealed.bytes, aliceSession).outcome == .accepted)
      return try UnverifiedEnvelope(parsing: sealed.bytes).header.messageID
    }
    func cancel(_ message: MessageID) -> ItemOutcome {
      acme.wait { acme.node.cancel(message, aliceSession, completion: $0) }
    }
    // Never read for a link: it ends here, and never leaves.
    let unsent = try send("unsent")
    #expect(cancel(unsent).outcome == .accepted)
    #expect(
      try acme.node.outbound(globex.node.identity.name, after: 0, maxCount: 9, maxBytes: 1 << 20).isEmpty)
    // Read for a link: it may be on its way, so this node leaves it alone.
    let sent = try send("sent")
    #expect(
      try acme.node.outbound(globex.node.identity.name, after: 0, maxCount: 9, maxBytes: 1 << 20).count == 1)
    #expect(cancel(sent).code == .notCancellable)
    _ = try send("cancel") {
      $0.type = .taskCancel
      $0.labels = [Label(key: "cancels", value: "\(sent)")]
    }
    _ = try acme.carry(to: globex)
    let work = try globex.lease(bobSession)
    #expect(
      try work.map { String(decoding: try bob.open($0.envelope, from: alice).body, as: UTF8.self) } == [
        "cancel"
      ])
    try globex.carryReceipts(to: acme)
    let cancelled = try acme.receipts(aliceSession).filter { $0.body.state == .cancelled }
    #expect(cancelled.map(\.body.issuerName) == ["acme.example", "globex.example"])
    #expect(cancelled.map(\.body.role) == [.homeNode, .recipientNode])
    try acme.stop()
    try globex.stop()
  }

  @Test("a dead letter's sender in another organisation gets the recipient's node's signed word")
  func deadLetterAcross() throws {
    var settings = NodeSettings()
    settings.retry.attemptsMax = 1
    let acme = try NodeFixture("acme.example")
    let globex = try NodeFixture("globex.example", settings: settings)
    try acme.peer(with: globex)
    let alice = try TestDevice("alice@acme.example")
    let bob = try TestDevice("bob@globex.example")
    let (aliceSession, bobSession) = (try acme.join(alice), try globex.join(bob))
    let sealed = try sealText("poison", from: alice, to: [bob])
    #expect(acme.send(sealed.bytes, aliceSession).outcome == .accepted)
    _ = try acme.carry(to: globex)
    let work = try #require(try globex.lease(bobSession).first)
    #expect(globex.settle(work.settlement(.nack(delayMs: nil, code: .none)), bobSession).outcome == .accepted)
    try globex.carryReceipts(to: acme)
    let bytes = try acme.items(aliceSession).filter { $0.kind == .receipt }.flatMap {
      try splitBatch($0.payload[...]).map { Array($0) }
    }
    let verified = try bytes.map {
      try VerifiedReceipt(
        UnverifiedReceipt(parsing: $0[...]), bytes: $0, expectedKey: globex.node.identity.id.key)
    }
    let last = try #require(verified.last { $0.body.state == .deadLettered })
    #expect(last.body.recipient == bob.address && last.body.code == .attemptsExhausted)
    #expect(last.body.envelope == EnvelopeDigests(of: try UnverifiedEnvelope(parsing: sealed.bytes)).id)
    try acme.stop()
    try globex.stop()
  }

  @Test("a cancellation or settlement whose commit fails leaves everything as it was")
  func failedCommit() throws {
    let fault = CommitFault()
    let shop = try Workshop(fault: fault)
    let waiting = try id(try shop.post("waiting"))
    let (consumer, _) = try shop.node.consumer(shop.bobSession, prefetch: 1)
    var known = KnownSenders()
    func take() throws -> [Leased] {
      try leased(consumer.take(maxCount: 9, maxBytes: 1 << 20, knownSenders: &known))
    }
    // In view, and nobody has room for it.
    let work = try #require(try take().first)
    let second = try id(try shop.post("second"))
    fault.set(.full)
    #expect(cancel(shop, second).outcome == .later)
    #expect(shop.settle(work.settlement(.nack(delayMs: nil, code: .none))).outcome == .later)
    #expect(try shop.ack(work).outcome == .later)
    fault.set(nil)
    shop.node.node.sweep()
    #expect(cancel(shop, waiting).code == .notCancellable, "still in hand")
    #expect(try shop.ack(work).outcome == .accepted)
    let next = try #require(try take().first)
    #expect(try shop.open(next) == "second", "still there")
    #expect(cancel(shop, second).code == .notCancellable)
    consumer.cancel()
    #expect(cancel(shop, second).outcome == .accepted, "the control: now nobody has it")
    #expect(try shop.told() == [.processed, .cancelled])
    try shop.node.stop()
  }
}
