import EngramCore
import EngramSealing
import EngramStore
import Foundation
import TestSupport
import Testing

@testable import EngramNode

@Suite("The sweeper")
struct SweepTests {
  /// Six full batches and a rest.
  private static let count = 6 * Sweeper.expiredPerCommit + 20

  /// A node whose messages have all run out, and that nobody sweeps but the test.
  private struct Backlog {
    let fault = CommitFault()
    let fixture: NodeFixture
    let sender: ClientSession
    var node: Node { fixture.node }

    init() throws {
      fixture = try NodeFixture("acme.example", fault: fault)
      fixture.node.sweeper.stop()
      let (alice, bob) = (try TestDevice("alice@acme.example"), try TestDevice("bob@acme.example"))
      sender = try fixture.join(alice)
      _ = try fixture.join(bob)
      let sealed = try (0..<SweepTests.count).map { number in
        try sealText("\(number)", from: alice, to: [bob]) { $0.expiresMs = $0.createdMs + 60_000 }.bytes
      }
      for start in stride(from: 0, to: sealed.count, by: 100) {
        let outcomes = fixture.send(Array(sealed[start..<min(start + 100, sealed.count)]), sender)
        #expect(outcomes.allSatisfy { $0.outcome == .accepted })
      }
      fixture.clock.advance(ms: 60_000)
    }

    /// The first round is held in its commit while the others come by: nothing is on disk yet, so all of it
    /// is still due.
    func sweepFiveTimes() {
      let gate = fault.hold()
      node.sweep(slow: false)
      gate.entered.wait()
      for _ in 1...4 { node.sweep(slow: false) }
      gate.release.signal()
    }

    /// Until nobody expires anything any more.
    func rest() async throws {
      let isOver = await eventually {
        guard node.sweeper.beginExpiring() else { return false }
        node.sweeper.endExpiring()
        return true
      }
      #expect(isOver, "the row of commands does not end")
    }

    func expired() throws -> Int { try fixture.told(sender).filter { $0 == .expired }.count }
  }

  @Test("one round expires all that has run out, in small commits one after the other")
  func wholeBacklog() async throws {
    let backlog = try Backlog()
    #expect(try backlog.expired() == 0, "the control: time alone ends nothing")
    let before = backlog.fault.commits
    backlog.node.sweep(slow: false)
    try await backlog.rest()
    #expect(backlog.fault.commits - before == 7)
    #expect(try backlog.expired() == Self.count)
    backlog.node.sweep(slow: false)
    try await backlog.rest()
    #expect(backlog.fault.commits - before == 7, "nothing is left to do")
    try backlog.fixture.stop()
  }

  @Test("a round that comes while another one still expires starts nothing beside it")
  func oneAtATime() async throws {
    let backlog = try Backlog()
    let before = backlog.fault.commits
    backlog.sweepFiveTimes()
    try await backlog.rest()
    // Any second row of commands would share these commits, and there would be fewer.
    #expect(backlog.fault.commits - before == 7)
    #expect(try backlog.expired() == Self.count)
    try backlog.fixture.stop()
  }

  @Test("control: while the row is claimed nothing expires, and what failed is tried by the next round")
  func claim() async throws {
    let backlog = try Backlog()
    #expect(backlog.node.sweeper.beginExpiring() && !backlog.node.sweeper.beginExpiring())
    backlog.node.sweep(slow: false)
    try backlog.fixture.flush()
    #expect(try backlog.expired() == 0)
    backlog.node.sweeper.endExpiring()
    backlog.fault.set(.full)
    backlog.node.sweep(slow: false)
    try await backlog.rest()
    #expect(try backlog.expired() == 0)
    backlog.fault.set(nil)
    backlog.node.sweep(slow: false)
    try await backlog.rest()
    #expect(try backlog.expired() == Self.count)
    try backlog.fixture.stop()
  }
}
