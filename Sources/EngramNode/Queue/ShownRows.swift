import Synchronization

/// How far each mailbox has been read without a lease since the node started. What a device has read it may
/// have acted upon, so nobody's word ends it any more but its own, or time's.
///
/// A number for each mailbox, because readers go upwards. A row below it that was held meanwhile and became
/// ready counts as read although it was not: it is then not called back, which is the safe side.
final class ShownRows: Sendable {
  private let through = Mutex<[Int64: UInt64]>([:])

  func add(_ mailbox: Int64, through seq: UInt64) {
    through.withLock { $0[mailbox] = max($0[mailbox] ?? 0, seq) }
  }

  /// - Parameter isReady: false while the row is held; nobody is shown such a row.
  func contains(_ mailbox: Int64, seq: UInt64, isReady: Bool) -> Bool {
    isReady && through.withLock { seq <= $0[mailbox] ?? 0 }
  }
}
