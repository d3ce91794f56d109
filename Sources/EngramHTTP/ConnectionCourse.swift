/// Where one HTTP/1.1 connection stands, and when it has to end. Holds no clock: the handler arms the
/// deadlines that it names and reports when one is reached.
struct ConnectionCourse {
  enum Deadline: Equatable {
    /// The rest of a request's body.
    case body
    /// The header of the first request.
    case firstRequest
    /// The header of a further request.
    case keepAlive
  }

  enum Step: Equatable {
    case none
    case arm(Deadline)
    case close
    /// Answer with a problem, where an answer can still be told from another one, and close.
    case refuse
  }

  private let bodyBytesMax: Int
  private var bodyBytes = 0
  private var isReadingBody = false
  /// Requests whose response has not ended.
  private var owed = 0
  private var isResponding = false
  /// Responses still to come before the connection ends; nil while it may go on.
  private var responsesLeft: Int?

  init(bodyBytesMax: Int) { self.bodyBytesMax = bodyBytesMax }

  /// True when the response in progress, or the next one, is the last.
  var isLast: Bool { responsesLeft.map { $0 <= 1 } ?? false }

  /// True when a problem of ours would be read as the answer to the one request in progress, or to none.
  var canAnswer: Bool { !isResponding && owed <= 1 }

  mutating func requestHead(isLast: Bool) -> Step {
    owed += 1
    bodyBytes = 0
    isReadingBody = true
    if isLast, responsesLeft == nil { responsesLeft = owed }
    return .arm(.body)
  }

  mutating func requestBody(_ count: Int) -> Step {
    bodyBytes += count
    return bodyBytes > bodyBytesMax ? .refuse : .none
  }

  /// `nil` deadline: none is armed while the response is on its way.
  mutating func requestEnd() -> Deadline? {
    isReadingBody = false
    return owed == 0 ? .keepAlive : nil
  }

  mutating func responseHead(saysClose: Bool) {
    isResponding = true
    if saysClose { responsesLeft = 1 }
  }

  mutating func responseEnd() -> Step {
    isResponding = false
    owed -= 1
    if isLast { return .close }
    responsesLeft = responsesLeft.map { $0 - 1 }
    return owed == 0 && !isReadingBody ? .arm(.keepAlive) : .none
  }

  /// The node is going down.
  mutating func quiesce() -> Step {
    responsesLeft = 1
    return owed == 0 ? .close : .none
  }

  mutating func reached(_ deadline: Deadline) -> Step {
    responsesLeft = 1
    switch deadline {
    case .body: return .refuse
    case .firstRequest, .keepAlive: return .close
    }
  }
}
