import EngramCore
import TestSupport
import Testing

@testable import EngramNode

/// What a mailbox's rows and leases must look like, kept in the plainest way: every property of the queue is
/// judged against this.
struct QueueModel {
  /// Rows that the store would call ready, leased or not.
  var rows: [UInt64: ReadyEntry] = [:]
  /// Rows in somebody's hands, with their tokens.
  var leases: [UInt64: UInt64] = [:]
  var highestToken: UInt64 = 0
  var faults: [String] = []
  var handedOut = 0

  var ready: [ReadyEntry] {
    rows.values.filter { leases[$0.seq] == nil }.sorted { $0.key < $1.key }
  }

  mutating func note(_ lease: Lease) {
    handedOut += 1
    if leases[lease.seq] != nil { faults.append("double lease of \(lease.seq)") }
    if rows[lease.seq] == nil { faults.append("lease of \(lease.seq), which is not there") }
    if lease.token <= highestToken { faults.append("token \(lease.token) does not grow") }
    if rows[lease.seq].map({ !$0.isFor(lease.kid) }) == true { faults.append("lease for a foreign device") }
    highestToken = max(highestToken, lease.token)
    leases[lease.seq] = lease.token
  }
}

/// A queue and its model, driven by the same random events: commits, refills whose snapshots grow old,
/// consumers that come and go, settlements, failures, time.
struct QueueSimulation {
  var queue: MailboxQueue
  var model = QueueModel()
  var generator: SeededGenerator
  var tokens = LeaseTokens(epoch: 1)
  var nowMs: UInt64 = 1_000
  var seq: UInt64 = 0
  var consumers: [ConsumerID] = []
  var nextConsumer: UInt64 = 0
  var kids: [Kid]
  /// Rows of a snapshot that was taken and not answered yet.
  var snapshot: (ticket: UInt64, rows: [ReadyEntry], isEnd: Bool)?
  var tickets: UInt64 = 0
  /// For controls: how often news of a commit is lost, in percent.
  var lostNewsPercent = 0
  var isShared: Bool

  init(seed: UInt64, shared: Bool = true, limits: QueueLimits? = nil) {
    generator = SeededGenerator(seed: seed)
    var small = QueueLimits()
    (small.refillMax, small.readyMax, small.readyMaxWhenBlocked) = (7, 16, 64)
    queue = MailboxQueue(limits: limits ?? small)
    isShared = shared
    kids = []
    for _ in 0..<3 { if let kid = Kid(generator.bytes(16)) { kids.append(kid) } }
    if !shared { kids = [kids[0]] }
  }

  mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }

  mutating func step() {
    nowMs += UInt64(number(0...200))
    switch number(0...15) {
    case 0...3: commit(number(1...6))
    case 4: beginRefill()
    case 5, 6: finishRefill()
    case 7: addConsumer()
    case 8: if number(0...3) == 0 { removeConsumer() }
    case 9...11: settle()
    case 12: endRow()
    case 13: timeOut()
    case 14: poll()
    default: break
    }
    dispatch()
  }

  mutating func commit(_ count: Int) {
    var fresh: [ReadyEntry] = []
    for _ in 0..<count {
      seq += 1
      let priority = Priority.allCases[number(0...4)]
      let entry = ReadyEntry(
        key: ReadyKey(
          rank: Ranking.rank(readyMs: nowMs, priority: priority, ageStepMs: 1_000), seq: seq),
        attempt: 0, kids: isShared ? kids.filter { _ in Bool.random(using: &generator) } + [kids[0]] : nil)
      model.rows[seq] = entry
      fresh.append(entry)
    }
    if number(0...99) >= lostNewsPercent { queue.arrived(fresh) }
  }

  mutating func beginRefill(forPoll: Bool = false) {
    tickets += 1
    guard let from = queue.beginRefill(ticket: tickets, forPoll: forPoll) else { return }
    // The store does not know of leases: leased rows are in the snapshot.
    let rows = model.rows.values.filter { $0.key >= from }.sorted { $0.key < $1.key }
    snapshot = (tickets, Array(rows.prefix(queue.limits.refillMax)), rows.count <= queue.limits.refillMax)
  }

  mutating func finishRefill() {
    guard let found = snapshot else { return }
    snapshot = nil
    if number(0...9) == 0 {
      queue.abandonRefill(ticket: found.ticket)
    } else {
      queue.finishRefill(ticket: found.ticket, found.rows, isEnd: found.isEnd)
    }
  }

  mutating func addConsumer() {
    nextConsumer += 1
    let id = ConsumerID(number: nextConsumer)
    let request = ConsumeRequest(
      prefetch: UInt32(number(1...5)), visibilityMs: Bool.random(using: &generator) ? 2_000 : 0,
      countsDisconnects: Bool.random(using: &generator))
    #expect(queue.add(id, kid: kids[number(0...kids.count - 1)], request) == .none)
    consumers.append(id)
  }

  mutating func removeConsumer() {
    guard !consumers.isEmpty else { return }
    let id = consumers.remove(at: number(0...consumers.count - 1))
    let closing = queue.remove(id)
    for (seq, lease) in queueLeasesGone() where !closing.contains(where: { $0.seq == seq }) {
      _ = lease
      model.leases[seq] = nil
    }
    for lease in closing { fail(lease.seq) }
  }

  /// Model leases that the queue no longer has.
  private func queueLeasesGone() -> [(UInt64, UInt64)] {
    model.leases.filter { queue.holder(of: $0.key) == nil }.map { ($0.key, $0.value) }
  }

  mutating func settle() {
    // Consumers fetch now and then; only what was fetched can be settled.
    for id in consumers where Bool.random(using: &generator) {
      let taken = queue.take(id, maxCount: number(1...5))
      if let last = taken.last, number(0...5) == 0 { queue.giveBack([last.seq], to: id) }
    }
    let held = queue.leases.values.filter { $0.phase == .held }.sorted { $0.seq < $1.seq }
    guard let lease = held.randomElement(using: &generator) else { return }
    let wrong = queue.beginSettle(lease.seq, token: lease.token &- 1, kid: lease.kid)
    if wrong != .failure(.leaseLost) { model.faults.append("an old token settled") }
    guard case .success = queue.beginSettle(lease.seq, token: lease.token, kid: lease.kid) else {
      model.faults.append("the holder could not settle")
      return
    }
    switch number(0...3) {
    case 0: queue.reopen(lease.seq, token: lease.token)
    case 1: fail(lease.seq)
    default: finish(lease.seq)
    }
  }

  /// The row is done: acknowledged, expired, cancelled.
  mutating func finish(_ seq: UInt64) {
    model.rows[seq] = nil
    model.leases[seq] = nil
    queue.removed(seq)
  }

  /// The row was held and came back under a new number.
  mutating func fail(_ old: UInt64) {
    guard var entry = model.rows[old] else { return }
    finish(old)
    seq += 1
    entry.key = ReadyKey(rank: entry.key.rank + 10, seq: seq)
    entry.attempt += 1
    model.rows[seq] = entry
    queue.arrived([entry])
  }

  mutating func endRow() {
    guard let seq = model.rows.keys.sorted().randomElement(using: &generator) else { return }
    if Bool.random(using: &generator) {
      if queue.withdraw(seq) {
        if number(0...3) == 0 {
          // The commit failed; the answer of a read that is under way belongs to the window that is gone.
          queue.reset()
        } else {
          finish(seq)
        }
      } else if model.leases[seq] == nil {
        model.faults.append("\(seq) could not be withdrawn although nobody holds it")
      }
    } else {
      finish(seq)
    }
  }

  mutating func timeOut() {
    for lease in queue.takeExpired(nowMs: nowMs) {
      if lease.deadlineMs > nowMs { model.faults.append("a lease ended early") }
      if number(0...3) == 0 { queue.reopen(lease.seq, token: lease.token) } else { fail(lease.seq) }
    }
    let isOverdue = queue.leases.values.contains { $0.phase != .closing && $0.deadlineMs <= nowMs }
    if isOverdue && queue.nextDeadlineMs > nowMs { model.faults.append("an overdue lease is forgotten") }
  }

  mutating func poll() {
    let kid = kids[number(0...kids.count - 1)]
    let leases = queue.lease(
      for: kid, maxCount: number(1...3), visibilityMs: 1_000, nowMs: nowMs, tokens: &tokens)
    for lease in leases { model.note(lease) }
    if leases.isEmpty { beginRefill(forPoll: true) }
  }

  mutating func dispatch() {
    let before = Set(queue.leases.keys)
    let loads = Dictionary(uniqueKeysWithValues: queue.consumers.map { ($0.key, $0.value) })
    _ = queue.dispatch(nowMs: nowMs, tokens: &tokens)
    let given = queue.leases.values.filter { !before.contains($0.seq) }.sorted { $0.token < $1.token }
    if queue.window.isComplete { checkOrder(given, loads) }
    for lease in given { model.note(lease) }
  }

  /// With everything in view, each message given out is the first of those that anyone with room may have.
  private mutating func checkOrder(
    _ given: [Lease], _ before: [ConsumerID: MailboxQueue.Consumer]
  ) {
    var room = before.mapValues { Int($0.request.prefetch) - $0.inFlight }
    var left = model.ready
    for lease in given {
      let first = left.first { entry in
        before.contains { room[$0.key, default: 0] > 0 && entry.isFor($0.value.kid) }
      }
      if first?.seq != lease.seq { model.faults.append("\(lease.seq) went before its turn") }
      if let consumer = lease.consumer { room[consumer, default: 0] -= 1 }
      left.removeAll { $0.seq == lease.seq }
    }
  }

  /// Reads until nothing more is wanted, then checks that nobody with room waits beside work for it.
  mutating func settleDown() {
    if let found = snapshot {
      snapshot = nil
      queue.finishRefill(ticket: found.ticket, found.rows, isEnd: found.isEnd)
    }
    for _ in 0..<10_000 {
      dispatch()
      beginRefill()
      guard let found = snapshot else { break }
      snapshot = nil
      queue.finishRefill(ticket: found.ticket, found.rows, isEnd: found.isEnd)
    }
    for (_, consumer) in queue.consumers where consumer.hasRoom {
      if let entry = model.ready.first(where: { $0.isFor(consumer.kid) }) {
        model.faults.append("\(entry.seq) lies there although someone has room")
      }
    }
  }
}
