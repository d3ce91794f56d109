internal import EngramCore
internal import EngramCrypto
internal import EngramStore
import Foundation
internal import Logging

/// What one group commit collects: the store's transaction, receipts to be signed together, mailboxes that
/// got work, and what is to be called once everything is on disk. Lives on the commit thread for one group.
final class CommitGroup {
  let transaction: StoreTransaction
  let nowMs: UInt64
  private(set) var receipts: [ReceiptBody] = []
  private(set) var completions: [@Sendable (SignedReceipts) -> Void] = []
  private(set) var woken: Set<Int64> = []
  private var allocated: [Int64: (first: UInt64, next: UInt64)] = [:]
  /// Devices read inside the transaction; the roster keeps them only once it is on disk.
  var loadedDevices: [Kid: KnownDevice] = [:]
  /// What was put into mailboxes, for those who follow them; see `FreshRows`.
  private var fresh: [(mailbox: Int64, seq: UInt64, row: FreshRow)] = []
  private var unseen: Set<Int64> = []
  private var changes: [QueueChange] = []
  private var leaves: [AuditLeaf] = []
  private var undos: [@Sendable () -> Void] = []

  init(_ transaction: StoreTransaction, nowMs: UInt64) {
    self.transaction = transaction
    self.nowMs = nowMs
  }

  /// The next number of a mailbox. Counted in memory and written once per group: a row update per delivery
  /// would cost as much as the delivery.
  func nextSeq(_ mailbox: Int64) throws -> UInt64 {
    if allocated[mailbox] == nil {
      let first = try transaction.highestSeq(mailbox) + 1
      allocated[mailbox] = (first, first)
    }
    guard let counter = allocated[mailbox] else { preconditionFailure("set above") }
    allocated[mailbox] = (counter.first, counter.next + 1)
    woken.insert(mailbox)
    return counter.next
  }

  /// Keeps a row in memory for whoever follows the mailbox. Every row that is put into a mailbox has to pass
  /// here or through `putUnseen`.
  func keep(_ row: FreshRow, in mailbox: Int64, seq: UInt64) { fresh.append((mailbox, seq, row)) }

  /// A row came into the mailbox that only the store knows.
  func putUnseen(in mailbox: Int64) { unseen.insert(mailbox) }

  /// After the commit, and before anybody is told of it.
  func publish(to rows: FreshRows) {
    var own: [Int64: [(seq: UInt64, row: FreshRow)]] = [:]
    for (mailbox, seq, row) in fresh { own[mailbox, default: []].append((seq, row)) }
    for (mailbox, counter) in allocated {
      rows.publish(
        mailbox, first: counter.first, through: counter.next - 1,
        rows: unseen.contains(mailbox) ? nil : own[mailbox] ?? [])
    }
  }

  /// A row that may be handed out once this is on disk, or one that may not be handed out any more.
  func note(_ change: QueueChange) { changes.append(change) }

  /// What was decided, for the audit: committed with everything else.
  func audit(_ leaf: AuditLeaf) { leaves.append(leaf) }

  /// Called when what the current command did does not come to be. For the little that a command changes
  /// outside of its transaction.
  func onUndo(_ undo: @escaping @Sendable () -> Void) { undos.append(undo) }

  /// After the commit: whoever takes work is told first, because answers may bring questions.
  func publish(to dispatcher: Dispatcher) { dispatcher.apply(changes) }

  /// Nothing of this group was kept.
  func abandon() {
    for undo in undos.reversed() { undo() }
    undos = []
  }

  /// Has the mailbox's watchers called after the commit.
  func wake(_ mailbox: Int64) { woken.insert(mailbox) }

  /// Queues a statement for the group's one signature; the index finds it in `SignedReceipts`.
  func sign(_ body: ReceiptBody) -> Int {
    receipts.append(body)
    return receipts.count - 1
  }

  /// Called on the commit thread after the group is on disk.
  func afterCommit(_ completion: @escaping @Sendable (SignedReceipts) -> Void) {
    completions.append(completion)
  }

  /// Writes the mailbox counters and the audit row; the last step inside the transaction.
  func complete() throws {
    if !leaves.isEmpty {
      try transaction.insertAudit(atMs: nowMs, count: leaves.count, leaves: AuditLeaf.encode(leaves))
    }
    for (mailbox, counter) in allocated {
      let first = try transaction.takeSeqs(mailbox, count: Int(counter.next - counter.first))
      precondition(first == counter.first, "only the commit thread takes numbers")
    }
  }

  /// Forgets what a failed command queued after `mark`. Numbers it took stay unused: gaps are legal.
  func rollBack(to mark: Mark) {
    receipts.removeSubrange(mark.receipts...)
    completions.removeSubrange(mark.completions...)
    loadedDevices = [:]
    fresh.removeSubrange(mark.fresh...)
    changes.removeSubrange(mark.changes...)
    leaves.removeSubrange(mark.leaves...)
    for undo in undos[mark.undos...].reversed() { undo() }
    undos.removeSubrange(mark.undos...)
  }

  struct Mark {
    let receipts: Int
    let completions: Int
    let fresh: Int
    let changes: Int
    let leaves: Int
    let undos: Int
  }
  var mark: Mark {
    Mark(
      receipts: receipts.count, completions: completions.count, fresh: fresh.count, changes: changes.count,
      leaves: leaves.count, undos: undos.count)
  }
}

/// The receipts of one group, signed under one Merkle root.
struct SignedReceipts: Sendable {
  private let encoded: [[UInt8]]
  init(_ encoded: [[UInt8]]) { self.encoded = encoded }
  subscript(index: Int) -> [UInt8] { encoded[index] }
}

/// A unit of work for the commit thread. `perform` changes nothing but the group and its transaction, or says
/// with `onUndo` how to take it back: when a command of the group fails half way, everything is undone and the
/// whole group runs again.
struct CommitCommand: Sendable {
  /// Messages, receipts or rows in it; bounds the group and the queue.
  let weight: Int
  let perform: @Sendable (CommitGroup) throws -> Void
  /// Nothing of the command was stored.
  let refused: @Sendable (ErrorCode) -> Void
}

/// The one thread that writes. Takes whatever is queued, greedily, and never waits for more (a linger showed
/// no gain); commits it in one transaction; only then answers. What a crash means: before the commit nothing
/// of the group happened and nobody was told; after it everything did, and who was not told asks again and is
/// answered as a duplicate.
final class CommitLoop: Sendable {
  struct Hooks: Sendable {
    let sign: @Sendable ([ReceiptBody]) -> [[UInt8]]
    let wake: @Sendable (Set<Int64>) -> Void
    /// A commit found no space on the disk.
    let full: @Sendable () -> Void
    /// An fsync failed: what is on disk is unknown, so the process must end (never retried).
    let fatal: @Sendable (StoreError) -> Void
  }

  private struct State {
    var queue: [CommitCommand] = []
    var queuedWeight = 0
    var isStopping = false
    var isStopped = false
    /// An fsync failed: nothing is committed or answered any more.
    var isDead = false
  }

  // @unchecked members are guarded by `condition`.
  private final class Shared: @unchecked Sendable {
    let condition = NSCondition()
    var state = State()
    var lastFailure: ErrorCode?
  }

  private let shared = Shared()
  private let store: Store
  private let freshRows: FreshRows
  private let dispatcher: Dispatcher
  private let clock: any Clock
  private let groupMax: Int
  private let queueMax: Int
  private let hooks: Hooks
  private let log: Logger
  private let metrics: NodeMetrics

  init(
    store: Store, freshRows: FreshRows, dispatcher: Dispatcher, clock: any Clock, settings: NodeSettings,
    hooks: Hooks,
    metrics: NodeMetrics, log: Logger
  ) {
    (self.freshRows, self.dispatcher) = (freshRows, dispatcher)
    (self.store, self.clock, self.hooks, self.metrics, self.log) = (store, clock, hooks, metrics, log)
    (groupMax, queueMax) = (settings.groupCommitMax, settings.queuedMessagesMax)
  }

  func start() {
    let thread = Thread { [self] in run() }
    thread.name = "engram-commit"
    thread.start()
  }

  /// Commits what is queued and ends the thread; later commands are refused.
  func stop() {
    let condition = shared.condition
    condition.lock()
    shared.state.isStopping = true
    condition.broadcast()
    while !shared.state.isStopped { condition.wait() }
    condition.unlock()
  }

  /// The failure of the last commit, nil when it succeeded.
  var lastFailure: ErrorCode? {
    shared.condition.lock()
    defer { shared.condition.unlock() }
    return shared.lastFailure
  }

  func submit(_ command: CommitCommand) {
    let condition = shared.condition
    condition.lock()
    let refusal: ErrorCode? =
      shared.state.isDead
      ? .storageFailed
      : shared.state.isStopping
        ? .shuttingDown : shared.state.queuedWeight + command.weight > queueMax ? .overloaded : nil
    if refusal == nil {
      shared.state.queue.append(command)
      shared.state.queuedWeight += command.weight
      condition.signal()
    }
    condition.unlock()
    if let refusal { command.refused(refusal) }
  }

  private func run() {
    while let group = nextGroup() { commit(group) }
    let condition = shared.condition
    condition.lock()
    shared.state.isStopped = true
    condition.broadcast()
    condition.unlock()
  }

  /// Blocks until there is work; nil when stopping and everything is done.
  private func nextGroup() -> [CommitCommand]? {
    let condition = shared.condition
    condition.lock()
    defer { condition.unlock() }
    if shared.state.isDead { return nil }
    while shared.state.queue.isEmpty {
      if shared.state.isStopping { return nil }
      condition.wait()
    }
    var weight = 0
    let end =
      shared.state.queue.firstIndex { command in
        defer { weight += command.weight }
        return weight >= groupMax
      } ?? shared.state.queue.endIndex
    let group = Array(shared.state.queue[..<end])
    shared.state.queue.removeSubrange(..<end)
    shared.state.queuedWeight -= group.reduce(0) { $0 + $1.weight }
    return group
  }

  private func commit(_ commands: [CommitCommand]) {
    do {
      var outcome = try attempt(commands, isolating: false)
      if outcome == nil { outcome = try attempt(commands, isolating: true) }
      guard let (group, refusals) = outcome?.value else {
        preconditionFailure("isolated commands fail alone")
      }
      note(failure: nil)
      finish(group, refusals: refusals)
    } catch {
      fail(commands, with: error)
    }
  }

  private typealias Refusal = (refused: @Sendable (ErrorCode) -> Void, code: ErrorCode)

  /// One transaction over all commands. A savepoint per command would have SQLite copy every page that it
  /// changes, for an undo that is hardly ever needed: refusals come before the first change as a rule. So at
  /// first there are none.
  /// - Returns: nil when a command failed after it had changed something, and nothing was kept.
  private func attempt(
    _ commands: [CommitCommand], isolating: Bool
  ) throws -> Unchecked<(CommitGroup, [Refusal])>? {
    var abandoned: CommitGroup?
    do {
      return try store.write { transaction in
        let group = CommitGroup(transaction, nowMs: clock.nowMs())
        abandoned = group
        var refusals: [Refusal] = []
        for command in commands {
          if let code = try perform(command, in: group, isolating: isolating) {
            refusals.append((command.refused, code))
          }
        }
        try group.complete()
        return Unchecked((group, refusals))
      }
    } catch {
      abandoned?.abandon()
      if error is HalfDone { return nil }
      throw error
    }
  }

  /// A command failed after its first change, outside of a savepoint.
  private struct HalfDone: Error {}

  /// - Returns: why the command was refused, if it was.
  private func perform(
    _ command: CommitCommand, in group: CommitGroup, isolating: Bool
  ) throws -> ErrorCode? {
    let mark = group.mark
    let changes = group.transaction.changes
    do {
      if isolating {
        try group.transaction.savepoint { try command.perform(group) }
      } else {
        try command.perform(group)
      }
      return nil
    } catch {
      guard let code = Self.refusal(error) else { throw error }
      guard isolating || group.transaction.changes == changes else { throw HalfDone() }
      group.rollBack(to: mark)
      if code == .damagedRow {
        metrics.add(.damagedRows)
        log.error("a stored row is damaged", metadata: ["error": "\(error)"])
      }
      return code
    }
  }

  /// Nil for what fails the whole group.
  private static func refusal(_ error: any Error) -> ErrorCode? {
    switch error {
    case let code as ErrorCode: code
    case let error as StoreError where error.code == .damagedRow: .damagedRow
    default: nil
    }
  }

  private func finish(_ group: CommitGroup, refusals: [Refusal]) {
    metrics.add(.commits)
    group.publish(to: freshRows)
    group.publish(to: dispatcher)
    // Whoever forwards goes ahead: what it needs is on disk, and signing takes a moment.
    hooks.wake(group.woken)
    let signed = SignedReceipts(hooks.sign(group.receipts))
    for completion in group.completions { completion(signed) }
    for (refused, code) in refusals { refused(code) }
  }

  private func fail(_ commands: [CommitCommand], with error: any Error) {
    let storeError = error as? StoreError
    let code = storeError?.code ?? (error as? ErrorCode) ?? .internalError
    note(failure: code)
    metrics.add(.commitFailures)
    log.error("a commit failed", metadata: ["code": "\(code.name)"])
    if let storeError, storeError == .fsyncFailed { return die(storeError) }
    if code == .storageFull { hooks.full() }
    for command in commands { command.refused(code) }
  }

  /// What is on the disk is unknown, so nothing true can be said to anybody: whoever waits for an answer
  /// hears from the next process, which reads the disk anew.
  private func die(_ error: StoreError) {
    shared.condition.lock()
    shared.state.isDead = true
    shared.state.queue = []
    shared.condition.unlock()
    hooks.fatal(error)
  }

  private func note(failure: ErrorCode?) {
    shared.condition.lock()
    shared.lastFailure = failure
    shared.condition.unlock()
  }
}

/// Carries a value across a generic closure that asks for Sendable although both sides run on one thread.
private struct Unchecked<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
