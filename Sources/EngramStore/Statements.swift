internal import EngramCore
internal import GRDB
internal import GRDBSQLite

/// One bound value. Byte strings are blobs, never text.
enum Argument {
  case bytes([UInt8])
  case integer(Int64)
  case null
  case text(String)

  static func integer(_ value: Int) -> Self { .integer(Int64(value)) }
  static func integer(_ value: Int64?) -> Self { value.map { .integer($0) } ?? .null }
  static func flag(_ value: Bool) -> Self { .integer(Int64(value ? 1 : 0)) }

  /// All 64 bits, as two's complement: for numbers that SQL never compares, such as epochs.
  static func bits(_ value: UInt64) -> Self { .integer(Int64(bitPattern: value)) }

  /// A number that SQL orders: sequence numbers and times.
  static func ordered(_ value: UInt64) throws(StoreError) -> Self {
    guard let value = Int64(exactly: value) else { throw .outOfRange }
    return .integer(value)
  }

  /// A bound in a comparison, where everything above 2^63 - 1 means "no bound".
  static func bound(_ value: UInt64) -> Self { .integer(Int64(clamping: value)) }

  /// - Returns: SQLite's result code.
  func bind(to statement: OpaquePointer, at index: Int32) -> Int32 {
    switch self {
    case .bytes(let bytes):
      bytes.withUnsafeBytes {
        // No pointer would bind NULL; an empty blob is a value.
        $0.isEmpty
          ? sqlite3_bind_zeroblob(statement, index, 0)
          : sqlite3_bind_blob64(statement, index, $0.baseAddress, UInt64($0.count), copied)
      }
    case .integer(let value): sqlite3_bind_int64(statement, index, value)
    case .null: sqlite3_bind_null(statement, index)
    case .text(let text): sqlite3_bind_text(statement, index, text, -1, copied)
    }
  }
}

/// SQLITE_TRANSIENT, a macro that Swift does not see: SQLite takes a copy, so no pointer outlives its array.
private let copied = unsafeBitCast(-1, to: sqlite3_destructor_type.self)

/// The columns of one result row. Types are not trusted: a flipped bit in a record's header changes them, so
/// a value of another type or length is `damaged`, not a trap.
struct Fields {
  let statement: OpaquePointer
  let table: StoreTable
  /// Which of the columns numbers the row for people; nil where the key is not a number.
  let key: Int32?

  var damaged: StoreError { .damaged(table, row: key.map { sqlite3_column_int64(statement, $0) } ?? 0) }

  func integer(_ index: Int32) throws(StoreError) -> Int64 {
    guard sqlite3_column_type(statement, index) == SQLITE_INTEGER else { throw damaged }
    return sqlite3_column_int64(statement, index)
  }

  func optionalInteger(_ index: Int32) throws(StoreError) -> Int64? {
    sqlite3_column_type(statement, index) == SQLITE_NULL ? nil : try integer(index)
  }

  func count(_ index: Int32) throws(StoreError) -> Int { Int(try integer(index)) }

  func bits(_ index: Int32) throws(StoreError) -> UInt64 { UInt64(bitPattern: try integer(index)) }

  func ordered(_ index: Int32) throws(StoreError) -> UInt64 {
    guard let value = UInt64(exactly: try integer(index)) else { throw damaged }
    return value
  }

  func text(_ index: Int32) throws(StoreError) -> String {
    guard sqlite3_column_type(statement, index) == SQLITE_TEXT,
      let start = sqlite3_column_text(statement, index)
    else { throw damaged }
    let utf8 = UnsafeBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, index)))
    guard let text = String(validating: utf8, as: UTF8.self) else { throw damaged }
    return text
  }

  func bytes(_ index: Int32) throws(StoreError) -> [UInt8] {
    guard sqlite3_column_type(statement, index) == SQLITE_BLOB else { throw damaged }
    // An empty blob has no address.
    let start = sqlite3_column_blob(statement, index)
    return Array(UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, index))))
  }

  func identifier<Tag>(_ index: Int32, as: Identifier16<Tag>.Type) throws(StoreError) -> Identifier16<Tag> {
    guard let value = Identifier16<Tag>(try bytes(index)) else { throw damaged }
    return value
  }

  func identifier<Tag>(_ index: Int32, as: Identifier32<Tag>.Type) throws(StoreError) -> Identifier32<Tag> {
    guard let value = Identifier32<Tag>(try bytes(index)) else { throw damaged }
    return value
  }

  func address(_ index: Int32) throws(StoreError) -> Address {
    let text = try text(index)
    do throws(CodecError) { return try Address(text) } catch { throw damaged }
  }
}

/// Every statement of the store goes through here: prepared once per connection by GRDB, run on SQLite
/// directly (GRDB's rows build a dictionary of column names per query), errors mapped once.
extension StoreSnapshot {
  /// Runs a statement for its effect.
  /// - Returns: the number of rows it changed.
  @discardableResult
  func execute(_ sql: String, _ arguments: [Argument] = []) throws(StoreError) -> Int {
    try each(sql, arguments, .meta) { _ in true }
    return db.changesCount
  }

  /// The number that the last INSERT of this connection gave its row.
  var lastInsertedRow: Int64 { db.lastInsertedRowID }

  /// Calls `body` per row until it returns false.
  func each(
    _ sql: String, _ arguments: [Argument], _ table: StoreTable, key: Int32? = nil,
    _ body: (Fields) throws -> Bool
  ) throws(StoreError) {
    // After an error that may have rolled back the transaction, a statement would commit on its own.
    if let condemned { throw condemned }
    let prepared = try prepare(sql)
    let statement = prepared.sqliteStatement
    defer {
      // GRDB's cache may have let go of it meanwhile; `prepared` keeps it until here.
      sqlite3_reset(prepared.sqliteStatement)
      sqlite3_clear_bindings(prepared.sqliteStatement)
    }
    for (index, argument) in arguments.enumerated() {
      try require(argument.bind(to: statement, at: Int32(index + 1)), SQLITE_OK)
    }
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

  private func prepare(_ sql: String) throws(StoreError) -> Statement {
    do {
      return try db.cachedStatement(sql: sql)
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
