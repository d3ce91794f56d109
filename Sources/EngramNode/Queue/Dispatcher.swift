internal import EngramCore
import Synchronization

/// What a commit did to rows that may be handed out.
enum QueueChange: Sendable {
  case ready(mailbox: Int64, ReadyEntry)
  case gone(mailbox: Int64, seq: UInt64)

  var mailbox: Int64 {
    switch self {
    case .ready(let mailbox, _), .gone(let mailbox, _): mailbox
    }
  }
}

/// The queues of all mailboxes that somebody takes work from, behind one lock: every operation is a few
/// microseconds of work on values. It never reads the store; `Node.pump` does.
///
/// The commit thread says what was committed (`apply`); whoever has a thread to spare refills and fetches.
final class Dispatcher: Sendable {
  private struct State {
    var queues: [Int64: MailboxQueue] = [:]
    var bells: [ConsumerID: @Sendable () -> Void] = [:]
    var tokens: LeaseTokens
    var nextConsumer: UInt64 = 0
    var tickets: UInt64 = 0
    /// Rows whose end is on its way to the disk: a refill still finds them there.
    var withdrawn: [Int64: Set<UInt64>] = [:]
  }
  private let state: Mutex<State>
  private let clock: any Clock
  private let limits: QueueLimits
  /// So that commits of nodes without consumers pay for no lock.
  private let isUsed = Flag()

  init(epoch: UInt32, clock: any Clock, limits: QueueLimits = QueueLimits()) {
    state = Mutex(State(tokens: LeaseTokens(epoch: epoch)))
    (self.clock, self.limits) = (clock, limits)
  }

  // MARK: - Consumers

  func join(
    _ mailbox: Int64, kid: Kid, _ request: ConsumeRequest, onWork: @escaping @Sendable () -> Void
  ) -> Result<ConsumerID, ErrorCode> {
    isUsed.isSet = true
    return state.withLock { state in
      state.nextConsumer += 1
      let id = ConsumerID(number: state.nextConsumer)
      let code = state.queues[mailbox, default: MailboxQueue(limits: limits)].add(id, kid: kid, request)
      guard code == .none else { return .failure(code) }
      state.bells[id] = onWork
      return .success(id)
    }
  }

  /// - Returns: leases whose end counts as a failure and has to be written.
  func leave(_ mailbox: Int64, _ id: ConsumerID) -> [Lease] {
    let (closing, bells) = state.withLock { state in
      state.bells[id] = nil
      let closing = state.queues[mailbox]?.remove(id) ?? []
      let bells = dispatch(mailbox, &state)
      forgetIfIdle(mailbox, &state)
      return (closing, bells)
    }
    for ring in bells { ring() }
    return closing
  }

  /// Whether anybody takes work from this mailbox or holds some of it.
  func isBusy(_ mailbox: Int64) -> Bool { state.withLock { $0.queues[mailbox].map { !$0.isIdle } ?? false } }

  func load(_ mailbox: Int64) -> (leased: Int, consumers: Int) {
    state.withLock { ($0.queues[mailbox]?.leases.count ?? 0, $0.queues[mailbox]?.consumers.count ?? 0) }
  }

  // MARK: - Rows

  /// After a commit, in the order in which things happened.
  func apply(_ changes: [QueueChange]) {
    guard isUsed.isSet, !changes.isEmpty else { return }
    let bells = state.withLock { state in
      var touched: Set<Int64> = []
      for case .gone(let mailbox, let seq) in changes where !state.withdrawn.isEmpty {
        state.withdrawn[mailbox]?.remove(seq)
        if state.withdrawn[mailbox]?.isEmpty == true { state.withdrawn[mailbox] = nil }
      }
      for change in changes where state.queues[change.mailbox] != nil {
        touched.insert(change.mailbox)
        switch change {
        case .ready(let mailbox, let entry): state.queues[mailbox]?.arrived([entry])
        case .gone(let mailbox, let seq): state.queues[mailbox]?.removed(seq)
        }
      }
      return touched.sorted().flatMap { mailbox in
        defer { forgetIfIdle(mailbox, &state) }
        return dispatch(mailbox, &state)
      }
    }
    for ring in bells { ring() }
  }

  /// A row that turned out not to be there, or not to be ready.
  func forget(_ mailbox: Int64, seq: UInt64) { apply([.gone(mailbox: mailbox, seq: seq)]) }

  /// See `MailboxQueue.withdraw`; the commit thread's way to end a row that nobody holds.
  func withdraw(_ mailbox: Int64, seq: UInt64) -> Bool {
    isUsed.isSet = true
    return state.withLock { state in
      guard state.queues[mailbox]?.withdraw(seq) ?? true else { return false }
      state.withdrawn[mailbox, default: []].insert(seq)
      return true
    }
  }

  /// The commit behind `withdraw` failed: what is ready is read again.
  func restore(_ mailbox: Int64, seq: UInt64) {
    state.withLock { state in
      state.withdrawn[mailbox]?.remove(seq)
      if state.withdrawn[mailbox]?.isEmpty == true { state.withdrawn[mailbox] = nil }
      state.queues[mailbox]?.reset()
    }
  }

  /// Assigns what is in view, and says where to read on if more is wanted.
  func beginRefill(_ mailbox: Int64, forPoll: Bool) -> (from: ReadyKey, ticket: UInt64)? {
    let (key, ticket, bells) = state.withLock { state in
      if forPoll, state.queues[mailbox] == nil { state.queues[mailbox] = MailboxQueue(limits: limits) }
      isUsed.isSet = true
      let bells = dispatch(mailbox, &state, ringingForRefill: false)
      state.tickets += 1
      let ticket = state.tickets
      return (state.queues[mailbox]?.beginRefill(ticket: ticket, forPoll: forPoll), ticket, bells)
    }
    for ring in bells { ring() }
    return key.map { ($0, ticket) }
  }

  /// - Parameter rows: nil when the read failed.
  func finishRefill(_ mailbox: Int64, ticket: UInt64, _ rows: [ReadyEntry]?, isEnd: Bool) {
    state.withLock { state in
      guard let rows else {
        state.queues[mailbox]?.abandonRefill(ticket: ticket)
        return
      }
      let withdrawn = state.withdrawn[mailbox] ?? []
      let live = withdrawn.isEmpty ? rows : rows.filter { !withdrawn.contains($0.seq) }
      state.queues[mailbox]?.finishRefill(ticket: ticket, live, through: rows.last?.key, isEnd: isEnd)
    }
  }

  var refillMax: Int { limits.refillMax }

  // MARK: - Leases

  func take(_ mailbox: Int64, _ id: ConsumerID, maxCount: Int) -> [Lease] {
    state.withLock { $0.queues[mailbox]?.take(id, maxCount: maxCount) ?? [] }
  }

  func giveBack(_ mailbox: Int64, _ leases: [Lease], to id: ConsumerID) {
    state.withLock { $0.queues[mailbox]?.giveBack(leases.map(\.seq), to: id) }
  }

  func lease(_ mailbox: Int64, kid: Kid, maxCount: Int, visibilityMs: UInt64) -> [Lease] {
    isUsed.isSet = true
    return state.withLock { state in
      guard var queue = state.queues[mailbox] else { return [] }
      state.queues[mailbox] = nil
      // A poll that finds nothing leaves nothing behind.
      defer { state.queues[mailbox] = queue.isIdle ? nil : queue }
      return queue.lease(
        for: kid, maxCount: maxCount, visibilityMs: visibilityMs, nowMs: clock.monotonicMs(),
        tokens: &state.tokens)
    }
  }

  /// Leases of a poll that did not fit into its answer: ready again at once.
  func putBack(_ mailbox: Int64, _ leases: [Lease]) {
    guard !leases.isEmpty else { return }
    let bells = state.withLock { state in
      for lease in leases {
        state.queues[mailbox]?.removed(lease.seq)
        state.queues[mailbox]?.arrived([lease.entry])
      }
      return dispatch(mailbox, &state)
    }
    for ring in bells { ring() }
  }

  /// What a device holds by polls goes back: it cannot answer any more. What it holds by a connection goes
  /// back with that.
  func release(_ mailbox: Int64, kid: Kid) {
    guard isUsed.isSet else { return }
    let held = state.withLock { state in
      (state.queues[mailbox]?.leases.values ?? [:].values).filter {
        $0.kid == kid && $0.consumer == nil && $0.phase != .closing
      }
    }
    putBack(mailbox, held.sorted { $0.entry.key < $1.entry.key })
  }

  func beginSettle(_ mailbox: Int64, seq: UInt64, token: UInt64, kid: Kid) -> Result<Lease, ErrorCode> {
    state.withLock { state in
      state.queues[mailbox]?.beginSettle(seq, token: token, kid: kid)
        ?? .failure(token == 0 ? .notLeased : .leaseLost)
    }
  }

  func reopen(_ mailbox: Int64, _ lease: Lease) {
    state.withLock { $0.queues[mailbox]?.reopen(lease.seq, token: lease.token) }
  }

  func renew(_ mailbox: Int64, seq: UInt64, token: UInt64, kid: Kid) -> ErrorCode {
    state.withLock { state in
      state.queues[mailbox]?.renew(seq, token: token, kid: kid, nowMs: clock.monotonicMs())
        ?? (token == 0 ? .notLeased : .leaseLost)
    }
  }

  func holder(_ mailbox: Int64, of seq: UInt64) -> Lease? {
    state.withLock { $0.queues[mailbox]?.holder(of: seq) }
  }

  /// The numbers that somebody holds; nil when nobody takes work from this mailbox.
  func leased(_ mailbox: Int64) -> Set<UInt64>? {
    guard isUsed.isSet else { return nil }
    return state.withLock { state in
      guard let queue = state.queues[mailbox], !queue.leases.isEmpty else { return nil }
      return Set(queue.leases.keys)
    }
  }

  /// Leases whose time is up, by mailbox.
  func takeExpired() -> [(mailbox: Int64, leases: [Lease])] {
    guard isUsed.isSet else { return [] }
    let now = clock.monotonicMs()
    return state.withLock { state in
      let late = state.queues.filter { $0.value.nextDeadlineMs <= now }.keys.sorted()
      return late.compactMap { mailbox in
        let leases = state.queues[mailbox]?.takeExpired(nowMs: now) ?? []
        return leases.isEmpty ? nil : (mailbox, leases)
      }
    }
  }

  // MARK: - Tokens

  /// An epoch that has to be stored before it may be used.
  var wantedEpoch: UInt32? { isUsed.isSet ? state.withLock { $0.tokens.wanted } : nil }
  func reserve(epoch: UInt32) { state.withLock { $0.tokens.reserve(epoch) } }

  // MARK: - Inside the lock

  /// - Returns: whom to tell: those who were given something, and one with room where the store has to be
  ///   read for more.
  private func dispatch(
    _ mailbox: Int64, _ state: inout State, ringingForRefill: Bool = true
  ) -> [@Sendable () -> Void] {
    guard var queue = state.queues[mailbox] else { return [] }
    // Taken out, so that it is changed in place.
    state.queues[mailbox] = nil
    defer { state.queues[mailbox] = queue }
    var served = queue.dispatch(nowMs: clock.monotonicMs(), tokens: &state.tokens)
    if ringingForRefill, let hungry = queue.refillCaller { served.insert(hungry) }
    return served.sorted().compactMap { state.bells[$0] }
  }

  private func forgetIfIdle(_ mailbox: Int64, _ state: inout State) {
    if state.queues[mailbox]?.isIdle == true { state.queues[mailbox] = nil }
  }
}
