/// Exponential waits with full jitter: each is drawn from the whole range up to a bound that doubles, so that
/// peers which lost each other at the same moment do not meet again at the same moments.
package struct Backoff: Sendable, Equatable {
  private let minMs: UInt64
  private let maxMs: UInt64
  /// Waits drawn since the last success.
  package private(set) var attempts = 0

  package init(minMs: UInt64, maxMs: UInt64) {
    (self.minMs, self.maxMs) = (max(1, minMs), max(1, minMs, maxMs))
  }

  /// The bound of the next wait, in milliseconds.
  package var boundMs: UInt64 {
    let doublings = min(attempts, 63)
    return minMs > maxMs >> UInt64(doublings) ? maxMs : minMs << UInt64(doublings)
  }

  /// A wait from 1 to the bound; `random` is a uniformly distributed number.
  package mutating func next(random: UInt64) -> UInt64 {
    defer { attempts += 1 }
    return 1 + random % boundMs
  }

  package mutating func reset() { attempts = 0 }
}
