import EngramCore
import EngramSealing
import TestSupport
import Testing

@testable import EngramNode

@Suite("A node whose machine's clock is set")
struct ClockJumpTests {
  private static let yearMs = Int64(365 * TestTime.dayMs)

  @Test(
    "a year in either direction expires nothing, revives nothing and ends no lease, until it is accepted",
    arguments: [yearMs, -yearMs])
  func jump(yearMs: Int64) throws {
    let clocks = Clocks()
    let node = try NodeFixture("acme.example", nodeClock: clocks.steady())
    let (alice, bob) = (try TestDevice("alice@acme.example"), try TestDevice("bob@acme.example"))
    let (aliceSession, bobSession) = (try node.join(alice), try node.join(bob))
    func post(_ lifeMs: UInt64) throws {
      let sealed = try sealText("x", from: alice, to: [bob]) { $0.expiresMs = $0.createdMs + lifeMs }
      #expect(node.send(sealed.bytes, aliceSession).outcome == .accepted)
    }
    func look() throws {
      node.node.tick()
      try node.sweep()
      try node.flush()
    }
    try post(TestTime.dayMs)
    try post(TestTime.dayMs)
    try post(60_000)
    clocks.pass(ms: 60_000)
    try look()
    #expect(try node.told(aliceSession) == [.expired], "the control: time itself does expire")
    let work = try #require(try node.lease(bobSession, max: 1, seconds: 60).first)

    clocks.jump(ms: yearMs)
    try look()
    #expect(node.node.clock.jumpMs == yearMs)
    #expect(node.settle(work.settlement(.renew), bobSession).outcome == .accepted, "the lease holds")
    try post(TestTime.dayMs)
    #expect(try node.lease(bobSession).count == 2, "what waits is there, what had expired is not")
    #expect(node.settle(try work.ack(by: bob, nowMs: TestTime.startMs), bobSession).outcome == .accepted)

    node.node.acceptClock()
    try look()
    #expect(node.node.clock.jumpMs == nil)
    let expired = try node.told(aliceSession).filter { $0 == .expired }.count
    #expect(expired == (yearMs > 0 ? 3 : 1), "accepted, a year ahead has passed")
    try node.stop()
  }

  @Test("a node starts no earlier than it was when it was last seen")
  func start() throws {
    let clocks = Clocks()
    let node = try NodeFixture("acme.example", nodeClock: clocks.steady())
    clocks.pass(ms: TestTime.hourMs)
    try node.sweep()
    try node.flush()
    let seen = try Node.lastSeenMs(in: node.store)
    #expect(seen == TestTime.startMs + TestTime.hourMs)
    clocks.jump(ms: -Self.yearMs)
    #expect(clocks.steady(lastSeenMs: seen).nowMs() == seen)
    try node.stop()
  }
}
