internal import EngramCore
internal import Foundation
internal import GRDB

/// One bound value. Byte strings are blobs, never text.
struct Argument {
  let value: DatabaseValue

  static func bytes(_ bytes: [UInt8]) -> Self { Self(value: Data(bytes).databaseValue) }
  static func text(_ text: String) -> Self { Self(value: text.databaseValue) }
  static func integer(_ value: Int64) -> Self { Self(value: value.databaseValue) }
  static func integer(_ value: Int) -> Self { Self(value: value.databaseValue) }
  static func integer(_ value: Int64?) -> Self { Self(value: value.databaseValue) }
  static func flag(_ value: Bool) -> Self { Self(value: Int64(value ? 1 : 0).databaseValue) }

  /// All 64 bits, as two's complement: for numbers that SQL never compares, such as epochs.
  static func bits(_ value: UInt64) -> Self { integer(Int64(bitPattern: value)) }

  /// A number that SQL orders: sequence numbers and times.
  static func ordered(_ value: UInt64) throws(StoreError) -> Self {
    guard let value = Int64(exactly: value) else { throw .outOfRange }
    return integer(value)
  }

  /// A bound in a comparison, where everything above 2^63 - 1 means "no bound".
  static func bound(_ value: UInt64) -> Self { integer(Int64(clamping: value)) }
}

/// The columns of one result row. Types are not trusted: a flipped bit in a record's header changes them, so
/// a value of another type or length is `damaged`, not a trap.
struct Fields {
  let row: Row
  let table: StoreTable
  /// Which of the columns numbers the row for people; nil where the key is not a number.
  let key: Int?

  var damaged: StoreError { .damaged(table, row: key.flatMap { row[$0] as Int64? } ?? 0) }

  func integer(_ index: Int) throws(StoreError) -> Int64 {
    guard let value = row[index] as Int64? else { throw damaged }
    return value
  }

  func optionalInteger(_ index: Int) -> Int64? { row[index] as Int64? }

  func count(_ index: Int) throws(StoreError) -> Int { Int(try integer(index)) }

  func bits(_ index: Int) throws(StoreError) -> UInt64 { UInt64(bitPattern: try integer(index)) }

  func ordered(_ index: Int) throws(StoreError) -> UInt64 {
    guard let value = UInt64(exactly: try integer(index)) else { throw damaged }
    return value
  }

  func text(_ index: Int) throws(StoreError) -> String {
    guard let value = row[index] as String? else { throw damaged }
    return value
  }

  func bytes(_ index: Int) throws(StoreError) -> [UInt8] {
    guard let value = row[index] as Data? else { throw damaged }
    return [UInt8](value)
  }

  func identifier<Tag>(_ index: Int, as type: Identifier16<Tag>.Type) throws(StoreError) -> Identifier16<Tag>
  {
    guard let value = Identifier16<Tag>(row[index] as Data? ?? Data()) else { throw damaged }
    return value
  }

  func identifier<Tag>(_ index: Int, as type: Identifier32<Tag>.Type) throws(StoreError) -> Identifier32<Tag>
  {
    guard let value = Identifier32<Tag>(row[index] as Data? ?? Data()) else { throw damaged }
    return value
  }

  func address(_ index: Int) throws(StoreError) -> Address {
    let text = try text(index)
    do throws(CodecError) { return try Address(text) } catch { throw damaged }
  }
}

/// Every statement of the store goes through here: prepared once per connection, errors mapped once.
extension StoreSnapshot {
  /// Runs a statement for its effect.
  /// - Returns: the number of rows it changed.
  @discardableResult
  func execute(_ sql: String, _ arguments: [Argument] = []) throws(StoreError) -> Int {
    try mapped {
      try db.cachedStatement(sql: sql).execute(arguments: StatementArguments(arguments.map(\.value)))
      return db.changesCount
    }
  }

  /// The number that the last INSERT of this connection gave its row.
  var lastInsertedRow: Int64 { db.lastInsertedRowID }

  /// Calls `body` per row until it returns false.
  func each(
    _ sql: String, _ arguments: [Argument], _ table: StoreTable, key: Int? = nil,
    _ body: (Fields) throws -> Bool
  ) throws(StoreError) {
    try mapped {
      let rows = try Row.fetchCursor(
        db.cachedStatement(sql: sql), arguments: StatementArguments(arguments.map(\.value)))
      while let row = try rows.next() {
        if try !body(Fields(row: row, table: table, key: key)) { return }
      }
    }
  }

  /// All rows, decoded. Statements with RETURNING run to their end this way.
  func all<T>(
    _ sql: String, _ arguments: [Argument] = [], _ table: StoreTable, key: Int? = nil,
    _ decode: (Fields) throws -> T
  ) throws(StoreError) -> [T] {
    var out: [T] = []
    try each(sql, arguments, table, key: key) {
      out.append(try decode($0))
      return true
    }
    return out
  }

  /// The only row, decoded, or nil.
  func first<T>(
    _ sql: String, _ arguments: [Argument] = [], _ table: StoreTable, key: Int? = nil,
    _ decode: (Fields) throws -> T
  ) throws(StoreError) -> T? {
    try all(sql, arguments, table, key: key, decode).first
  }

  private func mapped<T>(_ body: () throws -> T) throws(StoreError) -> T {
    do {
      return try body()
    } catch {
      let failure = StoreError(any: error)
      // The first one tells why; what follows in a dead transaction only says that it is dead.
      if failure.condemnsTransaction, condemned == nil { condemned = failure }
      throw condemned ?? failure
    }
  }
}

extension StoreError {
  /// What a closure of ours or of GRDB threw.
  init(any error: any Error) {
    switch error {
    case let error as StoreError: self = error
    case let error as DatabaseError: self.init(error)
    default: self = .failed(code: ResultCode.SQLITE_ERROR.rawValue)
    }
  }
}
