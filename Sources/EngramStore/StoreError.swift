package import EngramCore
internal import GRDB

/// The tables whose rows carry a check sum or a decoded structure.
package enum StoreTable: String, Sendable {
  case audit, client, delivery, device, invite, link, mailbox, message, meta, notice, prekey, retain
  case subscription, template
  case lateWord = "late_word"
  case tokenUse = "token_use"
}

/// Why a verb failed. No case carries what was stored.
package enum StoreError: Error, Equatable, Sendable {
  /// Caller: a row with this key is there already, or one it refers to is not.
  case conflict
  /// Caller: the store was closed.
  case closed
  /// Caller: a number is above 2^63 - 1, which SQLite cannot order.
  case outOfRange
  /// Caller: the row that the verb changes does not exist.
  case missing(StoreTable)
  /// Operator: the disk is full. Nothing of the transaction stayed; reads go on.
  case full
  /// Operator: another process has this store open.
  case locked
  /// Operator: the file was written by a newer version of the software.
  case schemaTooNew
  /// Ours: the row does not match its check sum or does not decode; it is never handed out. `row` is a number
  /// of this store (a message's, or a sequence number), 0 where the key is not a number.
  case damaged(StoreTable, row: Int64)
  /// Ours: SQLite found the file itself damaged, or it is not a database.
  case corrupt(code: Int32)
  /// Ours: an fsync failed. What is on the disk is unknown: stop acknowledging and exit, never retry.
  case fsyncFailed
  /// Ours: commits would not survive a power cut as was asked for; the store refuses to open.
  case notDurable
  /// Ours: anything else, with SQLite's extended result code.
  case failed(code: Int32)

  /// The one mapping to what clients and peers are told.
  package var code: ErrorCode {
    switch self {
    case .full: .storageFull
    case .damaged: .damagedRow
    case .conflict, .closed, .outOfRange, .missing: .internalError
    case .locked, .schemaTooNew, .corrupt, .fsyncFailed, .notDurable, .failed: .storageFailed
    }
  }

  /// True when the transaction in which it happened cannot be trusted any more, not even after a rollback to
  /// a savepoint: SQLite may have rolled back the whole transaction by itself.
  var condemnsTransaction: Bool {
    switch self {
    case .full, .corrupt, .fsyncFailed, .failed: true
    default: false
    }
  }

  init(_ error: DatabaseError) { self.init(sqlite: error.extendedResultCode.rawValue) }

  /// - Parameter code: an extended result code, https://www.sqlite.org/rescode.html
  init(sqlite code: Int32) {
    switch ResultCode(rawValue: code) {
    // A write that finds no space is SQLITE_FULL; the shared memory file that cannot grow has its own code.
    case .SQLITE_FULL, .SQLITE_IOERR_SHMSIZE: self = .full
    case .SQLITE_IOERR_FSYNC, .SQLITE_IOERR_DIR_FSYNC: self = .fsyncFailed
    default:
      switch ResultCode(rawValue: code).primaryResultCode {
      case .SQLITE_CONSTRAINT: self = .conflict
      case .SQLITE_CORRUPT, .SQLITE_NOTADB: self = .corrupt(code: code)
      case .SQLITE_MISUSE: self = .closed
      default: self = .failed(code: code)
      }
    }
  }
}
