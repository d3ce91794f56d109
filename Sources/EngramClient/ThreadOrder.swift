internal import EngramClientStore
internal import EngramCore

/// What decides a message's place in its thread.
struct ThreadEntry: Equatable {
  var id: EnvelopeID
  var parent: EnvelopeID?
  var senderKid: Kid
  /// Its place in its sender's signed chain to us; for our own messages, the order in which they were sealed.
  var place: UInt64
  var createdMs: UInt64
}

/// A thread in reading order: indices into what was given, each with how many parents it has here.
///
/// 1. A message stands after the one before it in its sender's chain, which was signed and cannot be
///    rearranged by nodes or clocks.
/// 2. An answer stands after what it answers, if that is here.
/// 3. Among those that may come next, the one that its sender dated first; then by envelope id, so that every
///    reader of the same messages sees the same order.
///
/// An answer is dated by its sender, who may be wrong: dates only decide where 1 and 2 leave a choice. A
/// sender can contradict itself (a chain against its own parent links); then the date decides as well.
func threadOrder(_ entries: [ThreadEntry]) -> [(index: Int, depth: Int)] {
  let byID = Dictionary(entries.indices.map { (entries[$0].id, $0) }, uniquingKeysWith: { first, _ in first })
  var waitsFor = [Int](repeating: 0, count: entries.count)
  var followers = [[Int]](repeating: [], count: entries.count)
  func require(_ first: Int, before second: Int) {
    guard first != second else { return }
    followers[first].append(second)
    waitsFor[second] += 1
  }
  let chains = Dictionary(grouping: entries.indices, by: { entries[$0].senderKid })
  for chain in chains.values {
    let ordered = chain.sorted { (entries[$0].place, entries[$0].id) < (entries[$1].place, entries[$1].id) }
    for (first, second) in zip(ordered, ordered.dropFirst()) { require(first, before: second) }
  }
  for index in entries.indices {
    if let parent = entries[index].parent.flatMap({ byID[$0] }) { require(parent, before: index) }
  }

  func precedes(_ a: Int, _ b: Int) -> Bool {
    (entries[a].createdMs, entries[a].id) < (entries[b].createdMs, entries[b].id)
  }
  var ready = Heap(entries.indices.filter { waitsFor[$0] == 0 }, precedes: precedes)
  var left = Set(entries.indices)
  var depths = [Int](repeating: 0, count: entries.count)
  var order: [(index: Int, depth: Int)] = []
  while !left.isEmpty {
    // Nothing is free: a contradiction, cut where its sender dated first.
    let next = ready.pop() ?? left.min(by: precedes)
    guard let next, left.remove(next) != nil else { continue }
    if let parent = entries[next].parent.flatMap({ byID[$0] }), !left.contains(parent), parent != next {
      depths[next] = depths[parent] + 1
    }
    order.append((next, depths[next]))
    for follower in followers[next] where left.contains(follower) {
      waitsFor[follower] -= 1
      if waitsFor[follower] == 0 { ready.push(follower) }
    }
  }
  return order
}

/// A binary heap: the next of many without sorting them again each time.
private struct Heap {
  private var items: [Int] = []
  private let precedes: (Int, Int) -> Bool

  init(_ items: [Int], precedes: @escaping (Int, Int) -> Bool) {
    self.precedes = precedes
    for item in items { push(item) }
  }

  mutating func push(_ item: Int) {
    items.append(item)
    var index = items.count - 1
    while index > 0, precedes(items[index], items[(index - 1) / 2]) {
      items.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  mutating func pop() -> Int? {
    guard let first = items.first, let last = items.popLast() else { return nil }
    guard !items.isEmpty else { return first }
    items[0] = last
    var index = 0
    while true {
      let children = [2 * index + 1, 2 * index + 2].filter { $0 < items.count }
      guard let child = children.min(by: { precedes(items[$0], items[$1]) }),
        precedes(items[child], items[index])
      else { return first }
      items.swapAt(index, child)
      index = child
    }
  }
}

/// The thread that a message with this parent belongs to.
///
/// - Parameters:
///   - chosen: the thread that the caller named, nil for none.
///   - lineage: thread and parent of a message that is known here, nil for one that is not: it may have
///     expired, or never been for us.
/// - Returns: the thread; or `parentInvalid` for a parent in another thread, one whose own ancestors lead back
///   to it, or one that is unknown while no thread is named.
func threadOfAnswer(
  to parent: EnvelopeID, chosen: ThreadID?,
  lineage: (EnvelopeID) throws -> (thread: ThreadID, parent: EnvelopeID?)?
) throws -> Result<ThreadID, ErrorCode> {
  guard let known = try lineage(parent) else {
    guard let chosen else { return .failure(.parentInvalid) }
    return .success(chosen)
  }
  guard chosen == nil || chosen == known.thread else { return .failure(.parentInvalid) }
  // An envelope id is a hash over its parent, so honest data has no cycles; a damaged or imported home may.
  var seen: Set<EnvelopeID> = [parent]
  var next = known.parent
  while let ancestor = next, seen.count < ancestorsMax {
    guard seen.insert(ancestor).inserted else { return .failure(.parentInvalid) }
    guard let line = try lineage(ancestor) else { break }
    next = line.parent
  }
  return .success(known.thread)
}

/// Ancestors looked at; a longer conversation is not searched for cycles to its beginning.
private let ancestorsMax = 10_000
