package import EngramCore

/// An envelope's place in the chain of one pair of devices: counted from 1, with the id of the one before.
package struct ChainPosition: Equatable, Sendable {
  package var seq: UInt64
  /// Zeros for the first.
  package var previous: EnvelopeID
  package init(seq: UInt64, previous: EnvelopeID) { (self.seq, self.previous) = (seq, previous) }
  package static let first = ChainPosition(seq: 1, previous: .zero)
}

/// What a recipient learns from a position, given what it has seen of the chain before.
package enum ChainVerdict: Equatable, Sendable {
  /// Follows without a gap, or fills one.
  case inOrder
  /// Messages before it are missing; they may still arrive.
  case gap(missing: ClosedRange<UInt64>)
  /// The very same envelope was seen before.
  case duplicate
  /// Two envelopes claim one place, or a predecessor is not the one that was seen: an alarm.
  case fork
}

/// Judges `position` of envelope `id`. `seen(seq)` is the envelope recorded at a place with the predecessor
/// it named; `highest` is the highest recorded place, 0 for none.
package func judgeChain(
  _ position: ChainPosition, id: EnvelopeID, highest: UInt64,
  seen: (UInt64) throws -> (id: EnvelopeID, previous: EnvelopeID)?
) rethrows -> ChainVerdict {
  guard position.seq >= 1, (position.seq == 1) == (position.previous == .zero) else { return .fork }
  if let known = try seen(position.seq) { return known.id == id ? .duplicate : .fork }
  if position.seq < .max, let successor = try seen(position.seq + 1), successor.previous != id {
    return .fork
  }
  if position.seq > 1, let predecessor = try seen(position.seq - 1), predecessor.id != position.previous {
    return .fork
  }
  // Not `highest + 1`: a sender may claim the highest place there is.
  if position.seq > highest, position.seq - highest > 1 {
    return .gap(missing: (highest + 1)...(position.seq - 1))
  }
  return .inOrder
}
