internal import EngramCore

/// One connection that takes work from a mailbox.
struct ConsumerID: Hashable, Comparable, Sendable {
  let number: UInt64
  static func < (a: ConsumerID, b: ConsumerID) -> Bool { a.number < b.number }
}

/// A message in somebody's hands.
struct Lease: Equatable, Sendable {
  enum Phase: Sendable {
    /// Assigned to a consumer that has not fetched it yet.
    case granted
    case held
    /// Its end is on the way to the disk; nothing else can happen to it.
    case closing
  }

  let entry: ReadyEntry
  let token: UInt64
  let kid: Kid
  /// nil when a poll took it.
  let consumer: ConsumerID?
  /// 0: until the consumer goes.
  let visibilityMs: UInt64
  var deadlineMs: UInt64
  var phase: Phase

  var seq: UInt64 { entry.seq }
}

/// Who gets which message of one mailbox, and who holds it: ready rows in order, consumers, leases. A value:
/// no store, no clock, no connection. Times are the caller's monotonic milliseconds, tokens the node's.
///
/// Work is assigned as soon as it is there, to the consumer that has least in its hands for what it can take;
/// of equals to the one that waited longest. Nothing here is durable: a restart ends every lease, and the
/// rows are still in the store.
struct MailboxQueue {
  struct Consumer {
    let kid: Kid
    var request: ConsumeRequest
    /// Leases, whatever their phase.
    fileprivate(set) var inFlight = 0
    /// When it was last given something, as a serial number.
    fileprivate(set) var lastGrant: UInt64 = 0
    fileprivate(set) var granted: [UInt64] = []

    var hasRoom: Bool { inFlight < Int(request.prefetch) }

    /// Whether this one should be served before `other`: less in hand relative to its prefetch, then longer
    /// without anything.
    func precedes(_ other: Consumer) -> Bool {
      let (mine, theirs) = (inFlight * Int(other.request.prefetch), other.inFlight * Int(request.prefetch))
      return (mine, lastGrant) < (theirs, other.lastGrant)
    }
  }

  let limits: QueueLimits
  private(set) var window = ReadyWindow()
  private(set) var consumers: [ConsumerID: Consumer] = [:]
  private(set) var leases: [UInt64: Lease] = [:]
  private var grants: UInt64 = 0
  /// No lease runs out before this.
  private(set) var nextDeadlineMs = UInt64.max
  private var polled = 0
  /// Someone has room, and everything at the front is for other devices.
  private var isBlocked = false

  init(limits: QueueLimits = QueueLimits()) { self.limits = limits }

  /// Nothing would be lost by forgetting this queue.
  var isIdle: Bool { consumers.isEmpty && leases.isEmpty }
  private var readyMax: Int { isBlocked ? limits.readyMaxWhenBlocked : limits.readyMax }

  // MARK: - Rows

  /// Committed rows that may be handed out now.
  mutating func arrived(_ entries: [ReadyEntry]) {
    for entry in entries where leases[entry.seq] == nil { window.add(entry, max: readyMax) }
  }

  /// A row that is not ready any more, whoever ended it: done, expired, held, cancelled. Its lease ends.
  mutating func removed(_ seq: UInt64) {
    window.remove(seq)
    drop(seq)
  }

  /// Takes a row out so that nobody can be given it, for its end is on its way to the disk.
  /// - Returns: false when somebody has it in hand.
  mutating func withdraw(_ seq: UInt64) -> Bool {
    guard leases[seq] == nil else { return false }
    window.remove(seq)
    return true
  }

  /// Forgets what is ready and reads it again: after a commit that failed behind `withdraw`.
  mutating func reset() { window = ReadyWindow() }

  /// Where the store should be read from, if more is wanted. Answered by `finishRefill` or `abandonRefill`.
  /// - Parameter forPoll: a poll found nothing, which no consumer stands for.
  mutating func beginRefill(ticket: UInt64, forPoll: Bool = false) -> ReadyKey? {
    let isHungry = forPoll || consumers.values.contains(where: \.hasRoom)
    let isLow = window.count < limits.readyMax / 4 && !(consumers.isEmpty && !forPoll)
    guard isLow || isHungry && window.count < limits.readyMaxWhenBlocked else { return nil }
    isBlocked = isHungry && window.count > 0
    return window.beginRefill(ticket: ticket)
  }

  /// Someone with room, where the store may hold work that is not in view.
  var refillCaller: ConsumerID? {
    guard !window.isRefilling, window.horizon != nil, window.count < limits.readyMaxWhenBlocked else {
      return nil
    }
    return consumers.filter(\.value.hasRoom).keys.min()
  }

  /// - Parameter last: how far the read came, if further than the rows.
  mutating func finishRefill(
    ticket: UInt64, _ rows: [ReadyEntry], through last: ReadyKey? = nil, isEnd: Bool
  ) {
    let leases = self.leases
    window.finishRefill(ticket: ticket, rows, through: last ?? rows.last?.key, isEnd: isEnd, max: readyMax) {
      leases[$0] != nil
    }
  }

  mutating func abandonRefill(ticket: UInt64) { window.abandonRefill(ticket: ticket) }

  // MARK: - Consumers

  /// - Returns: `overloaded` when there are too many.
  mutating func add(_ id: ConsumerID, kid: Kid, _ request: ConsumeRequest) -> ErrorCode {
    guard consumers.count < limits.consumersMax else { return .overloaded }
    grants += 1
    consumers[id] = Consumer(kid: kid, request: request, lastGrant: grants)
    return .none
  }

  /// The consumer is gone. What it held is ready again at once, unless its going counts as a failure.
  /// - Parameter isOrderly: it was taken leave of, and did not just vanish; that is no failure.
  /// - Returns: leases whose end has to be written first; they are `closing`.
  mutating func remove(_ id: ConsumerID, isOrderly: Bool = false) -> [Lease] {
    guard let consumer = consumers.removeValue(forKey: id) else { return [] }
    var ending: [Lease] = []
    for var lease in leases.values.filter({ $0.consumer == id }).sorted(by: { $0.entry.key < $1.entry.key }) {
      switch lease.phase {
      case .closing: continue
      case .held where consumer.request.countsDisconnects && !isOrderly:
        lease.phase = .closing
        leases[lease.seq] = lease
        ending.append(lease)
      case .granted, .held:
        leases[lease.seq] = nil
        window.add(lease.entry, max: readyMax)
      }
    }
    return ending
  }

  // MARK: - Giving out

  /// Assigns what is ready to consumers with room.
  /// - Returns: who was given something.
  mutating func dispatch(nowMs: UInt64, tokens: inout LeaseTokens) -> Set<ConsumerID> {
    var served: Set<ConsumerID> = []
    var room = consumers.values.count(where: \.hasRoom)
    var position = 0
    while room > 0, position < window.count {
      guard let id = leastLoaded(for: window[position]) else {
        position += 1
        continue
      }
      guard let token = tokens.next() else { break }
      let entry = window.removeEntry(at: position)
      guard var consumer = consumers[id] else { preconditionFailure("it was just chosen") }
      grants += 1
      consumer.inFlight += 1
      consumer.lastGrant = grants
      consumer.granted.append(entry.seq)
      if !consumer.hasRoom { room -= 1 }
      let visibilityMs = UInt64(consumer.request.visibilityMs)
      let kid = consumer.kid
      consumers[id] = consumer
      record(
        Lease(
          entry: entry, token: token, kid: kid, consumer: id, visibilityMs: visibilityMs,
          deadlineMs: visibilityMs == 0 ? .max : nowMs + visibilityMs, phase: .granted))
      served.insert(id)
    }
    isBlocked = room > 0 && window.count > 0
    return served
  }

  private func leastLoaded(for entry: ReadyEntry) -> ConsumerID? {
    var best: (id: ConsumerID, consumer: Consumer)?
    for (id, consumer) in consumers where consumer.hasRoom && entry.isFor(consumer.kid) {
      if let best, !consumer.precedes(best.consumer) { continue }
      best = (id, consumer)
    }
    return best?.id
  }

  /// What was assigned to a consumer and not fetched yet, in order.
  mutating func take(_ id: ConsumerID, maxCount: Int) -> [Lease] {
    guard let granted = consumers[id]?.granted else { return [] }
    let taken = granted.prefix(maxCount)
    consumers[id]?.granted.removeFirst(taken.count)
    return taken.compactMap { seq in
      guard leases[seq]?.consumer == id else { return nil }
      leases[seq]?.phase = .held
      return leases[seq]
    }
  }

  /// Leases that did not fit after all: the consumer fetches them next.
  mutating func giveBack(_ seqs: [UInt64], to id: ConsumerID) {
    for seq in seqs.reversed() where leases[seq]?.consumer == id && leases[seq]?.phase == .held {
      leases[seq]?.phase = .granted
      consumers[id]?.granted.insert(seq, at: 0)
    }
  }

  /// Leases for a poll, which is served from what no consumer was given.
  mutating func lease(
    for kid: Kid, maxCount: Int, visibilityMs: UInt64, nowMs: UInt64, tokens: inout LeaseTokens
  ) -> [Lease] {
    var taken: [Lease] = []
    var position = 0
    while taken.count < maxCount, polled < limits.polledMax, position < window.count {
      guard window[position].isFor(kid) else {
        position += 1
        continue
      }
      guard let token = tokens.next() else { break }
      let lease = Lease(
        entry: window.removeEntry(at: position), token: token, kid: kid, consumer: nil,
        visibilityMs: visibilityMs, deadlineMs: nowMs + visibilityMs, phase: .held)
      polled += 1
      record(lease)
      taken.append(lease)
    }
    return taken
  }

  private mutating func record(_ lease: Lease) {
    leases[lease.seq] = lease
    nextDeadlineMs = min(nextDeadlineMs, lease.deadlineMs)
  }

  // MARK: - Ends

  /// Who holds a row, if anybody.
  func holder(of seq: UInt64) -> Lease? { leases[seq] }

  /// Claims a lease for a settlement whose commit follows; until `removed` or `reopen` nothing else happens
  /// to it.
  mutating func beginSettle(_ seq: UInt64, token: UInt64, kid: Kid) -> Result<Lease, ErrorCode> {
    guard let lease = leases[seq], lease.token == token, lease.kid == kid, lease.phase == .held else {
      return .failure(token == 0 ? .notLeased : .leaseLost)
    }
    leases[seq]?.phase = .closing
    return .success(lease)
  }

  /// The commit of the lease's end failed: it is held as before, if its consumer is still there.
  mutating func reopen(_ seq: UInt64, token: UInt64) {
    guard let lease = leases[seq], lease.token == token, lease.phase == .closing else { return }
    if let consumer = lease.consumer, consumers[consumer] == nil {
      drop(seq)
      window.add(lease.entry, max: readyMax)
    } else {
      leases[seq]?.phase = .held
      nextDeadlineMs = min(nextDeadlineMs, lease.deadlineMs)
    }
  }

  /// Begins a lease anew.
  mutating func renew(_ seq: UInt64, token: UInt64, kid: Kid, nowMs: UInt64) -> ErrorCode {
    guard var lease = leases[seq], lease.token == token, lease.kid == kid, lease.phase == .held else {
      return token == 0 ? .notLeased : .leaseLost
    }
    if lease.visibilityMs > 0 { lease.deadlineMs = nowMs + lease.visibilityMs }
    leases[seq] = lease
    return .none
  }

  /// Leases whose time is up, now `closing`: their end is a failed attempt and has to be written.
  mutating func takeExpired(nowMs: UInt64) -> [Lease] {
    guard nowMs >= nextDeadlineMs else { return [] }
    nextDeadlineMs = .max
    var ended: [Lease] = []
    for lease in leases.values where lease.phase != .closing {
      if lease.deadlineMs <= nowMs {
        ended.append(lease)
      } else {
        nextDeadlineMs = min(nextDeadlineMs, lease.deadlineMs)
      }
    }
    ended.sort { $0.entry.key < $1.entry.key }
    for lease in ended {
      leases[lease.seq]?.phase = .closing
      if let consumer = lease.consumer { consumers[consumer]?.granted.removeAll { $0 == lease.seq } }
    }
    return ended
  }

  private mutating func drop(_ seq: UInt64) {
    guard let lease = leases.removeValue(forKey: seq) else { return }
    guard let id = lease.consumer else {
      polled -= 1
      return
    }
    consumers[id]?.inFlight -= 1
    if lease.phase == .granted { consumers[id]?.granted.removeAll { $0 == seq } }
  }
}
