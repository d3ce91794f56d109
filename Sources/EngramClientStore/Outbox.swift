package import EngramCore

package enum OutboxState: UInt8, Sendable, CaseIterable {
  /// Sealed and durable here; the home node has not said that it has it.
  case waiting = 1
  /// The home node holds it; what is kept here is a stub.
  case accepted = 2
  /// The home node refused it for good.
  case refused = 3
  /// Called back before the home node had said that it has it.
  case cancelled = 4
}

/// A message that was sealed on this device.
package struct OutboxRow: Sendable {
  package let messageID: MessageID
  package let envelopeID: EnvelopeID
  package let state: OutboxState
  package let code: ErrorCode
  package let createdMs: UInt64
  package let expiresMs: UInt64
  package let attempts: Int
  /// The envelope while it waits, its stub afterwards.
  package let envelope: [UInt8]
}

private let outboxColumns = "message_id, envelope_id, state, code, created_ms, expires_ms, attempts, envelope"

extension ClientSnapshot {
  /// Envelopes that the home node has not confirmed, in the order in which they were sealed, whatever the
  /// clock did meanwhile; at least one if there is any, and then as many as fit into `maxBytes`.
  package func waiting(limit: Int, maxBytes: Int = .max) throws -> [OutboxRow] {
    let ids = try all(
      "SELECT message_id, length(envelope) FROM outbox WHERE state = 1 ORDER BY row LIMIT ?",
      [.number(limit)]
    ) { (id: try $0.id16(0) as MessageID, bytes: try $0.count(1)) }
    var rows: [OutboxRow] = []
    var bytes = 0
    for entry in ids {
      bytes += entry.bytes
      guard rows.isEmpty || bytes <= maxBytes else { break }
      if let row = try outbox(entry.id) { rows.append(row) }
    }
    return rows
  }

  package func outbox(_ id: MessageID) throws -> OutboxRow? {
    try first("SELECT \(outboxColumns) FROM outbox WHERE message_id = ?", [.bytes(id.bytes)], outboxRow)
  }

  package func outbox(envelope id: EnvelopeID) throws -> OutboxRow? {
    try first("SELECT \(outboxColumns) FROM outbox WHERE envelope_id = ?", [.bytes(id.bytes)], outboxRow)
  }

  /// The newest messages of this device, newest first.
  package func outbox(limit: Int) throws -> [OutboxRow] {
    try all(
      "SELECT \(outboxColumns) FROM outbox ORDER BY row DESC LIMIT ?", [.number(limit)],
      outboxRow)
  }

  private func outboxRow(_ c: Columns) throws -> OutboxRow {
    OutboxRow(
      messageID: try c.id16(0), envelopeID: try c.id32(1), state: try c.value(2), code: try c.code(3),
      createdMs: try c.number(4), expiresMs: try c.number(5), attempts: try c.count(6),
      envelope: try c.bytes(7))
  }
}

extension ClientTransaction {
  /// Keeps a sealed envelope. In the same transaction the chains to its recipients move on: a crash before
  /// the commit leaves neither, after it both, and only what is committed is ever transmitted.
  package func insertSealed(
    _ id: MessageID, envelope: EnvelopeID, bytes: [UInt8], createdMs: UInt64, expiresMs: UInt64
  ) throws {
    try execute(
      """
      INSERT INTO outbox (message_id, envelope_id, state, created_ms, expires_ms, envelope)
      VALUES (?, ?, 1, ?, ?, ?)
      """,
      [.bytes(id.bytes), .bytes(envelope.bytes), .number(createdMs), .number(expiresMs), .bytes(bytes)])
  }

  /// The home node answered for good. The body is replaced by its hash: the node holds it now, or nobody
  /// will.
  package func settle(_ id: MessageID, _ state: OutboxState, code: ErrorCode) throws {
    guard let row = try outbox(id), row.state == .waiting, state != .waiting else { return }
    let stub = (try? UnverifiedEnvelope(parsing: row.envelope)).map(stubBytes) ?? row.envelope
    try execute(
      "UPDATE outbox SET state = ?, code = ?, envelope = ?, attempts = attempts + 1 WHERE message_id = ?",
      [.number(state.rawValue), .code(code), .bytes(stub), .bytes(id.bytes)])
  }

  /// A transmission failed, or the node asked to try again later.
  package func noteAttempt(_ id: MessageID, code: ErrorCode) throws {
    try execute(
      "UPDATE outbox SET attempts = attempts + 1, code = ? WHERE message_id = ? AND state = 1",
      [.code(code), .bytes(id.bytes)])
  }
}
