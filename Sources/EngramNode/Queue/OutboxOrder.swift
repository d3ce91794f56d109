package import EngramCore

// The order of an outbox is that of mailboxes: by `Ranking.rank`. Every priority is a lane of its own, and
// within a lane ranks ascend with the numbers, because both are given when a message is accepted. So a reader
// needs one number per lane to know what it has read, new rows always come behind these numbers, and the
// order of everything is that of the lanes' heads. The lane of NORMAL messages is the table itself; the
// others have an index, which costs NORMAL ones nothing.

/// How far the lanes of an outbox were read: everything up to these numbers.
package struct OutboxCursor: Equatable, Sendable {
  private var through: [UInt64]

  package static let start = OutboxCursor(through: 0)

  /// Everything up to one number, whatever its priority.
  package init(through seq: UInt64) {
    through = Array(repeating: seq, count: Priority.allCases.count)
  }

  package subscript(lane: Priority) -> UInt64 {
    get { through[Int(lane.rawValue) - 1] }
    set { through[Int(lane.rawValue) - 1] = newValue }
  }

  /// Every lane was read up to here.
  var least: UInt64 { through.min() ?? 0 }

  mutating func advance(_ lane: Priority, to seq: UInt64) { self[lane] = max(self[lane], seq) }

  /// As far as either has come.
  mutating func join(_ other: OutboxCursor) {
    for lane in Priority.allCases { advance(lane, to: other[lane]) }
  }
}

enum OutboxLimits {
  /// What is larger than this is given to a link only when its turn has come: a few of them would fill every
  /// window and keep small ones waiting. As much as one frame takes.
  static let readAheadBytesMax = Limits.frameBytesMax - 1_024
}

extension Ranking {
  /// What `rank` holds in an outbox: the lane's number; nil for that of NORMAL messages.
  static func lane(_ priority: Priority) -> UInt64? {
    priority == .normal ? nil : UInt64(Priority.critical.rawValue - priority.rawValue)
  }

  /// The lane that a row of an outbox is in.
  static func lane(rank: UInt64?) -> Priority? {
    guard let rank else { return .normal }
    guard rank < UInt64(Priority.critical.rawValue) else { return nil }
    let priority = Priority(rawValue: Priority.critical.rawValue - UInt8(rank))
    return priority == .normal ? nil : priority
  }
}

/// One row of a lane, ready to be compared with the heads of the others.
struct LaneRow<Content: Sendable>: Sendable {
  var key: ReadyKey
  var content: Content
}

/// Takes rows of all lanes in the order of work. Asks a lane for its next row only when the one before it was
/// taken.
/// - Parameters:
///   - next: the next row of a lane, ascending; nil when it has no more.
///   - take: false when no more are wanted; the row counts as not read then.
/// - Returns: how far each lane was read; lanes that have no more are at `end`.
func mergeLanes<Content: Sendable>(
  from cursor: OutboxCursor, end: UInt64, next: (Priority) throws -> LaneRow<Content>?,
  take: (LaneRow<Content>) throws -> Bool
) rethrows -> OutboxCursor {
  var cursor = cursor
  var heads: [(lane: Priority, row: LaneRow<Content>)] = []
  func fill(_ lane: Priority) throws {
    if let row = try next(lane) { heads.append((lane, row)) } else { cursor.advance(lane, to: end) }
  }
  for lane in Priority.allCases { try fill(lane) }
  while let index = heads.indices.min(by: { heads[$0].row.key < heads[$1].row.key }) {
    let (lane, row) = heads[index]
    guard try take(row) else { break }
    heads.remove(at: index)
    cursor.advance(lane, to: row.key.seq)
    try fill(lane)
  }
  return cursor
}
