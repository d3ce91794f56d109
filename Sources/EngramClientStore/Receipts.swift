package import EngramCore
package import EngramCrypto

/// A verified statement about a message of ours.
package struct ReceiptRow: Sendable, Equatable {
  package let recipient: Address?
  package let recipientKid: Kid?
  package let role: ReceiptRole
  package let issuer: String
  package let state: ReceiptState
  package let code: ErrorCode
  package let attempt: UInt32
  package let atMs: UInt64
}

extension ClientSnapshot {
  /// Everything that was said about an envelope, in order of time.
  package func receipts(of id: EnvelopeID) throws -> [ReceiptRow] {
    try all(
      """
      SELECT recipient, recipient_kid, role, issuer, state, code, attempt, at_ms FROM receipt
      WHERE envelope_id = ? ORDER BY at_ms, state
      """,
      [.bytes(id.bytes)]
    ) { c in
      let address = try c.text(0)
      return ReceiptRow(
        recipient: address.isEmpty ? nil : try c.address(0), recipientKid: Kid(try c.bytes(1)),
        role: try c.value(2), issuer: try c.text(3), state: try c.value(4), code: try c.code(5),
        attempt: UInt32(clamping: try c.number(6)), atMs: try c.number(7))
    }
  }
}

extension ClientSnapshot {
  /// The receipts themselves, in order of time: what can be verified again.
  package func receiptBytes(of id: EnvelopeID) throws -> [[UInt8]] {
    try all(
      "SELECT bytes FROM receipt WHERE envelope_id = ? ORDER BY at_ms, state", [.bytes(id.bytes)]
    ) { try $0.bytes(0) }
  }
}

extension ClientTransaction {
  /// Applies a receipt once per (envelope id, issuer, recipient, state, attempt): nodes of several
  /// organisations may each speak about the whole of one envelope.
  /// - Returns: false when it was known.
  @discardableResult
  package func insertReceipt(_ receipt: VerifiedReceipt) throws -> Bool {
    let body = receipt.body
    return try execute(
      """
      INSERT INTO receipt
        (envelope_id, recipient, recipient_kid, state, attempt, role, issuer, code, at_ms, bytes)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
      """,
      [
        .bytes(body.envelope.bytes), .text(body.recipient?.text ?? ""),
        .bytes(body.recipientKid?.bytes ?? []),
        .number(body.state.rawValue), .number(body.attempt), .number(body.role.rawValue),
        .text(body.issuerName),
        .code(body.code), .number(body.atMs), .bytes(receipt.bytes),
      ]) > 0
  }
}
