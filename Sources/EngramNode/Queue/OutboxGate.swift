internal import EngramCore
internal import EngramStore
import Synchronization

/// Which rows of an outbox a link may already have sent. What has not been read for a link since the node
/// started, and was not there when it started, certainly never left: only that can be cancelled here. The
/// rest is for the recipient's node, which gets the cancellation behind the message.
final class OutboxGate: Sendable {
  /// Withdrawn numbers kept per outbox, about 3 MiB; a cancellation beyond them is left to the recipient's
  /// node. They are kept because a link may hold an older snapshot and may read from further back again.
  private static let withdrawnMax = 100_000

  private struct Outbox {
    var read: OutboxCursor
    var withdrawn: Set<UInt64> = []
  }
  private let outboxes = Mutex<[Int64: Outbox]>([:])

  /// - Parameter highest: the last number that was taken in the outbox before it was first read.
  func open(_ mailbox: Int64, highest: UInt64) {
    outboxes.withLock { $0[mailbox] = $0[mailbox] ?? Outbox(read: OutboxCursor(through: highest)) }
  }

  /// A link was given rows up to these numbers.
  /// - Returns: numbers among them that were withdrawn meanwhile and must not be sent.
  func read(_ mailbox: Int64, through cursor: OutboxCursor) -> Set<UInt64> {
    outboxes.withLock { outboxes in
      guard var outbox = outboxes[mailbox] else { return [] }
      let withdrawn = outbox.withdrawn
      outbox.read.join(cursor)
      outboxes[mailbox] = outbox
      return withdrawn
    }
  }

  /// Keeps a row from being sent, for its end is on its way to the disk.
  /// - Returns: false when it may have been sent.
  func withdraw(_ place: DeliveryPlace) -> Bool {
    let (mailbox, seq) = (place.mailbox, place.seq)
    return outboxes.withLock { outboxes in
      guard var outbox = outboxes[mailbox], let lane = Ranking.lane(rank: place.rank),
        seq > outbox.read[lane],
        outbox.withdrawn.count < Self.withdrawnMax
      else { return false }
      outbox.withdrawn.insert(seq)
      outboxes[mailbox] = outbox
      return true
    }
  }

  /// The commit failed: the row may be sent.
  func restore(_ mailbox: Int64, seq: UInt64) {
    outboxes.withLock { _ = $0[mailbox]?.withdrawn.remove(seq) }
  }
}
