import EngramCore
import Synchronization

/// What clients were told, kept where no power is cut.
final class LoadBook: Sendable {
  private struct State {
    /// Sent and not answered: the bytes, to be sent again.
    var unanswered: [EnvelopeID: [UInt8]] = [:]
    /// The node said `accepted` or `duplicate`: from then on it owes the message to its recipient.
    var acknowledged: Set<EnvelopeID> = []
    /// The recipient said that it has it, and the node confirmed that.
    var taken: Set<EnvelopeID> = []
    /// The recipient said so and got no answer: the node may have forgotten it or not.
    var maybeTaken: Set<EnvelopeID> = []
  }
  private let state = Mutex(State())

  var acknowledgedCount: Int { state.withLock { $0.acknowledged.count } }
  var takenCount: Int { state.withLock { $0.taken.count } }
  var unanswered: [EnvelopeID: [UInt8]] { state.withLock { $0.unanswered } }

  func sending(_ batch: [(EnvelopeID, [UInt8])]) {
    state.withLock { state in for (id, bytes) in batch { state.unanswered[id] = bytes } }
  }

  /// - Returns: how many were acknowledged.
  func answered(_ ids: [EnvelopeID], _ outcomes: [ItemOutcome]) -> Int {
    state.withLock { state in
      let kept = zip(ids, outcomes).filter { $1.outcome == .accepted || $1.outcome == .duplicate }.map {
        $0.0
      }
      state.acknowledged.formUnion(kept)
      for id in kept { state.unanswered[id] = nil }
      return kept.count
    }
  }

  func taking(_ ids: [EnvelopeID]) { state.withLock { $0.maybeTaken.formUnion(ids) } }

  func took(_ ids: [EnvelopeID]) {
    state.withLock { state in
      state.maybeTaken.subtract(ids)
      state.taken.formUnion(ids)
    }
  }

  struct Verdict: Sendable {
    /// Acknowledged to the sender, never taken, and not there.
    var lost = 0
    /// There twice, or there again after it was taken for good.
    var repeated = 0
    /// Nobody sent it.
    var invented = 0
  }

  /// Compares with everything that the mailbox held after the cut, then counts that as taken.
  func settle(found: [EnvelopeID]) -> Verdict {
    state.withLock { state in
      let present = Set(found)
      var verdict = Verdict()
      verdict.lost =
        state.acknowledged.subtracting(state.taken).subtracting(state.maybeTaken).subtracting(present).count
      verdict.repeated = found.count - present.count + present.intersection(state.taken).count
      verdict.invented = present.subtracting(state.acknowledged).subtracting(state.unanswered.keys).count
      // What was perhaps taken and is not there was; what is lost is counted once.
      state.taken.formUnion(state.maybeTaken)
      state.taken.formUnion(state.acknowledged)
      state.taken.formUnion(present)
      state.maybeTaken = []
      return verdict
    }
  }
}
