/// Rows that were read and not sent yet, in the order of work. What is more urgent may be read later: it goes
/// in front of what is still here.
struct RankedRows: Sendable {
  private var rows: [OutboundRow] = []
  private var head = 0
  private(set) var byteCount = 0

  var count: Int { rows.count - head }
  var isEmpty: Bool { head == rows.count }
  var first: OutboundRow? { isEmpty ? nil : rows[head] }

  mutating func insert(_ row: OutboundRow) {
    byteCount += row.byteCount
    // As a rule it belongs at the end.
    var position = rows.count
    while position > head, Self.goes(row, before: rows[position - 1]) { position -= 1 }
    rows.insert(row, at: position)
  }

  mutating func popFirst() -> OutboundRow? {
    guard !isEmpty else { return nil }
    let row = rows[head]
    rows[head].bytes = nil
    head += 1
    byteCount -= row.byteCount
    if head == rows.count || (head > 256 && head * 2 > rows.count) {
      rows.removeFirst(head)
      head = 0
    }
    return row
  }

  private static func goes(_ a: OutboundRow, before b: OutboundRow) -> Bool {
    (a.rank, a.seq) < (b.rank, b.seq)
  }
}
