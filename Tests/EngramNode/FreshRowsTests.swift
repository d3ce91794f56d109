import EngramCore
import EngramNode
import EngramSealing
import TestSupport
import Testing

@Suite("Rows that were only just committed")
struct FreshRowsTests {
  let acme: NodeFixture
  let clock = ManualClock()
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
  }

  private func send(_ count: Int, ttlMs: UInt64 = TestTime.dayMs) throws {
    let batch = try (0..<count).map { index in
      try sealText("\(index)", from: alice, to: [bob, alice], nowMs: clock.nowMs()) {
        $0.expiresMs = $0.createdMs + ttlMs
      }.bytes
    }
    #expect(acme.send(batch, session).allSatisfy { $0.outcome == .accepted })
  }

  private func fresh(after seq: UInt64, maxCount: Int = 100, maxBytes: Int = 1 << 20) -> [OutboundEnvelope]? {
    acme.node.freshOutbound(
      peer, after: OutboxCursor(through: seq), maxCount: maxCount, maxBytes: maxBytes)?.rows
  }

  private func stored(after seq: UInt64) throws -> [OutboundEnvelope] {
    try acme.node.outbound(peer, after: OutboxCursor(through: seq), maxCount: 100, maxBytes: 1 << 20).rows
  }

  @Test("a follower reads from memory what the store has, pruned alike and in the same order")
  func sameAsStored() throws {
    try send(2)
    let watches = acme.node.followOutbox(peer)
    #expect(fresh(after: 0) == nil, "what was committed before is in the store alone")
    try send(3)
    #expect(fresh(after: 0) == nil, "rows before it are missing here")
    let rows = try #require(fresh(after: 2))
    #expect(try rows.map(\.seq) == stored(after: 2).map(\.seq))
    #expect(try rows.map(\.bytes) == stored(after: 2).map(\.bytes))
    #expect(try UnverifiedEnvelope(parsing: #require(rows[0].bytes)).hasPattern { $0.address == bob.address })
    #expect(fresh(after: 2, maxCount: 1)?.map(\.seq) == [3])
    #expect(fresh(after: 2, maxBytes: 1)?.map(\.seq) == [3])
    #expect(fresh(after: 5)?.isEmpty == true, "nothing waits, and no query is needed to know it")
    #expect(fresh(after: 2) == nil, "what the reader has passed is let go")
    // The control: with nobody following, the very same calls find nothing.
    for watch in watches { watch.cancel() }
    try send(1)
    #expect(fresh(after: 5) == nil)
    #expect(try stored(after: 5).map(\.seq) == [6])
  }

  @Test("a row that came another way sends the reader to the store, and later rows are kept again")
  func requeued() throws {
    let watches = acme.node.followOutbox(peer)
    try send(2)
    #expect(fresh(after: 0)?.map(\.seq) == [1, 2])
    let later = [AckFrame.Item(seq: 1, outcome: .later, code: .overloaded)]
    acme.wait { done in acme.node.settle(peer, through: 0, items: later) { done(()) } }
    try send(1)
    #expect(fresh(after: 2) == nil)
    #expect(try stored(after: 2).map(\.seq) == [3, 4])
    try send(1)
    #expect(fresh(after: 4)?.map(\.seq) == [5])
    for watch in watches { watch.cancel() }
  }

  @Test("an expired row hides nothing behind it")
  func expired() throws {
    let watches = acme.node.followOutbox(peer)
    try send(1, ttlMs: 1_000)
    clock.advance(ms: 2_000)
    try send(1)
    #expect(fresh(after: 0)?.map(\.seq) == [2])
    for watch in watches { watch.cancel() }
  }

}
