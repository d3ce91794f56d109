package import EngramCrypto
internal import GRDB
internal import Glibc

/// The client's one durable memory, `<home>/client.db`: what it promised to others and what others told it.
///
/// Several commands may share a home. Each `write` is one transaction under the home's lock; when it returns,
/// everything it did is on the disk, or nothing is. Secret columns are sealed under the storage key, which
/// lives in the key file and nowhere else.
package final class ClientStore: Sendable {
  package let home: String
  private let queue: DatabaseQueue
  private let lock: HomeLock
  private let box: StorageBox
  private let searchKey: SearchKey

  /// Opens or creates the database of a home whose folder exists.
  /// - Throws: `busy`, `damaged`, `full`, `notDurable`, `schemaTooNew`, `unreadable`.
  package init(home: String, storageKey: borrowing SecretBytes) throws(ClientStoreError) {
    self.home = home
    box = StorageBox(storageKey: storageKey)
    searchKey = SearchKey(storageKey: storageKey)
    lock = try HomeLock(path: home + "/client.lock")
    let path = home + "/client.db"
    try makePrivateFile(path)
    var configuration = Configuration()
    configuration.journalMode = .wal
    configuration.busyMode = .timeout(Double(ClientStoreLimits.lockWaitMs) / 1_000)
    configuration.prepareDatabase { db in
      try db.execute(sql: "PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON")
    }
    do {
      queue = try Self.openQueue(path, configuration, lock)
    } catch { throw Self.mapped(error) }
  }

  private static func openQueue(
    _ path: String, _ configuration: Configuration, _ lock: HomeLock
  ) throws -> DatabaseQueue {
    try lock.acquire()
    defer { lock.release() }
    let queue = try DatabaseQueue(path: path, configuration: configuration)
    try queue.writeWithoutTransaction { db in
      // GRDB sets NORMAL for WAL files whatever was prepared, so this comes after opening and is checked.
      try db.execute(sql: "PRAGMA synchronous = FULL")
      guard try Int.fetchOne(db, sql: "PRAGMA synchronous") == 2,
        try String.fetchOne(db, sql: "PRAGMA journal_mode") == "wal"
      else { throw ClientStoreError.notDurable }
      guard try !Schema.migrator.hasBeenSuperseded(db) else { throw ClientStoreError.schemaTooNew }
    }
    try Schema.migrator.migrate(queue)
    return queue
  }

  /// Runs one immediate transaction and returns after its commit is durable.
  /// - Throws: what `body` throws, or `busy`, `full`, `failed`; nothing stays then.
  package func write<T>(_ body: (ClientTransaction) throws -> T) throws -> T {
    do {
      return try queue.writeWithoutTransaction { db in
        try lock.acquire()
        defer { lock.release() }
        var result: T?
        try db.inTransaction(.immediate) {
          result = try body(ClientTransaction(db, box, searchKey))
          return .commit
        }
        guard let result else { throw ClientStoreError.failed(code: genericFailure) }
        return result
      }
    } catch let error as DatabaseError { throw ClientStoreError(error) }
  }

  /// Reads from one snapshot.
  package func read<T>(_ body: (ClientSnapshot) throws -> T) throws -> T {
    do {
      return try queue.read { try body(ClientSnapshot($0, box, searchKey)) }
    } catch let error as DatabaseError { throw ClientStoreError(error) }
  }

  /// Moves the log into the database file and closes; erased bytes are in neither afterwards.
  package func close() throws(ClientStoreError) {
    // Best effort: another command may be reading, and what the log holds is durable there too.
    _ = try? queue.writeWithoutTransaction { try $0.checkpoint(.truncate) }
    do { try queue.close() } catch { throw Self.mapped(error) }
  }

  private static func mapped(_ error: any Error) -> ClientStoreError {
    switch error {
    case let error as ClientStoreError: error
    case let error as DatabaseError: ClientStoreError(error)
    default: .failed(code: genericFailure)
    }
  }
}

private let genericFailure = ResultCode.SQLITE_ERROR.rawValue

/// A consistent view; use it inside the closure that received it and nowhere else.
package class ClientSnapshot {
  let db: Database
  let box: StorageBox
  let searchKey: SearchKey

  init(_ db: Database, _ box: StorageBox, _ searchKey: SearchKey) {
    (self.db, self.box, self.searchKey) = (db, box, searchKey)
  }

  func place(_ table: StaticString, _ column: StaticString, _ row: [UInt8]) -> StoragePlace {
    StoragePlace(table: table, column: column, row: row, schemaVersion: Schema.sealingVersion)
  }

  func sealed(_ plain: [UInt8], at place: StoragePlace) -> [UInt8] { box.seal(plain, at: place) }

  func opened(_ sealed: [UInt8], at place: StoragePlace) throws -> [UInt8] {
    guard let plain = box.open(sealed, at: place) else { throw ClientStoreError.damaged }
    return plain
  }
}

/// The one running write transaction; it reads its own writes.
package final class ClientTransaction: ClientSnapshot {}

/// Makes the file before SQLite does, since SQLite would let others read it; log files inherit the mode.
private func makePrivateFile(_ path: String) throws(ClientStoreError) {
  let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw .unreadable(errno: errno) }
  Glibc.close(descriptor)
}
