internal import EngramCore
internal import Foundation
internal import GRDB

/// One bound value. Byte strings are blobs, never text.
struct Argument {
  let value: DatabaseValue

  static func bytes(_ bytes: [UInt8]) -> Self { Self(value: Data(bytes).databaseValue) }
  static func bytes(_ bytes: [UInt8]?) -> Self { bytes.map { Self.bytes($0) } ?? null }
  static func text(_ text: String) -> Self { Self(value: text.databaseValue) }
  static func flag(_ value: Bool) -> Self { Self(value: Int64(value ? 1 : 0).databaseValue) }
  static func code(_ code: ErrorCode) -> Self { Self(value: Int64(code.rawValue).databaseValue) }

  /// Times and sequence numbers: what goes past 2^63 - 1 is as good as that.
  static func number(_ value: some BinaryInteger) -> Self {
    Self(value: Int64(clamping: value).databaseValue)
  }
  static func number(_ value: UInt64?) -> Self { value.map { Self.number($0) } ?? null }

  static var null: Self { Self(value: .null) }
}

/// The columns of one result row. A column of another type or length is `damaged`, not a trap.
struct Columns {
  let row: Row

  func number(_ index: Int) throws -> UInt64 {
    guard let value = row[index] as Int64?, let number = UInt64(exactly: value) else {
      throw ClientStoreError.damaged
    }
    return number
  }

  func optionalNumber(_ index: Int) throws -> UInt64? {
    row.hasNull(atIndex: index) ? nil : try number(index)
  }
  func count(_ index: Int) throws -> Int { Int(try number(index)) }
  func flag(_ index: Int) throws -> Bool { try number(index) != 0 }

  func text(_ index: Int) throws -> String {
    guard let value = row[index] as String? else { throw ClientStoreError.damaged }
    return value
  }

  func optionalText(_ index: Int) throws -> String? { row.hasNull(atIndex: index) ? nil : try text(index) }

  func bytes(_ index: Int) throws -> [UInt8] {
    guard let value = row[index] as Data? else { throw ClientStoreError.damaged }
    return [UInt8](value)
  }

  func optionalBytes(_ index: Int) throws -> [UInt8]? { row.hasNull(atIndex: index) ? nil : try bytes(index) }

  func id16<Tag>(_ index: Int) throws -> Identifier16<Tag> {
    guard let value = Identifier16<Tag>(try bytes(index)) else { throw ClientStoreError.damaged }
    return value
  }

  func id32<Tag>(_ index: Int) throws -> Identifier32<Tag> {
    guard let value = Identifier32<Tag>(try bytes(index)) else { throw ClientStoreError.damaged }
    return value
  }

  func optionalID32<Tag>(_ index: Int) throws -> Identifier32<Tag>? {
    row.hasNull(atIndex: index) ? nil : try id32(index)
  }

  func address(_ index: Int) throws -> Address {
    guard let value = try? Address(try text(index)) else { throw ClientStoreError.damaged }
    return value
  }

  func code(_ index: Int) throws -> ErrorCode {
    guard let value = ErrorCode(rawValue: UInt16(clamping: try number(index))) else {
      throw ClientStoreError.damaged
    }
    return value
  }

  func value<T: RawRepresentable>(_ index: Int, _: T.Type = T.self) throws -> T where T.RawValue == UInt8 {
    guard let value = T(rawValue: UInt8(clamping: try number(index))) else { throw ClientStoreError.damaged }
    return value
  }
}

/// Every statement of the client's store goes through here, prepared once per connection.
extension ClientSnapshot {
  @discardableResult
  func execute(_ sql: String, _ arguments: [Argument] = []) throws -> Int {
    try db.cachedStatement(sql: sql).execute(arguments: StatementArguments(arguments.map(\.value)))
    return db.changesCount
  }

  func all<T>(_ sql: String, _ arguments: [Argument] = [], _ decode: (Columns) throws -> T) throws -> [T] {
    let rows = try Row.fetchCursor(
      db.cachedStatement(sql: sql), arguments: StatementArguments(arguments.map(\.value)))
    var out: [T] = []
    while let row = try rows.next() { out.append(try decode(Columns(row: row))) }
    return out
  }

  func first<T>(_ sql: String, _ arguments: [Argument] = [], _ decode: (Columns) throws -> T) throws -> T? {
    try all(sql, arguments, decode).first
  }
}
