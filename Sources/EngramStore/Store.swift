internal import GRDB
internal import GRDBSQLite

/// What a commit survives.
package enum Synchronous: Int64, Sendable {
  /// A crash of the process, not a power cut: only the power-cut test's control asks for it.
  case normal = 1
  /// Every commit is fsynced before it returns.
  case full = 2
}

package struct StoreOptions: Sendable {
  package var synchronous: Synchronous
  /// Connections for reads; a further reader waits for one.
  package var readers: Int
  /// Called as the last step of every write; what it throws makes the commit fail. Only tests set it.
  package var beforeCommit: (@Sendable () throws(StoreError) -> Void)?

  package init(synchronous: Synchronous = .full, readers: Int = 4) {
    self.synchronous = synchronous
    self.readers = readers
  }
}

/// The node's one durable memory: a SQLite file that this process alone has open.
///
/// Verbs live on `StoreTransaction` (one writer at a time) and `StoreSnapshot` (any thread). When `write`
/// returns, everything it did is on the disk, or nothing is; a crash at any point leaves the last returned
/// state, and opening again needs no repair.
package final class Store: Sendable {
  package let path: String
  private let pool: DatabasePool
  private let lock: FileLock
  private let readers = ReaderGate()
  private let beforeCommit: (@Sendable () throws(StoreError) -> Void)?

  /// Opens or creates the file, with mode 0600, and brings its schema up to date.
  /// - Throws: `locked` when another process has it, `schemaTooNew`, `notDurable` when a pragma did not hold,
  ///   `corrupt`, `full`, `failed`.
  package init(path: String, options: StoreOptions = .init()) throws(StoreError) {
    self.path = path
    beforeCommit = options.beforeCommit
    lock = try FileLock(path: path + ".lock")
    try createPrivateFile(path)
    do {
      pool = try DatabasePool(path: path, configuration: Tuning.configuration(readers: options.readers))
      try pool.writeWithoutTransaction { db in
        // GRDB sets NORMAL on the writer whatever was prepared, so this comes after opening and is checked.
        try db.execute(sql: "PRAGMA synchronous = \(options.synchronous.rawValue)")
        try Tuning.requireDurable(db, synchronous: options.synchronous)
        guard try !Schema.migrator.hasBeenSuperseded(db) else { throw StoreError.schemaTooNew }
      }
      try Schema.migrator.migrate(pool)
    } catch { throw StoreError(any: error) }
  }

  /// Runs one immediate transaction and returns after its commit is durable. One thread at a time; others
  /// wait.
  /// - Throws: what `body` throws, or the `StoreError` that made the commit impossible; nothing stays then.
  package func write<T>(_ body: (StoreTransaction) throws -> T) throws -> T {
    do {
      return try pool.write { db in
        let transaction = StoreTransaction(db)
        do {
          let result = try body(transaction)
          // A storage error that the body swallowed must not be committed around.
          if let condemned = transaction.condemned { throw condemned }
          try beforeCommit?()
          return result
        } catch { throw transaction.condemned ?? error }
      }
    } catch let error as DatabaseError { throw StoreError(error) }
  }

  /// Reads from one snapshot: commits that happen meanwhile are not seen.
  package func read<T>(_ body: (StoreSnapshot) throws -> T) throws -> T {
    try readers.enter()
    defer { readers.leave() }
    do {
      return try pool.read { try body(StoreSnapshot($0)) }
    } catch let error as DatabaseError { throw StoreError(error) }
  }

  /// Moves the log into the database file and truncates it, so that wiped bytes are in neither.
  /// Fails with `failed(SQLITE_BUSY)` while a reader holds an old snapshot for longer than the busy timeout.
  package func checkpoint() throws(StoreError) {
    do {
      _ = try pool.writeWithoutTransaction { try $0.checkpoint(.truncate) }
    } catch { throw StoreError(any: error) }
  }

  /// Holds back `bytes` of disk in a file beside the store, for the time when the disk is full: giving them
  /// up lets acknowledgements, which free space, commit.
  /// - Returns: false when the disk has no room for them and as much again.
  package func holdReserve(bytes: UInt64) -> Bool {
    if UInt64(fileBytes(path + ".reserve")) >= bytes { return true }
    return EngramStore.freeDiskBytes(path) >= 2 * bytes && allocateFile(path + ".reserve", bytes: bytes)
  }

  package func releaseReserve() { removeFile(path + ".reserve") }

  /// Checkpoints and closes; verbs fail with `closed` afterwards, and another process may open the store.
  package func close() throws(StoreError) {
    // Best effort: what the log holds is durable there too, and the next start reads it.
    try? checkpoint()
    readers.close()
    do { try pool.close() } catch { throw StoreError(any: error) }
    lock.release()
  }

  /// Space that this process may still use on the file's disk, in bytes. Draining needs room for the log, so
  /// new work has to be refused before this reaches nothing.
  package func freeDiskBytes() -> UInt64 { EngramStore.freeDiskBytes(path) }

  /// - Throws: `notDurable` unless the writer runs as `asked`.
  package func requireDurable(as asked: Synchronous) throws(StoreError) {
    do {
      try pool.writeWithoutTransaction { try Tuning.requireDurable($0, synchronous: asked) }
    } catch { throw StoreError(any: error) }
  }
}

/// A consistent view of the store; use it inside the closure that received it and nowhere else.
package class StoreSnapshot {
  let db: Database
  /// Statements of the hot path that this transaction has used, by `HotQuery`.
  var prepared = [PreparedStatement?](repeating: nil, count: HotQuery.allCases.count)
  /// The first error after which a transaction must not commit.
  var condemned: StoreError?

  init(_ db: Database) { self.db = db }
}

/// The one running write transaction; it reads its own writes.
package final class StoreTransaction: StoreSnapshot {
  /// Grows with every row that is changed: equal before and after a step that changed nothing.
  package var changes: Int { Int(sqlite3_total_changes(db.sqliteConnection)) }

  /// Runs a step that is undone alone when it throws; the error is rethrown and the transaction goes on.
  /// After `full`, `fsyncFailed`, `corrupt` or `failed` the whole transaction fails even if the error is
  /// caught.
  package func savepoint<T>(_ body: () throws -> T) throws -> T {
    try execute("SAVEPOINT step")
    do {
      let result = try body()
      try execute("RELEASE step")
      return result
    } catch {
      if condemned == nil {
        try execute("ROLLBACK TO step")
        try execute("RELEASE step")
      }
      throw error
    }
  }
}
