/// Keeps the sends of one connection in order: they are verified on several loops and may finish out of turn,
/// but are handed on in the order of their arrival.
struct SendLine<Verdict: Sendable> {
  struct Ready: Sendable {
    let request: UInt32
    let bytes: Int
    let verdict: Verdict
  }

  private struct Waiting {
    let request: UInt32
    let bytes: Int
    var verdict: Verdict?
  }

  private var waiting: [Waiting] = []
  /// The ticket of `waiting[0]`.
  private var firstTicket = 0

  /// The ticket to give back to `finish`.
  mutating func add(request: UInt32, bytes: Int) -> Int {
    waiting.append(Waiting(request: request, bytes: bytes))
    return firstTicket + waiting.count - 1
  }

  /// What may go on now, in order.
  mutating func finish(_ ticket: Int, _ verdict: Verdict) -> [Ready] {
    waiting[ticket - firstTicket].verdict = verdict
    var ready: [Ready] = []
    while let first = waiting.first, let verdict = first.verdict {
      ready.append(Ready(request: first.request, bytes: first.bytes, verdict: verdict))
      waiting.removeFirst()
      firstTicket += 1
    }
    return ready
  }
}
