import EngramCore
import EngramNode
import EngramSealing
import TestSupport
import Testing

/// What an outbox holds, as a model: rows with their lanes, read by nothing cleverer than looking at all of
/// them.
private struct OutboxModel {
  struct Row {
    var seq: UInt64
    var rank: UInt64
    var lane: Priority
  }
  static let stepMs: UInt64 = 60_000
  var rows: [Row] = []
  var nextSeq: UInt64 = 1

  mutating func add(_ priority: Priority, nowMs: UInt64) {
    let rank = nowMs + UInt64(5 - priority.rawValue) * Self.stepMs
    rows.append(Row(seq: nextSeq, rank: rank, lane: priority))
    nextSeq += 1
  }

  /// Put off: under a new number, at the end of its lane.
  mutating func requeue(_ row: Row) {
    rows.append(Row(seq: nextSeq, rank: row.rank, lane: row.lane))
    nextSeq += 1
  }

  mutating func take(_ count: Int) -> [Row] {
    var taken: [Row] = []
    while taken.count < count {
      let heads = rows.indices.filter { index in
        !rows.contains { $0.lane == rows[index].lane && $0.seq < rows[index].seq }
      }
      guard
        let best = heads.min(by: { (rows[$0].rank, rows[$0].seq) < (rows[$1].rank, rows[$1].seq) })
      else { break }
      taken.append(rows.remove(at: best))
    }
    return taken
  }
}

@Suite("The order of an outbox")
struct OutboxOrderTests {
  let clock = ManualClock()
  let acme: NodeFixture
  let peer: NodeName
  let alice: TestDevice
  let bob: TestDevice
  let session: ClientSession

  init() throws {
    acme = try NodeFixture("acme.example", clock: clock)
    let globex = try NodeFixture("globex.example", clock: clock)
    try acme.peer(with: globex)
    peer = globex.node.identity.name
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@globex.example")
    session = try acme.join(alice)
    _ = try globex.join(bob)
  }

  private func sealed(
    _ priority: Priority, adjust: (inout SealRequest) -> Void = { _ in }
  ) throws -> SealedEnvelope {
    try sealText("\(priority)", from: alice, to: [bob], nowMs: clock.nowMs()) {
      $0.priority = priority
      adjust(&$0)
    }
  }

  @discardableResult
  private func send(_ priorities: [Priority]) throws -> [MessageID] {
    let batch = try priorities.map { try sealed($0).bytes }
    #expect(acme.send(batch, session).allSatisfy { $0.outcome == .accepted })
    return try batch.map { try UnverifiedEnvelope(parsing: $0).header.messageID }
  }

  private func read(
    after cursor: OutboxCursor = .start, maxCount: Int = 100, maxBytes: Int = 1 << 24
  ) throws -> OutboxRead {
    try acme.node.outbound(peer, after: cursor, maxCount: maxCount, maxBytes: maxBytes)
  }

  private func settle(_ seq: UInt64, _ outcome: DeliveryOutcome) {
    let items = [AckFrame.Item(seq: seq, outcome: outcome)]
    acme.wait { done in acme.node.settle(peer, through: 0, items: items) { done(()) } }
  }

  @Test(
    "rows are read in the order of the model, whatever comes meanwhile, from the store and from memory",
    arguments: 1...12)
  func model(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var model = OutboxModel()
    var cursor = OutboxCursor.start
    let watches = seed.isMultiple(of: 2) ? acme.node.followOutbox(peer) : []
    var (fromMemory, total) = (0, 0)
    for _ in 0..<60 {
      switch random.next() % 5 {
      case 0, 1:
        let priorities = (0..<(1 + random.next() % 8)).map { _ in
          Priority.allCases[Int(random.next() % 5)]
        }
        try send(priorities)
        for priority in priorities { model.add(priority, nowMs: clock.nowMs()) }
      case 2: clock.advance(ms: random.next() % 100_000)
      default:
        let count = 1 + Int(random.next() % 9)
        let fresh = acme.node.freshOutbound(peer, after: cursor, maxCount: count, maxBytes: 1 << 24)
        let found = try fresh ?? read(after: cursor, maxCount: count)
        let expected = model.take(count)
        #expect(found.rows.map(\.seq) == expected.map(\.seq))
        #expect(found.rows.map(\.rank) == expected.map(\.rank))
        cursor = found.cursor
        (fromMemory, total) = (fromMemory + (fresh == nil ? 0 : found.rows.count), total + found.rows.count)
        for row in expected {
          let isLater = random.next() % 10 == 0
          settle(row.seq, isLater ? .later : .accepted)
          if isLater { model.requeue(row) }
        }
      }
    }
    #expect(total > 40)
    #expect((fromMemory > 0) == seed.isMultiple(of: 2))
    for watch in watches { watch.cancel() }
  }

  @Test("an urgent message does not wait for thousands that are not, and FIFO order would have it wait")
  func urgentFirst() throws {
    for _ in 0..<4 { try send(Array(repeating: .low, count: 500)) }
    try send([.critical])
    let first = try read(maxCount: 1)
    #expect(first.rows.map(\.seq) == [2_001])
    #expect(try read(after: first.cursor, maxCount: 2).rows.map(\.seq) == [1, 2])
    // The control: one more of the same priority is the last one.
    try send([.low])
    #expect(try read(after: first.cursor, maxCount: 1).rows.map(\.seq) == [1])
  }

  @Test("a message is overtaken by nothing that came four steps of age later")
  func ageing() throws {
    for (laterMs, order) in [(239_999, [2, 1]), (240_001, [1, 2])] as [(UInt64, [UInt64])] {
      let test = try OutboxOrderTests()
      try test.send([.low])
      test.clock.advance(ms: laterMs)
      try test.send([.critical])
      #expect(try test.read().rows.map(\.seq) == order)
    }
  }

  @Test("what is too large to be read ahead comes without its bytes, and does not end the read")
  func large() throws {
    let bytes = try sealText(String(repeating: "x", count: 2 << 20), from: alice, to: [bob]).bytes
    #expect(acme.send(bytes, session).outcome == .accepted)
    try send([.normal, .normal])
    let rows = try read(maxBytes: 1 << 20).rows
    #expect(rows.map { $0.bytes == nil } == [true, false, false])
    #expect(rows[0].byteCount == bytes.count)
    #expect(try acme.node.outboundBytes(peer, seq: 1) == bytes)
    settle(1, .accepted)
    #expect(try acme.node.outboundBytes(peer, seq: 1) == nil)
    #expect(try read(maxBytes: rows[1].byteCount).rows.count == 1, "the control: bytes are counted")
  }

  @Test("a cancellation never arrives before the task, whatever its priority")
  func cancellation() throws {
    let ids = try send([.low, .low])
    _ = try read()
    let cancel = try sealed(.critical) {
      $0.type = .taskCancel
      $0.labels = [Label(key: "cancels", value: "\(ids[0])")]
    }
    #expect(acme.send(cancel.bytes, session).outcome == .accepted)
    #expect(try read().rows.map(\.seq) == [1, 2, 3])
    try send([.critical])
    #expect(try read().rows.map(\.seq) == [4, 1, 2, 3], "the control: anything else of that priority does")
  }

  @Test("what was not read can be cancelled although something behind it was")
  func gate() throws {
    let ids = try send([.low, .critical])
    #expect(try read(maxCount: 1).rows.map(\.seq) == [2])
    func cancel(_ id: MessageID) -> ItemOutcome {
      acme.wait { acme.node.cancel(id, session, completion: $0) }
    }
    #expect(cancel(ids[1]).code == .notCancellable, "the control: it may be on its way")
    #expect(cancel(ids[0]).outcome == .accepted)
    #expect(try read().rows.map(\.seq) == [2])
  }
}
