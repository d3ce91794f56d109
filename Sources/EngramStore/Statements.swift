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

  func bind(to binding: inout Binding) {
    switch self {
    case .bytes(let bytes): binding.bytes(bytes)
    case .integer(let value): binding.integer(value)
    case .null: binding.null()
    case .text(let text): binding.text(text)
    }
  }
}

/// Binds the values of one statement in order, without an array or an enumeration in between: what the
/// statements of every message use. Remembers the first failure.
struct Binding {
  private let statement: OpaquePointer
  private var index: Int32 = 0
  /// SQLite's result code.
  private(set) var code = SQLITE_OK

  init(_ statement: OpaquePointer) { self.statement = statement }

  mutating func integer(_ value: Int64) { note(sqlite3_bind_int64(statement, next(), value)) }
  mutating func integer(_ value: Int) { integer(Int64(value)) }
  mutating func null() { note(sqlite3_bind_null(statement, next())) }

  /// As `Argument.bits`, `Argument.ordered` and `Argument.bound`.
  mutating func bits(_ value: UInt64) { integer(Int64(bitPattern: value)) }
  mutating func bound(_ value: UInt64) { integer(Int64(clamping: value)) }
  mutating func ordered(_ value: UInt64) throws(StoreError) {
    guard let value = Int64(exactly: value) else { throw .outOfRange }
    integer(value)
  }

  mutating func text(_ value: String) {
    var value = value
    let index = next()
    note(
      value.withUTF8 { utf8 in
        utf8.withMemoryRebound(to: CChar.self) {
          // No pointer would bind NULL; an empty text is a value.
          sqlite3_bind_text(statement, index, $0.baseAddress ?? emptyText, Int32($0.count), copied)
        }
      })
  }

  mutating func bytes(_ value: [UInt8]) { value.withUnsafeBytes { blob($0, copied) } }
  mutating func identifier<Tag>(_ value: Identifier16<Tag>) {
    let index = next()
    note(value.withBytes { bindBlob(statement, index, $0, copied) })
  }
  mutating func identifier<Tag>(_ value: Identifier32<Tag>) {
    let index = next()
    note(value.withBytes { bindBlob(statement, index, $0, copied) })
  }

  /// SQLite reads the bytes where they are, so they have to stay there until the statement has run.
  mutating func lent(_ value: UnsafeRawBufferPointer) { blob(value, nil) }

  private mutating func blob(_ value: UnsafeRawBufferPointer, _ destructor: sqlite3_destructor_type?) {
    note(bindBlob(statement, next(), value, destructor))
  }

  private mutating func next() -> Int32 {
    index += 1
    return index
  }

  private mutating func note(_ result: Int32) {
    if code == SQLITE_OK { code = result }
  }
}

private func bindBlob(
  _ statement: OpaquePointer, _ index: Int32, _ bytes: UnsafeRawBufferPointer,
  _ destructor: sqlite3_destructor_type?
) -> Int32 {
  // No pointer would bind NULL; an empty blob is a value.
  bytes.isEmpty
    ? sqlite3_bind_zeroblob(statement, index, 0)
    : sqlite3_bind_blob64(statement, index, bytes.baseAddress, UInt64(bytes.count), destructor)
}

private nonisolated(unsafe) let emptyText = UnsafePointer(UnsafeMutablePointer<CChar>.allocate(capacity: 1))

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

  func isNull(_ index: Int32) -> Bool { sqlite3_column_type(statement, index) == SQLITE_NULL }

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

  func bytes(_ index: Int32) throws(StoreError) -> [UInt8] { Array(try lentBytes(index)) }

  /// SQLite's own copy, there until the statement goes on.
  func lentBytes(_ index: Int32) throws(StoreError) -> UnsafeRawBufferPointer {
    guard sqlite3_column_type(statement, index) == SQLITE_BLOB else { throw damaged }
    // An empty blob has no address.
    let start = sqlite3_column_blob(statement, index)
    return UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, index)))
  }

  func identifier<Tag>(_ index: Int32, as: Identifier16<Tag>.Type) throws(StoreError) -> Identifier16<Tag> {
    guard let value = Identifier16<Tag>(try lentBytes(index)) else { throw damaged }
    return value
  }

  func identifier<Tag>(_ index: Int32, as: Identifier32<Tag>.Type) throws(StoreError) -> Identifier32<Tag> {
    guard let value = Identifier32<Tag>(try lentBytes(index)) else { throw damaged }
    return value
  }

  func address(_ index: Int32) throws(StoreError) -> Address {
    let text = try text(index)
    do throws(CodecError) { return try Address(text) } catch { throw damaged }
  }
}
