import EngramCore
import NIOCore
import Synchronization

/// A token bucket: `burst` at once, `perSecond` on average. Holds no clock.
struct AttemptAllowance: Sendable {
  struct Rate: Sendable {
    var perSecond: Int
    var burst: Int
  }

  private var left: Double
  private var atNs: UInt64

  init(_ rate: Rate, nowNs: UInt64) { (left, atNs) = (Double(rate.burst), nowNs) }

  /// False when nothing is left.
  mutating func take(_ rate: Rate, nowNs: UInt64) -> Bool {
    refill(rate, nowNs: nowNs)
    guard left >= 1 else { return false }
    left -= 1
    return true
  }

  /// Nothing is remembered of whom this is for.
  mutating func isFull(_ rate: Rate, nowNs: UInt64) -> Bool {
    refill(rate, nowNs: nowNs)
    return left >= Double(rate.burst)
  }

  private mutating func refill(_ rate: Rate, nowNs: UInt64) {
    let seconds = Double(nowNs > atNs ? nowNs - atNs : 0) / 1e9
    left = min(Double(rate.burst), left + seconds * Double(rate.perSecond))
    atNs = max(atNs, nowNs)
  }
}

/// Bounds what anybody can make the node do before it knows who they are: registrations and session openings,
/// per source address.
final class SignInLimiter: Sendable {
  private struct State {
    var sources: [SourceAddress: AttemptAllowance] = [:]
    /// For the addresses that find no place in the table.
    var others: AttemptAllowance
  }

  private let rate: AttemptAllowance.Rate
  private let sourcesMax: Int
  private let state: Mutex<State>

  init(_ rate: AttemptAllowance.Rate, sourcesMax: Int = HTTPLimits.signInSourcesMax) {
    (self.rate, self.sourcesMax) = (rate, sourcesMax)
    state = Mutex(State(others: AttemptAllowance(rate, nowNs: 0)))
  }

  /// False when this source has used up its allowance.
  func admit(_ source: SourceAddress, nowNs: UInt64) -> Bool {
    let key = source.allowanceKey
    return state.withLock { state in
      if state.sources[key] == nil {
        if state.sources.count >= sourcesMax { forgetIdle(&state, nowNs) }
        guard state.sources.count < sourcesMax else { return state.others.take(rate, nowNs: nowNs) }
      }
      return state.sources[key, default: AttemptAllowance(rate, nowNs: nowNs)].take(rate, nowNs: nowNs)
    }
  }

  private func forgetIdle(_ state: inout State, _ nowNs: UInt64) {
    state.sources = state.sources.filter { entry in
      var allowance = entry.value
      return !allowance.isFull(rate, nowNs: nowNs)
    }
  }
}

extension Edge {
  /// The first line of a route that costs signature checks before it knows who asks.
  func admitSignIn(_ context: APIContext) throws(Problem) {
    let source = context.remoteAddress.map { SourceAddress($0) } ?? .none
    guard signIns.admit(source, nowNs: NIODeadline.now().uptimeNanoseconds) else {
      metrics.signInsLimited.add()
      throw Problem(.rateLimited)
    }
  }
}
