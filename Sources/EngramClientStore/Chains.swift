package import EngramCore
package import EngramSealing

extension ClientSnapshot {
  /// Where the next message to a device stands.
  package func nextPosition(to kid: Kid) throws -> ChainPosition {
    let row = try first("SELECT next_seq, previous FROM chain_out WHERE kid = ?", [.bytes(kid.bytes)]) { c in
      ChainPosition(seq: try c.number(0), previous: try c.id32(1))
    }
    return row ?? .first
  }

  /// The highest place recorded of a sender's chain to us, 0 for none.
  package func highestPosition(from kid: Kid) throws -> UInt64 {
    try first("SELECT ifnull(max(seq), 0) FROM chain_in WHERE kid = ?", [.bytes(kid.bytes)]) {
      try $0.number(0)
    } ?? 0
  }

  package func recorded(from kid: Kid, seq: UInt64) throws -> (id: EnvelopeID, previous: EnvelopeID)? {
    try first(
      "SELECT envelope, previous FROM chain_in WHERE kid = ? AND seq = ?", [.bytes(kid.bytes), .number(seq)]
    ) { (try $0.id32(0), try $0.id32(1)) }
  }

  /// Judges a position against what is recorded.
  package func judge(_ position: ChainPosition, id: EnvelopeID, from kid: Kid) throws -> ChainVerdict {
    // A sequence number that no honest sender can reach does not fit the column either.
    guard position.seq < UInt64(Int64.max) else { return .fork }
    let highest = try highestPosition(from: kid)
    let verdict = try judgeChain(position, id: id, highest: highest) { try recorded(from: kid, seq: $0) }
    // Its sender announced it when it was missing; now it is here.
    if verdict == .duplicate, try isStub(from: kid, seq: position.seq) { return .inOrder }
    return verdict
  }
}

extension ClientTransaction {
  /// Moves the chain to a device on, in the transaction that keeps the envelope.
  package func advanceChain(to kid: Kid, past position: ChainPosition, envelope: EnvelopeID) throws {
    try execute(
      """
      INSERT INTO chain_out (kid, next_seq, previous) VALUES (?1, ?2, ?3)
      ON CONFLICT (kid) DO UPDATE SET next_seq = ?2, previous = ?3
      """,
      [.bytes(kid.bytes), .number(position.seq + 1), .bytes(envelope.bytes)])
  }

  /// Records a place of a sender's chain to us, and closes the gaps that it completes.
  /// - Parameter isStub: it was announced by its stub; the message itself may still come.
  package func record(
    _ position: ChainPosition, id: EnvelopeID, from kid: Kid, expiresMs: UInt64, isStub: Bool = false,
    nowMs: UInt64
  ) throws {
    try execute(
      """
      INSERT INTO chain_in (kid, seq, envelope, previous, expires_ms, stub) VALUES (?, ?, ?, ?, ?, ?)
      ON CONFLICT (kid, seq) DO UPDATE SET stub = 0 WHERE envelope = excluded.envelope AND excluded.stub = 0
      """,
      [
        .bytes(kid.bytes), .number(position.seq), .bytes(id.bytes), .bytes(position.previous.bytes),
        .number(expiresMs), .flag(isStub),
      ])
    try execute(
      """
      UPDATE alarm SET resolved_ms = ?3
      WHERE kind = \(AlarmKind.gap.rawValue) AND kid = ?1 AND resolved_ms IS NULL AND low <= ?2 AND high >= ?2
        AND high - low + 1 = (
          SELECT count(*) FROM chain_in AS c WHERE c.kid = ?1 AND c.seq BETWEEN alarm.low AND alarm.high)
      """,
      [.bytes(kid.bytes), .number(position.seq), .number(nowMs)])
  }
}
