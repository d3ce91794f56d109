/// The front of a mailbox's ready rows, in the store's order. Everything before `horizon` that is ready and not
/// leased is in here; what lies behind it is only in the store, until a refill moves the horizon on. So a row
/// that arrives needs no reading, and a million rows need no memory.
///
/// A refill reads a snapshot while rows come and go. What happens meanwhile is kept and applied after the
/// rows that were read, which know nothing of it.
struct ReadyWindow {
  /// Ascending, without `head` entries that are gone already.
  private var storage: [ReadyEntry] = []
  private var head = 0
  /// nil: the store holds nothing that is not in here.
  private(set) var horizon: ReadyKey? = .first
  private var known: Set<UInt64> = []
  private var refill: Refill?

  private struct Refill {
    let ticket: UInt64
    /// What happened since it began.
    var late: [Late] = []
  }

  private enum Late {
    case arrived(ReadyEntry)
    case removed(UInt64)

    var seq: UInt64 {
      switch self {
      case .arrived(let entry): entry.seq
      case .removed(let seq): seq
      }
    }
  }

  var count: Int { storage.count - head }
  var isRefilling: Bool { refill != nil }
  var isComplete: Bool { horizon == nil && !isRefilling }
  subscript(position: Int) -> ReadyEntry { storage[head + position] }
  func contains(_ seq: UInt64) -> Bool { known.contains(seq) }

  /// A committed row, or one whose lease ended. Rows behind the horizon are left to the next refill.
  mutating func add(_ entry: ReadyEntry, max: Int) {
    refill?.late.append(.arrived(entry))
    insert(entry, max: max)
  }

  /// A row that is not ready any more.
  mutating func remove(_ seq: UInt64) {
    refill?.late.append(.removed(seq))
    take(seq)
  }

  mutating func removeEntry(at position: Int) -> ReadyEntry {
    let entry = storage[head + position]
    known.remove(entry.seq)
    if position == 0 {
      head += 1
      compact()
    } else {
      storage.remove(at: head + position)
    }
    return entry
  }

  /// Where the next read starts; nil while one is under way, or when there is nothing to read.
  /// - Parameter ticket: never the same twice; an answer without it belongs to a window that is gone.
  mutating func beginRefill(ticket: UInt64) -> ReadyKey? {
    guard !isRefilling, let horizon else { return nil }
    refill = Refill(ticket: ticket)
    return horizon
  }

  /// - Parameters:
  ///   - rows: what the snapshot holds from the horizon on, ascending; leased rows may be among them.
  ///   - last: the last row that was read, given or not.
  ///   - isEnd: the snapshot holds nothing behind them.
  ///   - isLeased: rows that are in somebody's hands.
  mutating func finishRefill(
    ticket: UInt64, _ rows: [ReadyEntry], through last: ReadyKey?, isEnd: Bool, max: Int,
    isLeased: (UInt64) -> Bool
  ) {
    guard let refill, refill.ticket == ticket else { return }
    let changes = refill.late
    self.refill = nil
    horizon = isEnd ? nil : last?.next ?? horizon
    let changed = Set(changes.map(\.seq))
    for row in rows where !changed.contains(row.seq) && !isLeased(row.seq) { insert(row, max: max) }
    for change in changes {
      switch change {
      case .arrived(let entry): if !isLeased(entry.seq) { insert(entry, max: max) }
      case .removed(let seq): take(seq)
      }
    }
  }

  /// The read failed; the next one starts at the same place.
  mutating func abandonRefill(ticket: UInt64) {
    if refill?.ticket == ticket { refill = nil }
  }

  private mutating func insert(_ entry: ReadyEntry, max: Int) {
    if let horizon, entry.key >= horizon { return }
    guard known.insert(entry.seq).inserted else { return }
    storage.insert(entry, at: position(of: entry.key))
    while count > max, let last = storage.popLast() {
      known.remove(last.seq)
      horizon = last.key
    }
  }

  private mutating func take(_ seq: UInt64) {
    guard known.remove(seq) != nil,
      let position = storage[head...].firstIndex(where: { $0.seq == seq })
    else { return }
    storage.remove(at: position)
  }

  /// The first place whose key is not below `key`.
  private func position(of key: ReadyKey) -> Int {
    var (low, high) = (head, storage.count)
    while low < high {
      let middle = (low + high) / 2
      if storage[middle].key < key { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private mutating func compact() {
    guard head >= 256, head * 2 >= storage.count else { return }
    storage.removeSubrange(..<head)
    head = 0
  }
}
