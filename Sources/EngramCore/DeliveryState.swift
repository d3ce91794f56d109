/// Where one recipient's copy of a message stands at a node. Three of these are open: the copy still waits for
/// its recipient. The others are ends; only a dead letter can be brought back, and only by an operator.
package enum DeliveryState: CaseIterable, Sendable {
  /// Ended by its sender before it was handed out.
  case cancelled
  /// Ended after too many failures, or rejected by its recipient; kept for the operator until it expires.
  case deadLettered
  /// Ended by its own expiry.
  case expired
  /// Ended by the recipient's device, or by an operator, as something that cannot be done.
  case failed
  /// Open, and not to be handed out before a certain time.
  case held
  /// Open, and in the hands of one consumer.
  case leased
  /// Ended by the recipient's device.
  case processed
  /// Open, and handed out next.
  case ready

  package var isOpen: Bool {
    switch self {
    case .held, .leased, .ready: true
    case .cancelled, .deadLettered, .expired, .failed, .processed: false
    }
  }

  /// The word that people see, on the command line and in JSON.
  package var name: String {
    switch self {
    case .held, .ready: "pending"
    case .leased: "delivered"
    case .deadLettered: "dead-lettered"
    case .cancelled, .expired, .failed, .processed: "\(self)"
    }
  }
}

/// What happens to a delivery.
package enum DeliveryEvent: Equatable, Sendable {
  case cancel
  /// The operator takes it out for good.
  case drop
  /// Its hold is over.
  case due
  case expire
  /// The device says that it cannot be done: a signed `failed` receipt.
  case failed
  case lease
  /// The consumer went away or let its time run out.
  case leaseEnded(countsAsAttempt: Bool)
  /// The consumer wants it later; nil leaves the delay to the policy.
  case nack(delayMs: UInt64?)
  /// The device has done it: a signed `processed` receipt.
  case processed
  /// The consumer says that trying again is useless, without a receipt of its device.
  case reject
  /// The operator gives a dead letter another round.
  case requeue
}

/// How long a delivery is held before it may be handed out again.
package enum DeliveryHold: Equatable, Sendable {
  case exactly(ms: UInt64)
  /// A time that the caller draws evenly from 1 to this many milliseconds (full jitter), so that messages that
  /// failed together do not come back together.
  case upTo(ms: UInt64)
}

/// What an event makes of a delivery.
package struct DeliveryTransition: Equatable, Sendable {
  package var next: DeliveryState
  /// What the node states about it to the sender. `processed`, and `failed` by the device, are stated by the
  /// device itself.
  package var receipt: ReceiptState?
  package var code: ErrorCode
  /// Set exactly when `next` is held.
  package var hold: DeliveryHold?
  /// Failures so far.
  package var attempt: UInt32

  package init(
    _ next: DeliveryState, receipt: ReceiptState? = nil, code: ErrorCode = .none, hold: DeliveryHold? = nil,
    attempt: UInt32
  ) {
    (self.next, self.receipt, self.code, self.hold) = (next, receipt, code, hold)
    self.attempt = attempt
  }
}

/// How often a delivery is tried and how long it rests in between.
package struct RetryPolicy: Equatable, Sendable {
  /// With the default backoff the last attempt is about an hour and a half after the first.
  package var attemptsMax: UInt32 = 20
  package var firstBackoffMs: UInt64 = 1_000
  package var backoffMsMax: UInt64 = 600_000

  package init() {}

  /// The longest rest after the given failure, counted from 1: doubles each time up to the maximum.
  package func backoffMs(after attempt: UInt32) -> UInt64 {
    let doublings = UInt64(max(attempt, 1) - 1)
    guard doublings < 32, firstBackoffMs < UInt64(UInt32.max) else { return backoffMsMax }
    return min(backoffMsMax, firstBackoffMs << doublings)
  }
}

/// The life of a delivery, whole. `attempt` counts the failures before this event.
/// - Returns: the code with which an event that does not fit its state is refused; nothing changes then.
package func transition(
  _ state: DeliveryState, on event: DeliveryEvent, attempt: UInt32, policy: RetryPolicy
) -> Result<DeliveryTransition, ErrorCode> {
  switch (state, event) {
  case (.held, .due), (.leased, .leaseEnded(countsAsAttempt: false)):
    .success(DeliveryTransition(.ready, attempt: attempt))
  case (.ready, .lease):
    // Told once, and only when the device has not said more by then.
    .success(DeliveryTransition(.leased, receipt: attempt == 0 ? .delivered : nil, attempt: attempt))
  case (.leased, .nack(let delayMs)):
    .success(afterFailure(delayMs, attempt: attempt, policy: policy))
  case (.leased, .leaseEnded(countsAsAttempt: true)):
    .success(afterFailure(nil, attempt: attempt, policy: policy))
  case (.leased, .reject):
    .success(
      DeliveryTransition(.deadLettered, receipt: .deadLettered, code: .rejected, attempt: attempt &+ 1))
  case (.held, .processed), (.leased, .processed), (.ready, .processed):
    // A device's own word counts whether the node remembers handing the copy out or not.
    .success(DeliveryTransition(.processed, attempt: attempt))
  case (.held, .failed), (.leased, .failed), (.ready, .failed):
    .success(DeliveryTransition(.failed, attempt: attempt))
  case (.held, .expire), (.leased, .expire), (.ready, .expire):
    .success(DeliveryTransition(.expired, receipt: .expired, code: .expired, attempt: attempt))
  case (.held, .cancel), (.ready, .cancel):
    .success(DeliveryTransition(.cancelled, receipt: .cancelled, attempt: attempt))
  case (.held, .drop), (.ready, .drop):
    .success(DeliveryTransition(.failed, receipt: .failed, code: .notPermitted, attempt: attempt))
  case (.deadLettered, .requeue):
    .success(DeliveryTransition(.ready, attempt: 0))
  case (.deadLettered, .drop), (.deadLettered, .expire):
    // The sender knows the end already; only the row goes.
    .success(DeliveryTransition(state, code: .deadLettered, attempt: attempt))
  default:
    .failure(refusal(of: event, in: state))
  }
}

private func afterFailure(_ delayMs: UInt64?, attempt: UInt32, policy: RetryPolicy) -> DeliveryTransition {
  let failures = attempt &+ 1
  guard failures < policy.attemptsMax else {
    return DeliveryTransition(
      .deadLettered, receipt: .deadLettered, code: .attemptsExhausted, attempt: failures)
  }
  let hold = delayMs.map { DeliveryHold.exactly(ms: $0) } ?? .upTo(ms: policy.backoffMs(after: failures))
  return DeliveryTransition(.held, hold: hold, attempt: failures)
}

private func refusal(of event: DeliveryEvent, in state: DeliveryState) -> ErrorCode {
  switch (state, event) {
  case (.expired, _): .expired
  case (.deadLettered, _): .deadLettered
  case (_, .cancel): .notCancellable
  case (.leased, _): .notPermitted
  default: .notLeased
  }
}
