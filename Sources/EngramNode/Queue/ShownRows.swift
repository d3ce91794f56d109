internal import EngramStore
import Synchronization

/// How far each mailbox has been read without a lease since the node started. What a device has read it may
/// have acted upon, so nobody's word ends it any more but its own, or time's.
///
/// What was stated as delivered is marked in the store as well, and stays so when the node starts anew; this
/// is for the moments before.
///
/// A number for each mailbox, because readers go upwards. A row below it that was held meanwhile and became
/// ready counts as read although it was not: it is then not called back, which is the safe side.
final class ShownRows: Sendable {
  private let through = Mutex<[Int64: UInt64]>([:])

  func add(_ mailbox: Int64, through seq: UInt64) {
    through.withLock { $0[mailbox] = max($0[mailbox] ?? 0, seq) }
  }

  /// Nobody is shown a row that is held.
  func contains(_ place: DeliveryPlace) -> Bool {
    place.isShown || place.rank != nil && through.withLock { place.seq <= $0[place.mailbox] ?? 0 }
  }
}
