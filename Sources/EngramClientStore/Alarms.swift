package import EngramCore

/// What a person should know about. Never sent to anyone.
package enum AlarmKind: UInt8, Sendable, CaseIterable {
  /// Messages of a chain are missing; resolves itself when they arrive.
  case gap = 1
  /// Two messages claim one place in a chain, or one message id stands for two envelopes.
  case fork = 2
  /// Another identity key was offered for a pinned address.
  case identityChanged = 3
  /// A message could not be verified or opened.
  case unopened = 4
  /// A receipt was not signed by whom it had to be.
  case receiptRefused = 5
}

package struct AlarmRow: Sendable, Equatable {
  package var id: Int64
  package var kind: AlarmKind
  package var atMs: UInt64
  package var address: String
  package var kid: Kid?
  package var envelope: EnvelopeID?
  package var code: ErrorCode
  /// The missing places of a gap.
  package var missing: ClosedRange<UInt64>?
  package var resolvedMs: UInt64?
}

extension ClientSnapshot {
  /// The newest alarms, newest first.
  package func alarms(limit: Int = 100) throws -> [AlarmRow] {
    try all(
      """
      SELECT id, kind, at_ms, address, kid, envelope, code, low, high, resolved_ms FROM alarm
      ORDER BY id DESC LIMIT ?
      """, [.number(limit)]
    ) { c in
      let (low, high) = (try c.number(7), try c.number(8))
      return AlarmRow(
        id: Int64(try c.number(0)), kind: try c.value(1), atMs: try c.number(2), address: try c.text(3),
        kid: try c.optionalBytes(4).flatMap { Kid($0) }, envelope: try c.optionalID32(5), code: try c.code(6),
        missing: high > 0 && low <= high ? low...high : nil, resolvedMs: try c.optionalNumber(9))
    }
  }
}

extension ClientTransaction {
  /// Raises an alarm; the same one stands once, and is raised anew when it was resolved.
  /// - Returns: false when it stands already.
  @discardableResult
  package func raise(
    _ kind: AlarmKind, _ code: ErrorCode, address: String, kid: Kid? = nil, envelope: EnvelopeID? = nil,
    missing: ClosedRange<UInt64>? = nil, nowMs: UInt64
  ) throws -> Bool {
    try execute(
      """
      INSERT INTO alarm (kind, at_ms, address, kid, envelope, code, low, high) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET resolved_ms = NULL, at_ms = excluded.at_ms WHERE resolved_ms IS NOT NULL
      """,
      [
        .number(kind.rawValue), .number(nowMs), .text(address), .bytes(kid?.bytes), .bytes(envelope?.bytes),
        .code(code), .number(missing?.lowerBound ?? 0), .number(missing?.upperBound ?? 0),
      ]) > 0
  }

  /// The identity in question was approved.
  package func resolveIdentityAlarms(_ address: Address, nowMs: UInt64) throws {
    try execute(
      "UPDATE alarm SET resolved_ms = ? WHERE kind = ? AND address = ? AND resolved_ms IS NULL",
      [.number(nowMs), .number(AlarmKind.identityChanged.rawValue), .text(address.text)])
  }
}
