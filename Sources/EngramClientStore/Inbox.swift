package import EngramCore
package import EngramSealing

/// A received message that the application has not acknowledged.
package struct InboxRow: Sendable {
  /// Ascends with arrival.
  package let row: Int64
  package let envelopeID: EnvelopeID
  package let sender: Address
  package let senderKid: Kid
  package let messageID: MessageID
  package let thread: ThreadID
  package let parent: EnvelopeID?
  package let type: MessageType
  package let priority: Priority
  package let createdMs: UInt64
  package let receivedMs: UInt64
  /// Messages of the same sender were missing when it came.
  package let isAfterGap: Bool
  package let head: HistoryHead
  package let body: [UInt8]
}

/// What is known about an envelope that comes again.
package struct InboxState: Sendable, Equatable {
  package let seq: UInt64
  /// The device's signed word about it, once there is one.
  package let receipt: [UInt8]?
}

extension ClientSnapshot {
  package func inboxState(_ id: EnvelopeID) throws -> InboxState? {
    try first("SELECT seq, receipt FROM inbox WHERE envelope_id = ?", [.bytes(id.bytes)]) { c in
      InboxState(seq: try c.number(0), receipt: try c.optionalBytes(1))
    }
  }

  /// The envelope for which a sender's message id stands here.
  package func envelope(of message: MessageID, sender: Address, kid: Kid) throws -> EnvelopeID? {
    try first(
      "SELECT envelope_id FROM inbox WHERE sender = ? AND sender_kid = ? AND message_id = ?",
      [.text(sender.text), .bytes(kid.bytes), .bytes(message.bytes)]
    ) { try $0.id32(0) }
  }

  /// Messages that the application has not acknowledged, in order of arrival. What is leased belongs to
  /// consumers.
  package func unacknowledged(after row: Int64, limit: Int) throws -> [InboxRow] {
    try received(
      """
      WHERE i.row > ? AND i.receipt IS NULL
        AND NOT EXISTS (SELECT 1 FROM leased AS l WHERE l.envelope_id = i.envelope_id)
      ORDER BY i.row LIMIT ?
      """, [.number(row), .number(limit)])
  }

  /// Rows of messages that the application has not acknowledged, in order of arrival, with their priorities.
  package func unacknowledgedHeads(
    after row: Int64, limit: Int
  ) throws -> [(row: Int64, priority: Priority)] {
    try all(
      """
      SELECT i.row, i.priority FROM inbox AS i WHERE i.row > ? AND i.receipt IS NULL
        AND NOT EXISTS (SELECT 1 FROM leased AS l WHERE l.envelope_id = i.envelope_id)
      ORDER BY i.row LIMIT ?
      """, [.number(row), .number(limit)]
    ) { (Int64(try $0.number(0)), try $0.value(1)) }
  }

  /// Nil when it was acknowledged meanwhile, or belongs to a consumer.
  package func unacknowledged(row: Int64) throws -> InboxRow? {
    try received(
      """
      WHERE i.row = ? AND i.receipt IS NULL
        AND NOT EXISTS (SELECT 1 FROM leased AS l WHERE l.envelope_id = i.envelope_id)
      """, [.number(row)]
    ).first
  }

  /// Rows of the inbox with what was in them, those that `condition` says (`i` is the inbox).
  func received(_ condition: String, _ arguments: [Argument]) throws -> [InboxRow] {
    try all(
      """
      SELECT i.row, i.envelope_id, i.sender, i.sender_kid, i.message_id, i.thread, i.parent, i.type,
        i.priority, i.created_ms, i.received_ms, i.after_gap, h.head, h.content
      FROM inbox AS i JOIN history AS h ON h.envelope_id = i.envelope_id
      """ + " " + condition, arguments
    ) { c in
      let id: EnvelopeID = try c.id32(1)
      return InboxRow(
        row: Int64(try c.number(0)), envelopeID: id, sender: try c.address(2), senderKid: try c.id16(3),
        messageID: try c.id16(4), thread: try c.id16(5), parent: try c.optionalID32(6), type: try c.value(7),
        priority: try c.value(8), createdMs: try c.number(9), receivedMs: try c.number(10),
        isAfterGap: try c.flag(11), head: try openedHead(try c.bytes(12), of: id),
        body: try opened(try c.bytes(13), at: place("history", "content", id.bytes)))
    }
  }

  /// Header facts that a receipt needs, of a message still unacknowledged.
  package func acknowledgeable(_ id: EnvelopeID) throws -> (
    seq: UInt64, sender: Address, kid: Kid, message: MessageID
  )? {
    try first(
      "SELECT seq, sender, sender_kid, message_id FROM inbox WHERE envelope_id = ? AND receipt IS NULL",
      [.bytes(id.bytes)]
    ) { (try $0.number(0), try $0.address(1), try $0.id16(2), try $0.id16(3)) }
  }

  /// Receipts that are signed, and of which the node has not said that it has them.
  package func unsettled(limit: Int) throws -> [(id: EnvelopeID, ack: MailboxAck)] {
    try all(
      """
      SELECT envelope_id, seq, receipt FROM inbox WHERE settled = 0 AND receipt IS NOT NULL
      ORDER BY row LIMIT ?
      """,
      [.number(limit)]
    ) { (try $0.id32(0), MailboxAck(seq: try $0.number(1), receipt: try $0.bytes(2))) }
  }
}

extension ClientTransaction {
  /// Keeps an opened message, its body sealed under the storage key. Chain and prekey go in the same
  /// transaction.
  package func insertMessage(_ message: OpenedMessage, seq: UInt64, isAfterGap: Bool, nowMs: UInt64) throws {
    try keepReceived(message, nowMs: nowMs)
    try insert(
      message.header, message.id, seq: seq, isAfterGap: isAfterGap, receipt: nil, nowMs: nowMs)
  }

  /// Remembers a message that was answered at once, refused ones above all, with the receipt that says so:
  /// the same answer if it comes again.
  package func insertAnswered(
    _ header: EnvelopeHeader, _ id: EnvelopeID, seq: UInt64, receipt: [UInt8], nowMs: UInt64
  ) throws {
    try insert(header, id, seq: seq, isAfterGap: false, receipt: receipt, nowMs: nowMs)
  }

  private func insert(
    _ header: EnvelopeHeader, _ id: EnvelopeID, seq: UInt64, isAfterGap: Bool, receipt: [UInt8]?,
    nowMs: UInt64
  ) throws {
    try execute(
      """
      INSERT INTO inbox (envelope_id, seq, sender, sender_kid, message_id, thread, parent, type, priority,
        created_ms, expires_ms, received_ms, after_gap, receipt)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      """,
      [
        .bytes(id.bytes), .number(seq), .text(header.sender.text), .bytes(header.senderKid.bytes),
        .bytes(header.messageID.bytes), .bytes(header.thread.bytes), .bytes(header.parent?.bytes),
        .number(header.type.rawValue), .number(header.priority.rawValue), .number(header.createdMs),
        .number(header.expiresMs), .number(nowMs), .flag(isAfterGap), .bytes(receipt),
      ])
  }

  /// The node may deliver the same message under another number.
  package func updateSeq(_ id: EnvelopeID, seq: UInt64) throws {
    try execute(
      "UPDATE inbox SET seq = ?, settled = 0 WHERE envelope_id = ?", [.number(seq), .bytes(id.bytes)])
  }

  /// The application has taken the message: the signed receipt stays, and the body for as long as the
  /// history keeps it.
  package func complete(_ id: EnvelopeID, receipt: [UInt8]) throws {
    try execute(
      "UPDATE inbox SET receipt = ? WHERE envelope_id = ? AND receipt IS NULL",
      [.bytes(receipt), .bytes(id.bytes)])
    if try historyRetentionMs() == 0 { try eraseBody(of: id) }
  }

  /// The node has the receipts. A message that meanwhile came under another number stays open: the node asks
  /// about that one again.
  package func settle(_ settled: [(id: EnvelopeID, seq: UInt64)]) throws {
    for entry in settled {
      try execute(
        "UPDATE inbox SET settled = 1 WHERE envelope_id = ? AND seq = ?",
        [.bytes(entry.id.bytes), .number(entry.seq)])
    }
  }
}
