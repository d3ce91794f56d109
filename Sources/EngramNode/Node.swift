package import EngramCore
internal import EngramCrypto
package import EngramStore
import Foundation
package import Logging
import Synchronization

/// One organisation's node: intake, routing, delivery, receipts, sessions, directory. Synchronous; reads run
/// on the caller's thread, writes on the one commit thread, where completions are called too.
package final class Node: Sendable {
  package let identity: NodeIdentity
  package let settings: NodeSettings
  package let clock: any Clock
  package let metrics = NodeMetrics()

  let random: any RandomSource
  let log: Logger
  let roster: Roster
  let commitLoop: CommitLoop
  let sessions = SessionTable()
  let mailboxWatches: WatchTable<Int64>
  let sessionWatches = WatchTable<Kid>()
  let directoryCache = DirectoryCache()
  let refusedSenders = RefusedSenders()
  let freshRows: FreshRows
  let dispatcher: Dispatcher
  let outboxGate = OutboxGate()
  let shown = ShownRows()
  let delivered = DeliveredBatch()
  let directoryPort = Mutex<(any DirectoryPort)?>(nil)
  let requestPort = Mutex<(any RequestPort)?>(nil)
  let presence = PresenceBook()
  let startedMs: UInt64
  /// Something of a revoked device is still in somebody's hands: it is looked at again.
  let revokedLeft = Flag()
  private let store: Store
  let sweeper: Sweeper
  private let ticker: QueueTicker
  /// The jump of the machine's clock that was last spoken of.
  let spokenJumpMs = Mutex<Int64?>(nil)
  private let purgedThrough: Atomic<UInt64>
  private let isRunning = Atomic<Bool>(false)
  private let diskLow = Flag()

  /// - Parameter onFatal: called when the store can no longer be trusted to keep what it acknowledges (a
  ///   failed fsync is never retried). The process must end; the default ends it.
  package init(
    identity: NodeIdentity, store: Store, settings: NodeSettings = NodeSettings(), clock: any Clock,
    random: any RandomSource, log: Logger, onFatal: (@Sendable (ErrorCode) -> Void)? = nil
  ) throws(ErrorCode) {
    (self.identity, self.settings, self.clock, self.random) = (identity, settings, clock, random)
    (self.store, self.log) = (store, log)
    roster = Roster(store: store)
    sweeper = Sweeper(clock: clock)
    startedMs = clock.nowMs()
    let watches = WatchTable<Int64>()
    mailboxWatches = watches
    let freshRows = FreshRows()
    self.freshRows = freshRows
    let dispatcher = Dispatcher(epoch: try Node.beginEpoch(store), clock: clock)
    self.dispatcher = dispatcher
    ticker = QueueTicker()
    let key = identity.key
    let diskLow = self.diskLow
    commitLoop = CommitLoop(
      store: store, freshRows: freshRows, dispatcher: dispatcher, clock: clock, settings: settings,
      hooks: CommitLoop.Hooks(
        sign: { signReceipts($0, with: key) }, wake: { watches.call($0) },
        full: {
          diskLow.isSet = true
          store.releaseReserve()
        },
        fatal: { error in
          log.critical("the store lost an fsync; stopping", metadata: ["code": "\(error.code.name)"])
          if let onFatal { onFatal(error.code) } else { exit(74) }
        }), metrics: metrics, log: log)
    let purged: [UInt8]?
    do { purged = try store.read { try $0.value(Node.purgedThroughKey) } } catch {
      throw (error as? StoreError)?.code ?? .internalError
    }
    purgedThrough = Atomic((purged ?? []).reduce(0) { $0 << 8 | UInt64($1) })
  }

  /// Starts the commit thread and the sweeper.
  package func start() {
    measureDisk()
    commitLoop.start()
    isRunning.store(true, ordering: .releasing)
    sweeper.start { [weak self] slow, mayPurge in self?.sweep(slow: slow, mayPurge: mayPurge) }
    ticker.start { [weak self] in self?.tick() }
    resumeModeChanges()
    endDeliveriesOfRevoked()
  }

  /// Refuses new work, commits what is queued, stops the threads.
  package func stop() {
    guard isRunning.exchange(false, ordering: .acquiringAndReleasing) else { return }
    sweeper.stop()
    ticker.stop()
    commitLoop.stop()
  }

  /// Running, the last commit did not fail, and the disk has room for new work.
  package var isReady: Bool {
    isRunning.load(ordering: .acquiring) && commitLoop.lastFailure == nil && !isDiskLow
  }

  /// As of the last second.
  var isDiskLow: Bool { diskLow.isSet }

  /// Takes the reserve back as soon as there is room for it, and with it new work.
  func measureDisk() {
    diskLow.isSet = !store.holdReserve(bytes: settings.diskReserveBytes)
  }

  /// Envelopes that expire at or before this are refused: their deduplication rows may be gone.
  var purgedThroughMs: UInt64 { purgedThrough.load(ordering: .relaxed) }
  func notePurged(through ms: UInt64) { purgedThrough.store(ms, ordering: .relaxed) }

  /// A consistent read on the caller's thread.
  func reading<T>(_ body: (StoreSnapshot) throws -> T) throws(ErrorCode) -> T {
    do { return try unmappedRead(body) } catch {
      throw error as? ErrorCode ?? (error as? StoreError)?.code ?? .internalError
    }
  }

  func unmappedRead<T>(_ body: (StoreSnapshot) throws -> T) throws -> T { try store.read(body) }

  /// Waits for a write; for administration only, never on an event loop.
  func writing<T: Sendable>(_ body: @escaping @Sendable (CommitGroup) throws -> T) throws(ErrorCode) -> T {
    let done = DispatchSemaphore(value: 0)
    let result = Mutex<Result<T, ErrorCode>>(.failure(.internalError))
    commitLoop.submit(
      CommitCommand(weight: 1) { group in
        let value = try body(group)
        group.afterCommit { _ in
          result.withLock { $0 = .success(value) }
          done.signal()
        }
      } refused: { code in
        result.withLock { $0 = .failure(code) }
        done.signal()
      })
    done.wait()
    return try result.withLock { $0 }.get()
  }
}

/// libsodium's generator.
package struct SystemRandom: RandomSource {
  package init() {}
  package func bytes(_ count: Int) -> [UInt8] { randomBytes(count) }
}

/// A flag that several threads read and set.
final class Flag: Sendable {
  private let value = Atomic<Bool>(false)
  var isSet: Bool {
    get { value.load(ordering: .relaxed) }
    set { value.store(newValue, ordering: .relaxed) }
  }
}
