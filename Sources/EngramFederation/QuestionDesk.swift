/// Questions of one kind in both directions. They are numbered upwards, so an answer to one that timed out
/// can be told from an answer to one that was never asked.
struct QuestionDesk: Sendable {
  enum Taken { case known(UInt64), late, neverAsked }

  private var open: [UInt32: (id: UInt64, deadlineMs: UInt64)] = [:]
  private var next: UInt32 = 1
  /// The peer's questions that we have not answered.
  var unanswered = 0

  /// nil when too many are open.
  mutating func ask(_ id: UInt64, deadlineMs: UInt64) -> UInt32? {
    guard open.count < LinkLimits.queriesMax, next < .max else { return nil }
    defer { next += 1 }
    open[next] = (id, deadlineMs)
    return next
  }

  mutating func take(_ request: UInt32) -> Taken {
    if let entry = open.removeValue(forKey: request) { return .known(entry.id) }
    return request >= 1 && request < next ? .late : .neverAsked
  }

  mutating func expired(nowMs: UInt64) -> [UInt64] {
    let late = open.filter { $0.value.deadlineMs <= nowMs }.keys.sorted()
    return late.compactMap { open.removeValue(forKey: $0)?.id }
  }

  mutating func takeAll() -> [UInt64] {
    defer { open = [:] }
    return open.keys.sorted().compactMap { open[$0]?.id }
  }
}
