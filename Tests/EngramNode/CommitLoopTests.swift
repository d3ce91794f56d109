import Dispatch
import EngramCore
import EngramCrypto
import EngramSealing
import EngramStore
import Synchronization
import TestSupport
import Testing

@testable import EngramNode

@Suite("Group commits")
struct CommitLoopTests {
  /// Runs commands in one group, and tells how often the first one ran and what each was told.
  private func run(
    _ fixture: NodeFixture, _ bodies: [@Sendable (CommitGroup) throws -> Void]
  ) -> (runs: Int, codes: [ErrorCode]) {
    let (started, ready) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    let done = DispatchSemaphore(value: 0)
    let runs = Mutex(0)
    let codes = Mutex([ErrorCode?](repeating: nil, count: bodies.count))
    // Holds the commit thread in a group of its own until all others are queued, so that they are one group.
    fixture.node.commitLoop.submit(
      CommitCommand(weight: 1) { _ in
        started.signal()
        ready.wait()
      } refused: { _ in
      })
    started.wait()
    for (index, body) in bodies.enumerated() {
      fixture.node.commitLoop.submit(
        CommitCommand(weight: 1) { group in
          if index == 0 { runs.withLock { $0 += 1 } }
          try body(group)
          group.afterCommit { _ in
            codes.withLock { $0[index] = ErrorCode.none }
            done.signal()
          }
        } refused: { code in
          codes.withLock { $0[index] = code }
          done.signal()
        })
    }
    ready.signal()
    for _ in bodies { done.wait() }
    return (runs.withLock { $0 }, codes.withLock { $0.compactMap { $0 } })
  }

  @Test("a command that fails after a change is undone alone; the others of its group are kept")
  func halfDone() throws {
    let fixture = try NodeFixture("acme.example")
    let result = run(
      fixture,
      [
        { try $0.transaction.setValue([1], for: "first") },
        { group in
          try group.transaction.setValue([2], for: "second")
          throw ErrorCode.notFound
        },
        { try $0.transaction.setValue([3], for: "third") },
      ])
    #expect(result.codes == [.none, .notFound, .none])
    #expect(result.runs == 2)
    #expect(try fixture.store.read { try $0.value("first") } == [1])
    #expect(try fixture.store.read { try $0.value("second") } == nil)
    #expect(try fixture.store.read { try $0.value("third") } == [3])
    try fixture.stop()
  }

  @Test("a command that fails before its first change costs the others nothing")
  func refusedEarly() throws {
    let fixture = try NodeFixture("acme.example")
    let result = run(
      fixture,
      [{ try $0.transaction.setValue([1], for: "first") }, { _ in throw ErrorCode.notFound }])
    #expect(result.codes == [.none, .notFound])
    #expect(result.runs == 1)
    #expect(try fixture.store.read { try $0.value("first") } == [1])
    try fixture.stop()
  }

  @Test("what was just committed is in memory for whoever follows the mailbox, as the store has it")
  func fresh() throws {
    let fixture = try NodeFixture("acme.example")
    let (alice, bob) = (try TestDevice("alice@acme.example"), try TestDevice("bob@acme.example"))
    let (sender, reader) = (try fixture.join(alice), try fixture.join(bob))
    func fresh(after: UInt64, knows: [Kid]) -> [MailboxItem]? {
      var known = KnownSenders()
      for kid in knows { _ = known.learn(kid, listVersion: 1) }
      return fixture.node.freshItems(
        reader, after: after, maxCount: 10, maxBytes: 1 << 20, knownSenders: known)
    }
    // Control: nobody follows, so only the store knows.
    _ = fixture.send(try sealText("before", from: alice, to: [bob]).bytes, sender)
    #expect(fresh(after: 0, knows: [alice.kid]) == nil)

    let watch = fixture.node.followMailbox(reader)
    _ = fixture.send(try sealText("one", from: alice, to: [bob]).bytes, sender)
    _ = fixture.send(try sealText("two", from: alice, to: [bob]).bytes, sender)
    let stored = try fixture.items(reader).filter { $0.kind == .envelope }
    #expect(stored.map(\.seq) == [1, 2, 3])
    // What came before is not in memory, and a certificate that has to go first is not either.
    #expect(fresh(after: 0, knows: [alice.kid]) == nil)
    #expect(fresh(after: 1, knows: []) == nil)
    #expect(fresh(after: 1, knows: [alice.kid]) == Array(stored[1...]))
    // What ran out meanwhile is not handed out.
    fixture.clock.advance(ms: TestTime.dayMs)
    #expect(fresh(after: 1, knows: [alice.kid]) == [])
    #expect(fresh(after: 3, knows: [alice.kid]) == [])
    watch.cancel()
    #expect(fresh(after: 3, knows: [alice.kid]) == nil)
    try fixture.stop()
  }
}
