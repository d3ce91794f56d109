import EngramCore
import TestSupport
import Testing

@testable import EngramNode

@Suite("Properties of a mailbox's queue")
struct MailboxQueuePropertyTests {
  @Test(
    "no message is lost, given out twice or out of turn, whatever happens", arguments: 0..<40 as Range<UInt64>
  )
  func random(seed: UInt64) {
    var simulation = QueueSimulation(seed: seed, shared: seed.isMultiple(of: 2))
    for round in 0..<400 {
      simulation.step()
      if round % 40 == 39 { simulation.settleDown() }
    }
    #expect(simulation.model.faults == [])
    #expect(simulation.model.handedOut > 20, "the run was not idle")
  }

  @Test("in the end every message is done exactly once", arguments: 0..<10 as Range<UInt64>)
  func drained(seed: UInt64) {
    var simulation = QueueSimulation(seed: 1_000 + seed)
    for _ in 0..<300 { simulation.step() }
    for kid in simulation.kids {
      simulation.nextConsumer += 1
      let id = ConsumerID(number: simulation.nextConsumer)
      _ = simulation.queue.add(id, kid: kid, ConsumeRequest(prefetch: 9))
      simulation.consumers.append(id)
    }
    for _ in 0..<2_000 where !simulation.model.rows.isEmpty {
      simulation.settleDown()
      for lease in simulation.queue.leases.values.sorted(by: { $0.seq < $1.seq }) {
        simulation.finish(lease.seq)
      }
    }
    #expect(simulation.model.rows.isEmpty)
    #expect(simulation.queue.leases.isEmpty)
    #expect(simulation.model.faults == [])
  }

  @Test("the control: news of a commit that gets lost is noticed")
  func lostNews() {
    var simulation = QueueSimulation(seed: 7, shared: false, limits: QueueLimits())
    simulation.lostNewsPercent = 30
    for round in 0..<400 {
      simulation.step()
      if round % 40 == 39 { simulation.settleDown() }
    }
    #expect(simulation.model.faults.contains { $0.contains("lies there") || $0.contains("before its turn") })
  }

  @Test("the control: a row that is announced again while it is leased is noticed when it goes out twice")
  func doubleLease() {
    var simulation = QueueSimulation(seed: 8, shared: false)
    simulation.commit(1)
    simulation.addConsumer()
    simulation.settleDown()
    #expect(simulation.model.leases.count == 1)
    guard let entry = simulation.model.rows.values.first else { return }
    simulation.queue.removed(entry.seq)
    simulation.queue.arrived([entry])
    simulation.dispatch()
    #expect(simulation.model.faults.contains { $0.contains("double lease") })
  }
}

@Suite("Work is shared fairly")
struct FairnessTests {
  private func consumers(_ prefetches: [UInt32]) -> MailboxQueue {
    var queue = MailboxQueue()
    for (number, prefetch) in prefetches.enumerated() {
      _ = queue.add(ConsumerID(number: UInt64(number)), kid: .zero, ConsumeRequest(prefetch: prefetch))
    }
    queue.finishRefill(from: [])
    return queue
  }

  private func entries(_ seqs: ClosedRange<UInt64>) -> [ReadyEntry] {
    seqs.map { ReadyEntry(key: ReadyKey(rank: 1, seq: $0), attempt: 0, kids: nil) }
  }

  /// Whether giving out `shares` keeps every two consumers within one message of each other, relative to what
  /// they can take.
  private func isFair(_ shares: [Int], prefetches: [UInt32]) -> Bool {
    shares.indices.allSatisfy { a in
      shares.indices.allSatisfy { b in
        shares[b] == Int(prefetches[b])
          || (shares[a] - 1) * Int(prefetches[b]) <= shares[b] * Int(prefetches[a])
      }
    }
  }

  @Test(
    "no consumer is ever ahead of another with room by more than one message, relative to prefetch",
    arguments: [[10, 10, 10], [1, 2, 4], [3, 50, 7, 7], [1], [100, 1]] as [[UInt32]])
  func shares(prefetches: [UInt32]) {
    var queue = consumers(prefetches)
    var tokens = LeaseTokens(epoch: 1)
    for seq in 1...UInt64(prefetches.reduce(0, +)) {
      queue.arrived(entries(seq...seq))
      _ = queue.dispatch(nowMs: 0, tokens: &tokens)
      let shares = prefetches.indices.map { queue.consumers[ConsumerID(number: UInt64($0))]?.inFlight ?? 0 }
      #expect(shares.reduce(0, +) == Int(seq), "nothing waits while someone has room")
      #expect(isFair(shares, prefetches: prefetches), "\(shares)")
    }
    // The control: first come, first served would not pass.
    if prefetches.count > 1 {
      let greedy = [Int(prefetches[0])] + [Int](repeating: 0, count: prefetches.count - 1)
      #expect(prefetches[0] == 1 || !isFair(greedy, prefetches: prefetches))
    }
  }

  @Test("equals take turns, however fast they settle")
  func turns() {
    var queue = consumers([1, 1, 1])
    var tokens = LeaseTokens(epoch: 1)
    var order: [UInt64] = []
    for seq in 1...30 as ClosedRange<UInt64> {
      queue.arrived(entries(seq...seq))
      let served = queue.dispatch(nowMs: 0, tokens: &tokens)
      order += served.map(\.number)
      queue.removed(seq)
    }
    #expect(order == (0..<30).map { $0 % 3 })
  }

  @Test("a consumer never holds more than its prefetch, and settling makes room")
  func prefetch() {
    var queue = consumers([2])
    var tokens = LeaseTokens(epoch: 1)
    queue.arrived(entries(1...5))
    _ = queue.dispatch(nowMs: 0, tokens: &tokens)
    let id = ConsumerID(number: 0)
    #expect(queue.take(id, maxCount: 10).map(\.seq) == [1, 2])
    #expect(queue.dispatch(nowMs: 0, tokens: &tokens).isEmpty)
    queue.removed(1)
    _ = queue.dispatch(nowMs: 0, tokens: &tokens)
    #expect(queue.take(id, maxCount: 10).map(\.seq) == [3])
  }
}

extension MailboxQueue {
  /// A refill that finds these rows and the end behind them.
  mutating func finishRefill(from rows: [ReadyEntry]) {
    _ = beginRefill(ticket: 1, forPoll: true)
    finishRefill(ticket: 1, rows, isEnd: true)
  }
}

@Suite("Priorities and age")
struct RankingTests {
  private let stepMs: UInt64 = 60_000

  private func rank(_ priority: Priority, readyMs: UInt64) -> UInt64 {
    Ranking.rank(readyMs: readyMs, priority: priority, ageStepMs: stepMs)
  }

  @Test("among messages that became ready within one step the order of priorities is strict")
  func strict() {
    var generator = SeededGenerator(seed: 3)
    for _ in 0..<2_000 {
      let (a, b) = (Priority.allCases.randomElement(using: &generator), Priority.allCases.last)
      guard let a, let b, a != b else { continue }
      let start = UInt64.random(in: 1_000_000...2_000_000, using: &generator)
      // Within one step any two neighbours are in order, whichever came first.
      let later = start + UInt64.random(in: 0..<stepMs, using: &generator)
      #expect(rank(b, readyMs: later) < rank(a, readyMs: start))
    }
    #expect(rank(.critical, readyMs: 4 * stepMs - 1) < rank(.low, readyMs: 0))
  }

  @Test("LOW is overtaken only by what became ready less than (p - 1) steps after it")
  func ageing() {
    for priority in Priority.allCases {
      let bound = UInt64(priority.rawValue - 1) * stepMs
      #expect(rank(.low, readyMs: 0) <= rank(priority, readyMs: bound), "it has aged enough")
      if bound > 0 {
        #expect(rank(priority, readyMs: bound - 1) < rank(.low, readyMs: 0), "the control: it had not yet")
      }
    }
  }

  @Test("LOW goes out in time under a flood of CRITICAL")
  func flood() {
    var queue = MailboxQueue()
    _ = queue.add(ConsumerID(number: 1), kid: .zero, ConsumeRequest(prefetch: 1))
    queue.finishRefill(from: [])
    var tokens = LeaseTokens(epoch: 1)
    func entry(_ seq: UInt64, _ priority: Priority, _ readyMs: UInt64) -> ReadyEntry {
      ReadyEntry(key: ReadyKey(rank: rank(priority, readyMs: readyMs), seq: seq), attempt: 0, kids: nil)
    }
    queue.arrived([entry(1, .low, 0)])
    // Two CRITICAL messages come for each that can be worked off, one a second.
    var seq: UInt64 = 1
    for second in 0..<1_000 as Range<UInt64> {
      for _ in 0..<2 {
        seq += 1
        queue.arrived([entry(seq, .critical, second * 1_000)])
      }
      _ = queue.dispatch(nowMs: second * 1_000, tokens: &tokens)
      guard let lease = queue.leases.values.first else {
        Issue.record("nothing was given out")
        return
      }
      queue.removed(lease.seq)
      if lease.seq == 1 {
        // Overtaken by the two a second of the first four steps, and by nothing else.
        #expect(second == 2 * 4 * stepMs / 1_000)
        return
      }
    }
    Issue.record("LOW starved")
  }
}

@Suite("Leases and their tokens")
struct LeaseTests {
  private func queue(visibilityMs: UInt32, countsDisconnects: Bool = false) -> (MailboxQueue, LeaseTokens) {
    var queue = MailboxQueue()
    _ = queue.add(
      ConsumerID(number: 1), kid: .zero,
      ConsumeRequest(prefetch: 3, visibilityMs: visibilityMs, countsDisconnects: countsDisconnects))
    queue.finishRefill(
      from: (1...3).map { ReadyEntry(key: ReadyKey(rank: 1, seq: $0), attempt: 0, kids: nil) })
    var tokens = LeaseTokens(epoch: 9)
    _ = queue.dispatch(nowMs: 100, tokens: &tokens)
    return (queue, tokens)
  }

  @Test("a lease ends when its time is up, not before, and renewal gives the whole time again")
  func timeouts() throws {
    var (queue, _) = queue(visibilityMs: 1_000)
    let taken = queue.take(ConsumerID(number: 1), maxCount: 3)
    #expect(queue.takeExpired(nowMs: 1_099).isEmpty)
    #expect(queue.renew(1, token: taken[0].token, kid: .zero, nowMs: 1_000) == .none)
    #expect(queue.takeExpired(nowMs: 1_100).map(\.seq) == [2, 3])
    #expect(queue.renew(2, token: taken[1].token, kid: .zero, nowMs: 1_100) == .leaseLost)
    #expect(queue.takeExpired(nowMs: 1_999).isEmpty)
    #expect(queue.takeExpired(nowMs: 2_000).map(\.seq) == [1])
  }

  @Test("only the token that holds the message settles it, and only for its own device")
  func fencing() throws {
    var (queue, tokens) = queue(visibilityMs: 1_000)
    let old = try #require(queue.take(ConsumerID(number: 1), maxCount: 1).first)
    let other = try #require(Kid([UInt8](repeating: 1, count: 16)))
    #expect(queue.beginSettle(1, token: old.token, kid: other) == .failure(.leaseLost))
    #expect(queue.beginSettle(2, token: old.token, kid: .zero) == .failure(.leaseLost))
    #expect(queue.beginSettle(1, token: 0, kid: .zero) == .failure(.notLeased))
    // Time runs out, the row comes back under another number, and someone else gets it.
    #expect(queue.takeExpired(nowMs: 5_000).count == 3)
    queue.removed(1)
    queue.arrived([ReadyEntry(key: ReadyKey(rank: 1, seq: 4), attempt: 1, kids: nil)])
    _ = queue.dispatch(nowMs: 5_000, tokens: &tokens)
    let new = try #require(queue.holder(of: 4))
    #expect(new.token > old.token)
    #expect(queue.beginSettle(1, token: old.token, kid: .zero) == .failure(.leaseLost))
    #expect(queue.beginSettle(4, token: old.token, kid: .zero) == .failure(.leaseLost))
    _ = queue.take(ConsumerID(number: 1), maxCount: 1)
    guard case .success = queue.beginSettle(4, token: new.token, kid: .zero) else {
      Issue.record("the control: the holder itself could not settle")
      return
    }
    #expect(
      queue.beginSettle(4, token: new.token, kid: .zero) == .failure(.leaseLost), "nobody settles twice")
  }

  @Test("a consumer that goes leaves its messages to the others at once, unless that counts as a failure")
  func disconnects() {
    var (queue, tokens) = queue(visibilityMs: 0)
    _ = queue.take(ConsumerID(number: 1), maxCount: 2)
    #expect(queue.remove(ConsumerID(number: 1)).isEmpty)
    #expect(queue.lease(for: .zero, maxCount: 9, visibilityMs: 1_000, nowMs: 0, tokens: &tokens).count == 3)

    (queue, tokens) = self.queue(visibilityMs: 0, countsDisconnects: true)
    _ = queue.take(ConsumerID(number: 1), maxCount: 2)
    #expect(queue.remove(ConsumerID(number: 1)).map(\.seq) == [1, 2], "what it never fetched is no failure")
    #expect(
      queue.lease(for: .zero, maxCount: 9, visibilityMs: 1_000, nowMs: 0, tokens: &tokens).map(\.seq) == [3])

    (queue, tokens) = self.queue(visibilityMs: 0, countsDisconnects: true)
    _ = queue.take(ConsumerID(number: 1), maxCount: 2)
    #expect(queue.remove(ConsumerID(number: 1), isOrderly: true).isEmpty, "taking leave is no failure")
    #expect(queue.lease(for: .zero, maxCount: 9, visibilityMs: 1_000, nowMs: 0, tokens: &tokens).count == 3)
  }

  @Test("a settlement whose commit failed leaves the lease as it was; a lease that is being settled keeps")
  func reopening() throws {
    var (queue, tokens) = queue(visibilityMs: 1_000)
    let lease = try #require(queue.take(ConsumerID(number: 1), maxCount: 1).first)
    _ = queue.beginSettle(1, token: lease.token, kid: .zero)
    #expect(!queue.takeExpired(nowMs: 9_000).contains { $0.seq == 1 }, "its end is being written")
    queue.reopen(1, token: lease.token)
    #expect(queue.takeExpired(nowMs: 9_000).map(\.seq) == [1])
    queue.reopen(1, token: lease.token)
    _ = queue.remove(ConsumerID(number: 1))
    #expect(queue.lease(for: .zero, maxCount: 1, visibilityMs: 1, nowMs: 0, tokens: &tokens).count == 1)
  }

  @Test("what is in somebody's hands cannot be withdrawn, what is not can, once")
  func withdrawal() {
    var (queue, tokens) = queue(visibilityMs: 0)
    #expect(queue.withdraw(1) == false)
    queue.arrived([ReadyEntry(key: ReadyKey(rank: 2, seq: 9), attempt: 0, kids: nil)])
    #expect(queue.withdraw(9) == true)
    #expect(queue.lease(for: .zero, maxCount: 1, visibilityMs: 1, nowMs: 0, tokens: &tokens).isEmpty)
  }

  @Test("tokens grow across starts and when the counter is used up, or are not given at all")
  func tokens() {
    var first = LeaseTokens(epoch: 1)
    #expect(first.next() == 1 << 32 | 1)
    var second = LeaseTokens(epoch: 2)
    #expect(second.next() == 2 << 32 | 1)

    var last = LeaseTokens(epoch: 5, counter: .max - 1)
    #expect(last.wanted == 6)
    #expect(last.next() == 5 << 32 | UInt64(UInt32.max))
    #expect(last.next() == nil, "an epoch that was not stored is not used")
    last.reserve(6)
    #expect(last.next() == 6 << 32 | 1)
    #expect(last.wanted == nil)
    #expect(LeaseTokens(epoch: 5).wanted == nil)
  }
}
