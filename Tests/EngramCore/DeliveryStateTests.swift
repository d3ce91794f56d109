import EngramCore
import Testing

@Suite("The life of a delivery")
struct DeliveryStateTests {
  private static let events: [DeliveryEvent] = [
    .cancel, .drop, .due, .expire, .failed, .lease, .leaseEnded(countsAsAttempt: false),
    .leaseEnded(countsAsAttempt: true), .nack(delayMs: 5), .nack(delayMs: nil), .processed, .reject, .requeue,
  ]

  /// The whole table, in the order of `events`; `x` is refused. Written apart from the code that it checks.
  private static let table: [DeliveryState: [String]] = [
    .held: [
      "cancelled", "failed", "ready", "expired", "failed", "x", "x", "x", "x", "x", "processed", "x", "x",
    ],
    .ready: [
      "cancelled", "failed", "x", "expired", "failed", "leased", "x", "x", "x", "x", "processed", "x", "x",
    ],
    .leased: [
      "x", "x", "x", "expired", "failed", "x", "ready", "held", "held", "held", "processed", "deadLettered",
      "x",
    ],
    .deadLettered: [
      "x", "deadLettered", "x", "deadLettered", "x", "x", "x", "x", "x", "x", "x", "x", "ready",
    ],
    .processed: [String](repeating: "x", count: 13), .failed: [String](repeating: "x", count: 13),
    .expired: [String](repeating: "x", count: 13), .cancelled: [String](repeating: "x", count: 13),
  ]

  private func verdict(_ state: DeliveryState, _ event: DeliveryEvent, attempt: UInt32 = 0) -> String {
    switch transition(state, on: event, attempt: attempt, policy: RetryPolicy()) {
    case .success(let step): "\(step.next)"
    case .failure: "x"
    }
  }

  @Test("every event in every state has the outcome of the table", arguments: DeliveryState.allCases)
  func table(state: DeliveryState) throws {
    let row = try #require(Self.table[state])
    #expect(row.count == Self.events.count)
    for (event, want) in zip(Self.events, row) { #expect(verdict(state, event) == want, "\(event)") }
  }

  @Test("an end stays an end: only an operator brings back a dead letter, and nothing else comes back")
  func ends() {
    for state in DeliveryState.allCases where !state.isOpen {
      for event in Self.events {
        let isBack = ["held", "ready", "leased"].contains(verdict(state, event))
        #expect(isBack == (state == .deadLettered && event == .requeue), "\(state) \(event)")
      }
    }
    // The control: open states do move.
    #expect(verdict(.ready, .lease) == "leased")
  }

  @Test(
    "a step holds exactly when it leads to held, and tells the sender of exactly the ends the node causes")
  func consequences() {
    for state in DeliveryState.allCases {
      for event in Self.events {
        guard case .success(let step) = transition(state, on: event, attempt: 3, policy: RetryPolicy()) else {
          continue
        }
        #expect((step.hold != nil) == (step.next == .held))
        guard step.next != state else {
          #expect(step.receipt == nil, "nobody is told twice")
          continue
        }
        switch step.next {
        case .cancelled: #expect(step.receipt == .cancelled)
        case .deadLettered: #expect(step.receipt == .deadLettered && step.code != .none)
        case .expired: #expect(step.receipt == .expired && step.code == .expired)
        case .failed: #expect((step.receipt == .failed) == (event == .drop))
        case .held, .leased, .processed, .ready: #expect(step.receipt == nil)
        }
      }
    }
  }

  @Test("delivered is told with the first lease, and with no later one")
  func delivered() {
    let policy = RetryPolicy()
    let first = transition(.ready, on: .lease, attempt: 0, policy: policy)
    #expect(first == .success(DeliveryTransition(.leased, receipt: .delivered, attempt: 0)))
    #expect(
      transition(.ready, on: .lease, attempt: 1, policy: policy)
        == .success(DeliveryTransition(.leased, attempt: 1)))
  }

  @Test("the last failure that is allowed makes a dead letter, whatever delay was asked for")
  func exhaustion() {
    var policy = RetryPolicy()
    policy.attemptsMax = 3
    for event in [DeliveryEvent.nack(delayMs: 1), .nack(delayMs: nil), .leaseEnded(countsAsAttempt: true)] {
      #expect(
        transition(.leased, on: event, attempt: 2, policy: policy)
          == .success(
            DeliveryTransition(.deadLettered, receipt: .deadLettered, code: .attemptsExhausted, attempt: 3)))
      guard case .success(let step) = transition(.leased, on: event, attempt: 1, policy: policy) else {
        Issue.record("the failure before the last was refused")
        return
      }
      #expect(step.next == .held && step.attempt == 2)
    }
    #expect(
      transition(.leased, on: .leaseEnded(countsAsAttempt: false), attempt: 2, policy: policy)
        == .success(DeliveryTransition(.ready, attempt: 2)), "a restart is nobody's failure")
  }

  @Test("the backoff doubles from its first to its greatest value and never overflows")
  func backoff() {
    let policy = RetryPolicy()
    #expect(
      (1...11).map { policy.backoffMs(after: $0) } == [
        1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 600_000,
      ])
    for attempt in [0, 12, 33, 64, UInt32.max] as [UInt32] {
      #expect((1_000...600_000).contains(policy.backoffMs(after: attempt)))
    }
    #expect(
      transition(.leased, on: .nack(delayMs: nil), attempt: 1, policy: policy)
        == .success(DeliveryTransition(.held, hold: .upTo(ms: 2_000), attempt: 2)))
  }

  @Test("what does not fit is refused under the code that says why")
  func refusals() {
    func code(_ state: DeliveryState, _ event: DeliveryEvent) -> ErrorCode? {
      guard case .failure(let code) = transition(state, on: event, attempt: 0, policy: RetryPolicy()) else {
        return nil
      }
      return code
    }
    #expect(code(.leased, .cancel) == .notCancellable)
    #expect(code(.processed, .cancel) == .notCancellable)
    #expect(code(.expired, .processed) == .expired)
    #expect(code(.deadLettered, .processed) == .deadLettered)
    #expect(code(.ready, .nack(delayMs: nil)) == .notLeased)
    #expect(code(.held, .reject) == .notLeased)
  }
}
