internal import EngramCore
import Synchronization

/// A message as the commit thread had it in hand when it stored it.
struct FreshEnvelope: Sendable {
  let envelope: UnverifiedEnvelope
  /// In an outbox; elsewhere nobody asks.
  let lane: Priority
  let acceptedMs: UInt64

  init(_ envelope: UnverifiedEnvelope, lane: Priority, acceptedMs: UInt64) {
    (self.envelope, self.lane, self.acceptedMs) = (envelope, lane, acceptedMs)
  }

  var header: EnvelopeHeader { envelope.header }
}

/// A row as the commit thread had it in hand when it wrote it.
enum FreshRow: Sendable {
  case envelope(FreshEnvelope)
  /// A row of receipts: `lp(receipt)…`
  case notice([UInt8])

  fileprivate var byteCount: Int {
    switch self {
    case .envelope(let fresh): fresh.envelope.bytes.count
    case .notice(let bytes): bytes.count
    }
  }

  fileprivate var lane: Priority {
    if case .envelope(let fresh) = self { fresh.lane } else { .normal }
  }
}

/// Rows that were just committed, for readers that follow a mailbox: reading them back from the store would
/// cost a thread hop, a query and two check sums each. A shortcut and nothing else: every row here is on
/// disk, and whatever is missing here is read from there.
///
/// Each followed mailbox has one line of rows without holes. It starts with some commit, ends with the newest
/// one, and loses its head as the reader moves on. A line that is full, or that a row joined unseen, takes no
/// more; the reader finishes it, goes on in the store, and the next commit starts a new line.
final class FreshRows: Sendable {
  /// Per mailbox: twice what a link has on its way, so that a reader which waits for its window finds the
  /// next rows here.
  static let lineBytesMax = 16 << 20
  /// Over all mailboxes, for nodes with many peers.
  static let bytesMax = 64 << 20
  /// What a row costs beside its bytes: the parsed header and the array's own head.
  static let rowBytes = 768

  fileprivate struct Line {
    /// Every row above `after` and up to `through` that was not settled meanwhile is here.
    var after: UInt64
    var through: UInt64
    var rows: [(seq: UInt64, row: FreshRow)] = []
    var head = 0
    var byteCount = 0
    /// How many of the rows are in each lane, so that nobody looks for what is not there.
    var laneCounts = [Int](repeating: 0, count: Priority.allCases.count)
    var isClosed = false
  }

  fileprivate struct State {
    var followers: [Int64: Int] = [:]
    var lines: [Int64: Line] = [:]
    var byteCount = 0
  }
  private let state = Mutex(State())

  /// Keeps rows of the mailbox from the next commit on, until the last such watch is cancelled.
  func follow(_ mailbox: Int64) -> Watch {
    state.withLock { $0.followers[mailbox, default: 0] += 1 }
    return Watch { [weak self] in
      self?.state.withLock { state in
        let left = (state.followers[mailbox] ?? 1) - 1
        state.followers[mailbox] = left == 0 ? nil : left
        if left == 0 { state.drop(mailbox) }
      }
    }
  }

  /// Takes over what one commit put into a mailbox, ascending. `first` is the first number that it took there
  /// and `through` the last; nil rows when there are some that the caller did not see.
  func publish(_ mailbox: Int64, first: UInt64, through: UInt64, rows: [(seq: UInt64, row: FreshRow)]?) {
    state.withLock { state in
      guard state.followers[mailbox] != nil else { return }
      if let line = state.lines[mailbox], line.through != first - 1, !line.isClosed { state.drop(mailbox) }
      guard state.lines[mailbox]?.isClosed != true else { return }
      let bytes = rows?.reduce(0) { $0 + $1.row.byteCount + Self.rowBytes } ?? 0
      var line = state.lines[mailbox] ?? Line(after: first - 1, through: first - 1)
      if let rows, line.byteCount + bytes <= Self.lineBytesMax, state.byteCount + bytes <= Self.bytesMax {
        line.rows += rows
        for (_, row) in rows { line.laneCounts[Int(row.lane.rawValue) - 1] += 1 }
        line.through = through
        line.byteCount += bytes
        state.byteCount += bytes
      } else {
        line.isClosed = true
      }
      state.lines[mailbox] = line
    }
  }

  /// A row of the mailbox has ended, or was moved, before its reader got there: what is kept is not true any
  /// more. The reader goes on in the store.
  func forget(_ mailbox: Int64) { state.withLock { $0.drop(mailbox) } }

  /// Rows after a number for which `isWanted` holds, ascending: always one if there is any, then as many as
  /// fit. The reader has everything up to `after`, so that is let go. Nil when only the store knows.
  func rows(
    _ mailbox: Int64, after: UInt64, maxCount: Int, maxBytes: Int, where isWanted: (FreshRow) -> Bool
  ) -> [(seq: UInt64, row: FreshRow)]? {
    state.withLock { state in
      guard let line = state.lines[mailbox], after >= line.after else { return nil }
      if line.isClosed, after >= line.through {
        state.drop(mailbox)
        return nil
      }
      state.trim(mailbox, through: after)
      var found: [(seq: UInt64, row: FreshRow)] = []
      var bytes = 0
      guard let line = state.lines[mailbox] else { return nil }
      for entry in line.rows[line.head...] where isWanted(entry.row) {
        bytes += entry.row.byteCount
        guard found.isEmpty || (found.count < maxCount && bytes <= maxBytes) else { break }
        found.append(entry)
      }
      // At the end of a closed line more may be in the store.
      return found.isEmpty && line.isClosed ? nil : found
    }
  }
}

extension FreshRows {
  /// Envelopes of an outbox behind a cursor for which `isWanted` holds, in the order of work: always one if
  /// there is any, then as many as fit. Large ones count for no bytes. Nil when only the store
  /// knows.
  func laneRows(
    _ mailbox: Int64, after cursor: OutboxCursor, maxCount: Int, maxBytes: Int, ageStepMs: UInt64,
    where isWanted: (FreshEnvelope) -> Bool
  ) -> (rows: [LaneRow<FreshEnvelope>], cursor: OutboxCursor)? {
    state.withLock { state in
      guard let line = state.lines[mailbox], cursor.least >= line.after else { return nil }
      // What came after the end of a closed line may have to go first.
      guard !line.isClosed else {
        state.drop(mailbox)
        return nil
      }
      state.trim(mailbox, through: cursor.least)
      guard let line = state.lines[mailbox] else { return nil }
      var rows: [LaneRow<FreshEnvelope>] = []
      var bytes = 0
      var positions = [Int](repeating: line.head, count: Priority.allCases.count)
      let reached = mergeLanes(from: cursor, end: line.through) { lane -> LaneRow<FreshEnvelope>? in
        line.next(in: lane, after: cursor[lane], &positions[Int(lane.rawValue) - 1], isWanted).map {
          let rank = Ranking.rank(readyMs: $0.row.acceptedMs, priority: lane, ageStepMs: ageStepMs)
          return LaneRow(key: ReadyKey(rank: rank, seq: $0.seq), content: $0.row)
        }
      } take: { (row: LaneRow<FreshEnvelope>) -> Bool in
        let count = row.content.envelope.bytes.count
        if count <= OutboxLimits.readAheadBytesMax { bytes += count }
        guard rows.isEmpty || (rows.count < maxCount && bytes <= maxBytes) else { return false }
        rows.append(row)
        return true
      }
      return (rows, reached)
    }
  }
}

extension FreshRows.State {
  fileprivate mutating func drop(_ mailbox: Int64) {
    if let line = lines.removeValue(forKey: mailbox) { byteCount -= line.byteCount }
  }

  fileprivate mutating func trim(_ mailbox: Int64, through seq: UInt64) {
    var freed = 0
    lines[mailbox]?.trim(through: seq, &freed)
    byteCount -= freed
  }
}

extension FreshRows.Line {
  /// The next row of a lane from a position on, which moves behind it.
  fileprivate func next(
    in lane: Priority, after seq: UInt64, _ position: inout Int, _ isWanted: (FreshEnvelope) -> Bool
  ) -> (seq: UInt64, row: FreshEnvelope)? {
    guard laneCounts[Int(lane.rawValue) - 1] > 0 else { return nil }
    while position < rows.count {
      defer { position += 1 }
      let entry = rows[position]
      if entry.seq > seq, case .envelope(let fresh) = entry.row, fresh.lane == lane, isWanted(fresh) {
        return (entry.seq, fresh)
      }
    }
    return nil
  }

  fileprivate mutating func trim(through seq: UInt64, _ freed: inout Int) {
    after = max(after, min(seq, through))
    while head < rows.count, rows[head].seq <= seq {
      freed += rows[head].row.byteCount + FreshRows.rowBytes
      laneCounts[Int(rows[head].row.lane.rawValue) - 1] -= 1
      // Lets the bytes go at once, and the place later.
      rows[head].row = .notice([])
      head += 1
    }
    byteCount -= freed
    if head == rows.count || (head > 256 && head * 2 > rows.count) {
      rows.removeFirst(head)
      head = 0
    }
  }
}
