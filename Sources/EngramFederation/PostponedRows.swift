import EngramCore

/// Rows that the peer answered with "later". Each waits before it is queued again, longer every time its
/// sender is put off, and alone: what others send passes meanwhile. The rows stay in the store under their
/// numbers, so a link that ends forgets nothing.
struct PostponedRows: Sendable {
  /// Short at first, because most reasons are: a full queue, a certificate on its way.
  private static let firstMs: UInt64 = 100
  /// Every try costs both nodes a commit; a disk that was full is noticed this soon.
  private static let lastMs: UInt64 = 15_000
  /// Senders whose waits are remembered; past it all start small again.
  private static let sendersMax = 4_096

  private var waits: [Kid: UInt64] = [:]
  private var rows: [(dueMs: UInt64, item: AckFrame.Item)] = []

  var count: Int { rows.count }

  mutating func add(_ later: [(item: AckFrame.Item, sender: Kid)], nowMs: UInt64) {
    if waits.count >= Self.sendersMax { waits = [:] }
    for sender in Set(later.map(\.sender)) {
      waits[sender] = waits[sender].map { min($0 * 2, Self.lastMs) } ?? Self.firstMs
    }
    rows += later.map { (nowMs + (waits[$0.sender] ?? Self.firstMs), $0.item) }
  }

  /// The peer took something of this sender, or refused it for good.
  mutating func answered(_ sender: Kid) {
    if !waits.isEmpty { waits[sender] = nil }
  }

  mutating func takeDue(nowMs: UInt64) -> [AckFrame.Item] {
    guard rows.contains(where: { $0.dueMs <= nowMs }) else { return [] }
    defer { rows.removeAll { $0.dueMs <= nowMs } }
    return rows.filter { $0.dueMs <= nowMs }.map(\.item).sorted { $0.seq < $1.seq }
  }
}
