internal import EngramClientStore
internal import EngramCore

/// A message that is this consumer's alone until it is settled or its lease ends.
///
/// Settle it once, with `ack`, `nack` or `reject`; a second word is refused as `not-leased`.
public struct WorkItem: Sendable {
  public let message: ReceivedMessage
  /// 1 the first time; one more for each attempt that failed.
  public let attempt: UInt32
  /// Somebody may have worked on it before: an attempt has failed, or this home had the message in hand and
  /// never settled it. False is no proof of the opposite: a node that restarts forgets who had what. What
  /// must happen once goes by `message.envelopeID`, which stays the same however often the message comes.
  public let isRedelivered: Bool
  /// A fencing token: greater than every one that this node gave out before. Whatever is written elsewhere
  /// on behalf of the message can carry it, so that a writer whose lease ended meanwhile is told apart.
  public let token: UInt64
  /// When the lease ends unless it is renewed; nil: with the connection.
  public let deadline: ContinuousClock.Instant?
  let id: EnvelopeID
  let turn: UInt64
  let desk: WorkDesk

  /// Done: its sender gets this device's signed receipt.
  ///
  /// Durable when it returns, even if the node cannot be reached: then it is told later.
  /// - Throws: `EngramError` with `lease-lost` when the message is somebody else's by now, or `expired`; the
  ///   word is taken back then.
  public func ack() async throws {
    try await publicly { try await desk.finish(id, turn: turn, .processed, .none) }
  }

  /// Done, without waiting: many such words share a frame and an fsync. `WorkStream.flush` waits for them and
  /// tells which were not taken.
  public func ackSoon() async { await desk.finishSoon(id, turn: turn) }

  /// Not now: a failed attempt.
  /// - Parameter delaySeconds: when it is ready again; nil leaves that to the node: longer each time.
  public func nack(delaySeconds: Double? = nil) async throws {
    try await publicly {
      var delayMs: UInt32?
      if let delaySeconds {
        guard delaySeconds >= 0, delaySeconds <= WorkLimits.delaySecondsMax else {
          throw EngramError(.badInput, name: "bad-delay", "a delay is between zero and 30 days")
        }
        delayMs = UInt32(delaySeconds * 1_000)
      }
      try await desk.giveUp(id, turn: turn, .nack(delayMs: delayMs, code: .none))
    }
  }

  /// Never: it becomes a dead letter, which an operator can look at and give another round.
  /// - Parameters:
  ///   - code: why, a number of the protocol's registry.
  ///   - failing: sign a `failed` receipt instead: then it is over for good, and its sender is told so by
  ///     this device.
  public func reject(code: UInt16 = 419, failing: Bool = false) async throws {
    try await publicly {
      guard let code = ErrorCode(rawValue: code), code != .none else {
        throw EngramError(.badInput, name: "bad-code", "the code is not one of the protocol's registry")
      }
      if failing {
        try await desk.finish(id, turn: turn, .failed, code)
      } else {
        try await desk.giveUp(id, turn: turn, .reject(code: code, receipt: []))
      }
    }
  }

  /// Begins the lease anew. Needed after `lease` only: `consume` renews by itself.
  public func renew() async throws { try await publicly { try await desk.renew(id, turn: turn) } }
}

/// The node did not take a word about a message: `lease-lost` when it is somebody else's by now, `expired`
/// when its time was over.
public struct WorkFailure: Sendable {
  public let envelopeID: String
  public let error: EngramError
}

/// Bounds of the consumer's side, with their reasons.
enum WorkLimits {
  /// What fits the wire's milliseconds is 49 days; messages live for 30.
  static let delaySecondsMax = 30.0 * 24 * 3_600
  /// How often a settlement is repeated over HTTP while its lease lives, and the wait before the second.
  static let triesMax = 5
  static let retryMs = 100
  /// A lease is renewed when a third of it has passed: two renewals may fail.
  static let renewalsPerLease = 3
  /// Words that were not taken and not asked about: as many as can be in hand.
  static let failuresKept = 1_000
  /// Seconds that a message stays with a consumer that polls, unless it says otherwise.
  static let pollVisibilitySeconds = 30
  /// Between two looks at the reader's lock, whose holder takes receipts and notices.
  static let lockSeconds = 5
}
