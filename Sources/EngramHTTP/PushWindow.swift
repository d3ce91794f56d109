import EngramCore

/// Decides when a realtime connection reads its mailbox: there is work, there is credit, the socket takes
/// bytes, and no read is on its way.
struct PushWindow {
  struct Read: Equatable {
    let after: UInt64
    let maxCount: Int
  }

  /// Everything up to here was pushed on this connection.
  private(set) var cursor: UInt64 = 0
  /// Items that the client is ready to take. Certificates do not count.
  private(set) var credit: UInt32 = 0
  private var hasWork = true
  private var isReading = false
  private var isWritable = true

  mutating func grant(_ count: UInt32) {
    credit = min(credit + min(count, HTTPLimits.creditMax), HTTPLimits.creditMax)
  }
  mutating func noteWork() { hasWork = true }
  mutating func setWritable(_ value: Bool) { isWritable = value }

  /// The read to start now, if any.
  mutating func nextRead() -> Read? {
    guard hasWork, !isReading, isWritable, credit > 0 else { return nil }
    hasWork = false
    isReading = true
    return Read(after: cursor, maxCount: min(Int(credit), HTTPLimits.itemsPerReadMax))
  }

  /// A read found these items; a read that found some is followed by another, since a bound may have ended
  /// it.
  mutating func finishRead(_ items: [MailboxItem]) {
    isReading = false
    var count: UInt32 = 0
    for item in items where item.kind != .certificate {
      count += 1
      cursor = max(cursor, item.seq)
    }
    credit -= min(count, credit)
    if count > 0 { hasWork = true }
  }
}
