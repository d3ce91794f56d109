package import EngramCore
internal import GRDB

/// Why the client's own storage could not do something. None of these is the fault of a correspondent.
package enum ClientStoreError: Error, Equatable, Sendable {
  /// Another command held the lock of this home for longer than `ClientStoreLimits.lockWaitMs`.
  case busy
  /// A row or a sealed column does not hold what was written there.
  case damaged
  case failed(code: Int32)
  /// The disk is full.
  case full
  /// There is no account here yet.
  case notInitialised
  /// `synchronous` or the journal mode are not what durability needs.
  case notDurable
  /// Written by a newer version of this program.
  case schemaTooNew
  /// A file of the home cannot be read or written; `errno` of the call.
  case unreadable(errno: Int32)

  package var code: ErrorCode {
    switch self {
    case .full: .storageFull
    case .damaged: .damagedRow
    case .busy: .overloaded
    case .failed, .notInitialised, .notDurable, .schemaTooNew, .unreadable: .storageFailed
    }
  }

  init(_ error: DatabaseError) {
    switch error.resultCode {
    case .SQLITE_BUSY, .SQLITE_LOCKED: self = .busy
    case .SQLITE_CORRUPT, .SQLITE_NOTADB: self = .damaged
    case .SQLITE_FULL: self = .full
    default: self = .failed(code: error.extendedResultCode.rawValue)
    }
  }
}

/// Bounds of the client's storage, with their reasons.
package enum ClientStoreLimits {
  /// Longer than any transaction of a command takes, shorter than people wait before they ask what is wrong.
  package static let lockWaitMs = 10_000
  /// Sleep between two attempts to take the lock: short beside an fsync.
  static let lockPollMs = 5
  /// How long a message may have waited beyond the end of the prekey that it was sealed for, and so how long
  /// secrets of prekeys that have run out are kept.
  package static let acceptedTTLMs: UInt64 = 7 * 24 * 3_600 * 1_000
  /// A signed prekey is replaced after a day and may be sealed to for a week, so that a client which is
  /// offline for some days can still be written to.
  package static let prekeyRotationMs: UInt64 = 24 * 3_600 * 1_000
  package static let prekeyValidityMs: UInt64 = 7 * 24 * 3_600 * 1_000
  /// A device list is signed anew at this age. It may be valid for 30 days, so a client that shows itself
  /// every 20 days never runs out.
  package static let deviceListRenewalMs: UInt64 = 10 * 24 * 3_600 * 1_000
  /// A device that cannot sign the list anew warns when so much is left: half of what remains when its home
  /// should have done it.
  package static let deviceListWarningMs: UInt64 = 10 * 24 * 3_600 * 1_000
  /// How long a directory answer is used without asking again. With what the node adds for clients of others,
  /// a new device gets messages after twice that at the latest.
  package static let directoryFreshMs: UInt64 = 300_000
  /// Between two purges: what is forgotten an hour late harms nobody.
  package static let purgeIntervalMs: UInt64 = 3_600_000
  /// Bodies that wait for keys; more means that something is wrong and the caller should stop.
  package static let queuedMax = 10_000
  /// Topics whose last value is kept; as many as a node lets one client register.
  static let retainedMax = 1_000
  /// Messages that repeat: all of their plans are read every few seconds while they run.
  static let schedulesMax = 1_000
}
