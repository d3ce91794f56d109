internal import GRDB
internal import GRDBSQLite

/// The statements that run once or more per message. A transaction finds each by its number, so that GRDB's
/// cache, which hashes the whole text, is asked once per transaction and not once per row.
enum HotQuery: Int, CaseIterable {
  case findMessage, insertMessage, insertBody, messageInfo, countOff, wipeBody
  case insertDelivery, findDelivery, deleteDelivery, waiting, loadDelivery
  case insertNotice, deleteNotice, notices, findEnvelope

  var sql: String {
    switch self {
    case .findMessage: MessageSQL.find
    case .insertMessage: MessageSQL.insert
    case .insertBody: "INSERT INTO body (message, bytes) VALUES (?, ?)"
    case .messageInfo: MessageSQL.info
    case .countOff: "UPDATE message SET open = ? WHERE seq = ?"
    case .wipeBody: "DELETE FROM body WHERE message = ?"
    case .insertDelivery: DeliverySQL.insert
    case .findDelivery: DeliverySQL.find
    case .deleteDelivery: "DELETE FROM delivery WHERE mailbox = ? AND seq = ?"
    case .waiting: DeliverySQL.waiting
    case .loadDelivery: MessageSQL.load
    case .insertNotice:
      "INSERT INTO notice (mailbox, seq, written_ms, bytes, check_sum, kind) VALUES (?, ?, ?, ?, ?, ?)"
    case .findEnvelope: "SELECT envelope_id FROM message WHERE dedupe = ?"
    case .deleteNotice: "DELETE FROM notice WHERE mailbox = ? AND seq = ?"
    case .notices:
      "SELECT seq, bytes, check_sum, kind FROM notice WHERE mailbox = ? AND seq > ? ORDER BY seq"
    }
  }
}

/// A statement of the running transaction's connection. GRDB's cache may let go of it meanwhile, so it is
/// kept here as long as its pointer is used.
struct PreparedStatement {
  let owner: Statement
  let pointer: OpaquePointer

  init(_ owner: Statement) { (self.owner, pointer) = (owner, owner.sqliteStatement) }
}

/// Every statement of the store goes through here: prepared once per connection by GRDB, run on SQLite
/// directly (GRDB's rows build a dictionary of column names per query), errors mapped once.
extension StoreSnapshot {
  /// Runs a statement for its effect.
  /// - Returns: the number of rows it changed.
  @discardableResult
  func execute(_ sql: String, _ arguments: [Argument] = []) throws(StoreError) -> Int {
    try each(sql, arguments, .meta) { _ in true }
    return changedRows
  }

  /// The same for a statement of the hot path.
  @discardableResult
  func execute(
    _ query: HotQuery, bind: (inout Binding) throws(StoreError) -> Void
  ) throws(StoreError) -> Int {
    try each(query, .meta, bind: bind) { _ in true }
    return changedRows
  }

  private var changedRows: Int { Int(sqlite3_changes(db.sqliteConnection)) }

  /// The number that the last INSERT of this connection gave its row.
  var lastInsertedRow: Int64 { sqlite3_last_insert_rowid(db.sqliteConnection) }

  /// Calls `body` per row until it returns false.
  func each(
    _ sql: String, _ arguments: [Argument], _ table: StoreTable, key: Int32? = nil,
    _ body: (Fields) throws -> Bool
  ) throws(StoreError) {
    // After an error that may have rolled back the transaction, a statement would commit on its own.
    if let condemned { throw condemned }
    try run(try prepare(sql), table, key) { (binding) throws(StoreError) in
      for argument in arguments { argument.bind(to: &binding) }
    } body: {
      try body($0)
    }
  }

  /// The same for a statement of the hot path.
  func each(
    _ query: HotQuery, _ table: StoreTable, key: Int32? = nil,
    bind: (inout Binding) throws(StoreError) -> Void, _ body: (Fields) throws -> Bool
  ) throws(StoreError) {
    if let condemned { throw condemned }
    if prepared[query.rawValue] == nil { prepared[query.rawValue] = try prepare(query.sql) }
    guard let statement = prepared[query.rawValue] else { preconditionFailure("set above") }
    try run(statement, table, key, bind: bind, body: body)
  }

  private func run(
    _ prepared: PreparedStatement, _ table: StoreTable, _ key: Int32?,
    bind: (inout Binding) throws(StoreError) -> Void, body: (Fields) throws -> Bool
  ) throws(StoreError) {
    let statement = prepared.pointer
    defer {
      sqlite3_reset(statement)
      // What was lent for the run must not be looked at again.
      sqlite3_clear_bindings(statement)
      withExtendedLifetime(prepared.owner) {}
    }
    var binding = Binding(statement)
    try bind(&binding)
    try require(binding.code, SQLITE_OK)
    while true {
      let code = sqlite3_step(statement)
      if code == SQLITE_DONE { return }
      try require(code, SQLITE_ROW)
      do {
        guard try body(Fields(statement: statement, table: table, key: key)) else { return }
      } catch { throw noted(StoreError(any: error)) }
    }
  }

  /// All rows, decoded. Statements with RETURNING run to their end this way.
  func all<T>(
    _ sql: String, _ arguments: [Argument] = [], _ table: StoreTable, key: Int32? = nil,
    _ decode: (Fields) throws -> T
  ) throws(StoreError) -> [T] {
    var out: [T] = []
    try each(sql, arguments, table, key: key) { fields in
      out.append(try decode(fields))
      return true
    }
    return out
  }

  /// The only row, decoded, or nil.
  func first<T>(
    _ sql: String, _ arguments: [Argument] = [], _ table: StoreTable, key: Int32? = nil,
    _ decode: (Fields) throws -> T
  ) throws(StoreError) -> T? {
    var out: T?
    try each(sql, arguments, table, key: key) { fields in
      out = try decode(fields)
      return true
    }
    return out
  }

  /// The same for a statement of the hot path.
  func first<T>(
    _ query: HotQuery, _ table: StoreTable, key: Int32? = nil,
    bind: (inout Binding) throws(StoreError) -> Void, _ decode: (Fields) throws -> T
  ) throws(StoreError) -> T? {
    var out: T?
    try each(query, table, key: key, bind: bind) { fields in
      out = try decode(fields)
      return true
    }
    return out
  }

  private func prepare(_ sql: String) throws(StoreError) -> PreparedStatement {
    do {
      return PreparedStatement(try db.cachedStatement(sql: sql))
    } catch {
      throw noted(StoreError(any: error))
    }
  }

  private func require(_ code: Int32, _ expected: Int32) throws(StoreError) {
    guard code != expected else { return }
    throw noted(StoreError(sqlite: sqlite3_extended_errcode(db.sqliteConnection)))
  }

  /// Remembers the first error that dooms the transaction: it tells why, later ones only that it is dead.
  private func noted(_ error: StoreError) -> StoreError {
    if error.condemnsTransaction { condemned = error }
    return error
  }
}

extension StoreError {
  /// What a closure of ours or of GRDB threw.
  init(any error: any Error) {
    switch error {
    case let error as StoreError: self = error
    case let error as DatabaseError: self.init(error)
    default: self = .failed(code: SQLITE_ERROR)
    }
  }
}
