package import EngramCore
internal import EngramCrypto
package import EngramSealing

/// One of our own prekeys, as others see it.
package struct PrekeyRow: Sendable, Equatable {
  package let id: PrekeyID
  package let kind: PrekeyKind
  /// Signed by the device, for the directory.
  package let certified: [UInt8]
  package let notBeforeMs: UInt64
  package let notAfterMs: UInt64
  package let isPublished: Bool
}

extension ClientSnapshot {
  /// The secret of a prekey, or nil when it never existed, was used (one-time) or was erased.
  package func prekeySecret(_ id: PrekeyID) throws -> PrekeySecret? {
    let sealed = try first("SELECT secret FROM prekey WHERE id = ?", [.bytes(id.bytes)]) { try $0.bytes(0) }
    guard let sealed else { return nil }
    guard let seed = box.openSecret(sealed, at: place("prekey", "secret", id.bytes)),
      seed.count == PrekeySecret.seedBytes
    else { throw ClientStoreError.damaged }
    return PrekeySecret(seed: seed)
  }

  /// The signed prekey that starts latest, of those that start by then: one that was dated by a wrong clock
  /// stands in nobody's way.
  package func newestSignedPrekey(startedBy nowMs: UInt64 = UInt64(Int64.max)) throws -> PrekeyRow? {
    try first(
      """
      SELECT id, kind, certified, not_before_ms, not_after_ms, published FROM prekey
      WHERE kind = 1 AND not_before_ms <= ? ORDER BY not_before_ms DESC, id LIMIT 1
      """, [.number(nowMs)]
    ) { c in
      PrekeyRow(
        id: try c.id16(0), kind: try c.value(1), certified: try c.bytes(2), notBeforeMs: try c.number(3),
        notAfterMs: try c.number(4), isPublished: try c.flag(5))
    }
  }
}

extension ClientTransaction {
  /// Keeps a fresh prekey. Its secret is on the disk before anybody can seal to it.
  /// - Parameter eraseMs: when the secret goes: `not_after` plus the longest life of a message we accept.
  package func insertPrekey(
    _ secret: PrekeySecret, kind: PrekeyKind, certified: [UInt8], notBeforeMs: UInt64, notAfterMs: UInt64,
    eraseMs: UInt64
  ) throws {
    let id = secret.id
    try execute(
      """
      INSERT INTO prekey (id, kind, secret, certified, not_before_ms, not_after_ms, erase_ms, published)
      VALUES (?, ?, ?, ?, ?, ?, ?, 0)
      """,
      [
        .bytes(id.bytes), .number(kind.rawValue),
        .bytes(box.seal(secret.seed(), at: place("prekey", "secret", id.bytes))),
        .bytes(certified), .number(notBeforeMs), .number(notAfterMs), .number(eraseMs),
      ])
  }

  package func markPrekeyPublished(_ id: PrekeyID) throws {
    try execute("UPDATE prekey SET published = 1 WHERE id = ?", [.bytes(id.bytes)])
  }

  /// Erases a one-time prekey in the transaction that keeps what it opened; signed ones stay for others.
  package func consumePrekey(_ id: PrekeyID, kind: PrekeyKind) throws {
    guard kind == .oneTime else { return }
    try execute("DELETE FROM prekey WHERE id = ? AND kind = 2", [.bytes(id.bytes)])
  }

  /// Erases every secret whose time has come.
  /// - Returns: how many went.
  @discardableResult
  package func erasePrekeys(nowMs: UInt64) throws -> Int {
    try execute("DELETE FROM prekey WHERE erase_ms <= ?", [.number(nowMs)])
  }
}
