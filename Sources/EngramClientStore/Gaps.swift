package import EngramCore

/// Missing places of one device's chain to us.
package struct GapRow: Sendable, Equatable {
  package let address: String
  package let kid: Kid
  /// What the alarm spans; some of it may have come since.
  package let span: ClosedRange<UInt64>
  package let sinceMs: UInt64
  /// `chainGap`, or `notFound` when the sender's device has no record of them either.
  package let code: ErrorCode
  /// When its sender was asked for stubs, and how often.
  package let askedMs: UInt64?
  package let asks: Int
}

/// A place of a chain of which only the stub is here.
package struct AnnouncedRow: Sendable, Equatable {
  package let address: String?
  package let kid: Kid
  package let seq: UInt64
  package let envelope: EnvelopeID
  package let expiresMs: UInt64
  /// A device of this client that signed for it.
  package let takenBy: Kid?
}

/// Stubs that a device asked us for.
package struct StubDebt: Sendable, Equatable {
  package let kid: Kid
  package let address: Address
  package let ranges: [ClosedRange<UInt64>]

  package init(kid: Kid, address: Address, ranges: [ClosedRange<UInt64>]) {
    (self.kid, self.address, self.ranges) = (kid, address, ranges)
  }
}

extension ClientSnapshot {
  /// Gaps that are open, oldest first.
  package func gaps(limit: Int) throws -> [GapRow] {
    try all(
      """
      SELECT a.address, a.kid, a.low, a.high, a.at_ms, a.code, ifnull(e.asked_ms, 0), ifnull(e.asks, 0)
      FROM alarm AS a LEFT JOIN stub_exchange AS e ON e.kid = a.kid
      WHERE a.kind = ? AND a.resolved_ms IS NULL ORDER BY a.at_ms, a.id LIMIT ?
      """, [.number(AlarmKind.gap.rawValue), .number(limit)]
    ) { c in
      let (low, high, asked) = (try c.number(2), try c.number(3), try c.number(6))
      guard low <= high else { throw ClientStoreError.damaged }
      return GapRow(
        address: try c.text(0), kid: try c.id16(1), span: low...high, sinceMs: try c.number(4),
        code: try c.code(5), askedMs: asked == 0 ? nil : asked, asks: try c.count(7))
    }
  }

  /// The places of a span that are not recorded, as ranges, at most so many.
  package func missing(of span: ClosedRange<UInt64>, from kid: Kid, limit: Int) throws
    -> [ClosedRange<UInt64>]
  {
    let seqs = try all(
      "SELECT seq FROM chain_in WHERE kid = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
      [.bytes(kid.bytes), .number(span.lowerBound), .number(span.upperBound), .number(spanRowsMax)]
    ) { try $0.number(0) }
    return Array(missingRanges(of: span, present: seqs).prefix(limit))
  }

  /// Messages that their senders announced and that have not come, newest first.
  package func announced(limit: Int) throws -> [AnnouncedRow] {
    try all(
      """
      SELECT d.address, c.kid, c.seq, c.envelope, c.expires_ms, t.kid
      FROM chain_in AS c LEFT JOIN device AS d ON d.kid = c.kid
        LEFT JOIN taken AS t ON t.envelope_id = c.envelope
      WHERE c.stub = 1 ORDER BY c.expires_ms DESC, c.kid, c.seq DESC LIMIT ?
      """, [.number(limit)]
    ) { c in
      AnnouncedRow(
        address: try c.optionalText(0), kid: try c.id16(1), seq: try c.number(2), envelope: try c.id32(3),
        expiresMs: try c.number(4), takenBy: try c.optionalBytes(5).flatMap { Kid($0) })
    }
  }

  func isStub(from kid: Kid, seq: UInt64) throws -> Bool {
    try first(
      "SELECT stub FROM chain_in WHERE kid = ? AND seq = ?", [.bytes(kid.bytes), .number(seq)]
    ) { try $0.flag(0) } ?? false
  }

  /// What we sent to a device at a place of its chain.
  package func sentEnvelope(to kid: Kid, seq: UInt64) throws -> EnvelopeID? {
    try first(
      "SELECT envelope FROM chain_sent WHERE kid = ? AND seq = ?", [.bytes(kid.bytes), .number(seq)]
    ) { try $0.id32(0) }
  }

  /// Requests for stubs that are not answered yet.
  package func stubDebts() throws -> [StubDebt] {
    try all("SELECT kid, address, owed FROM stub_exchange WHERE owed IS NOT NULL ORDER BY kid") { c in
      guard let ranges = try? parseRanges(try c.bytes(2)[...]) else { throw ClientStoreError.damaged }
      return StubDebt(kid: try c.id16(0), address: try c.address(1), ranges: ranges)
    }
  }
}

extension ClientTransaction {
  /// Remembers which envelope took which place, in the transaction that seals it.
  package func recordSent(
    to kid: Kid, seq: UInt64, envelope: EnvelopeID, expiresMs: UInt64
  ) throws {
    try execute(
      "INSERT INTO chain_sent (kid, seq, envelope, expires_ms) VALUES (?, ?, ?, ?)",
      [.bytes(kid.bytes), .number(seq), .bytes(envelope.bytes), .number(expiresMs)])
  }

  /// A device asks for stubs: kept until they are on their way. A second request before that replaces the
  /// first. One device is answered once per `intervalMs`, since an answer costs us more than its question.
  package func oweStubs(_ debt: StubDebt, intervalMs: UInt64, nowMs: UInt64) throws {
    try execute(
      """
      INSERT INTO stub_exchange (kid, address, owed) VALUES (?1, ?2, ?3)
      ON CONFLICT (kid) DO UPDATE SET owed = ?3, address = ?2 WHERE answered_ms + ?4 <= ?5
      """,
      [
        .bytes(debt.kid.bytes), .text(debt.address.text), .bytes(encodeRanges(debt.ranges)),
        .number(intervalMs), .number(nowMs),
      ])
  }

  /// The stubs are sealed, in this transaction.
  package func settleStubDebt(to kid: Kid, nowMs: UInt64) throws {
    try execute(
      "UPDATE stub_exchange SET owed = NULL, answered_ms = ? WHERE kid = ?",
      [.number(nowMs), .bytes(kid.bytes)])
  }

  /// A device was asked for stubs, in this transaction.
  package func noteAsked(_ kid: Kid, address: String, nowMs: UInt64) throws {
    try execute(
      """
      INSERT INTO stub_exchange (kid, address, asked_ms, asks) VALUES (?1, ?2, ?3, 1)
      ON CONFLICT (kid) DO UPDATE SET asked_ms = ?3, asks = asks + 1
      """, [.bytes(kid.bytes), .text(address), .number(nowMs)])
  }

  /// The sender's device says that it knows nothing of these places: nobody is asked again, the alarm stays.
  package func noteUnknown(_ range: ClosedRange<UInt64>, from kid: Kid) throws {
    try execute(
      """
      UPDATE alarm SET code = ? WHERE kind = ? AND kid = ? AND resolved_ms IS NULL AND low >= ? AND high <= ?
      """,
      [
        .code(.notFound), .number(AlarmKind.gap.rawValue), .bytes(kid.bytes), .number(range.lowerBound),
        .number(range.upperBound),
      ])
  }
}

/// Recorded places looked at within one gap; a gap that is fuller than this is asked for piece by piece.
private let spanRowsMax = 10_000

/// The parts of a span between places that are there; those ascend.
package func missingRanges(of span: ClosedRange<UInt64>, present: [UInt64]) -> [ClosedRange<UInt64>] {
  var out: [ClosedRange<UInt64>] = []
  var next = span.lowerBound
  for seq in present where span.contains(seq) {
    if seq > next { out.append(next...(seq - 1)) }
    guard seq < span.upperBound else { return out }
    next = seq + 1
  }
  out.append(next...span.upperBound)
  return out
}

/// `(low u64 | high u64)…`, ascending and apart.
package func encodeRanges(_ ranges: [ClosedRange<UInt64>]) -> [UInt8] {
  fields { w in
    for range in ranges {
      w.field(range.lowerBound)
      w.field(range.upperBound)
    }
  }
}

/// Ranges that one request or answer names.
package let rangesMax = 64

package func parseRanges(_ bytes: ArraySlice<UInt8>) throws(CodecError) -> [ClosedRange<UInt64>] {
  var r = FieldReader(bytes)
  var ranges: [ClosedRange<UInt64>] = []
  try r.rest(maxCount: rangesMax) { (r) throws(CodecError) in
    let (low, high): (UInt64, UInt64) = (try r.integer(), try r.integer())
    guard low >= 1, low <= high, high < UInt64(Int64.max), ranges.last.map({ $0.upperBound < low }) ?? true
    else { throw .nonCanonical }
    ranges.append(low...high)
  }
  return ranges
}
