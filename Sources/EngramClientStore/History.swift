package import EngramCore
internal import EngramSealing

/// Bounds of what is kept of messages that were opened or sent here, with their reasons.
package enum HistoryLimits {
  /// Bodies are kept this long unless the owner of the home says otherwise: a quarter, after which a
  /// conversation is rarely taken up again.
  package static let retentionMs: UInt64 = 90 * 24 * 3_600 * 1_000
  package static let retentionMsMax: UInt64 = 10 * 365 * 24 * 3_600 * 1_000
  /// Headers stay this much longer than bodies, so that a late reply still finds thread and sender.
  package static let headersMs: UInt64 = 365 * 24 * 3_600 * 1_000
  /// Of one body's text; what comes later in it is not found.
  static let indexedBytesMax = 256 << 10
  /// Different words of one body that the index holds.
  static let indexedWordsMax = 10_000
  /// Messages indexed in one transaction: the home's lock is held for a fraction of a second.
  package static let indexedPerCommit = 200
}

/// What a message says about itself beside its body. Sealed at rest.
package struct HistoryHead: Sendable, Equatable {
  /// Each address once.
  package var recipients: [Address]
  package var labels: [Label]
  package var topic: String
  package var contentType: String
  package var expiresMs: UInt64
  package var notBeforeMs: UInt64
  package var bodyBytes: UInt64

  package init(_ header: EnvelopeHeader, contentType: String, bodyBytes: Int) {
    recipients = header.recipientAddresses
    (labels, topic, self.contentType) = (header.labels, header.topic, contentType)
    (expiresMs, notBeforeMs) = (header.expiresMs, header.notBeforeMs)
    self.bodyBytes = UInt64(bodyBytes)
  }

  func encoded() -> [UInt8] {
    fields(capacity: 512) { w in
      w.list { list in for address in recipients { list.field(address.text) } }
      w.list { list in
        for label in labels {
          list.field(label.key)
          list.field(label.value)
        }
      }
      w.field(topic)
      w.field(contentType)
      w.field(expiresMs)
      w.field(notBeforeMs)
      w.field(bodyBytes)
    }
  }

  init(parsing bytes: [UInt8]) throws(CodecError) {
    var r = FieldReader(bytes)
    var recipients: [Address] = []
    try r.list(maxCount: Limits.recipientsMax) { (list) throws(CodecError) in
      recipients.append(try Address(try list.field(max: Limits.addressBytesMax)))
    }
    self.recipients = recipients
    labels = try parseLabels(&r)
    topic = try r.string(max: Limits.topicBytesMax)
    contentType = try r.string(max: Limits.contentTypeBytesMax)
    expiresMs = try r.integer()
    notBeforeMs = try r.integer()
    bodyBytes = try r.integer()
    try r.finish()
  }
}

/// Labels as two fields each, of columns that never leave this machine.
func parseLabels(_ r: inout FieldReader) throws(CodecError) -> [Label] {
  var labels: [Label] = []
  try r.list(maxCount: Limits.labelsMax) { (list) throws(CodecError) in
    let key = try list.string(max: 63)
    labels.append(Label(key: key, value: try list.string(max: Limits.labelValueBytesMax)))
  }
  return labels
}

extension EnvelopeHeader {
  /// Each recipient's address once, in the header's order.
  package var recipientAddresses: [Address] {
    var addresses: [Address] = []
    for recipient in recipients where addresses.last != recipient.address {
      addresses.append(recipient.address)
    }
    return addresses
  }
}

/// A message that was opened or sent on this device, without its body.
package struct HistoryRow: Sendable, Equatable {
  /// Grows with every message that is kept, and is never used again.
  package let row: Int64
  package let envelopeID: EnvelopeID
  package let messageID: MessageID
  /// Sent from this device.
  package let isOwn: Bool
  package let sender: Address
  package let senderKid: Kid
  /// Its place in its sender's chain to this device; 0 for our own.
  package let chainSeq: UInt64
  package let thread: ThreadID
  package let parent: EnvelopeID?
  package let type: MessageType
  package let priority: Priority
  package let createdMs: UInt64
  package let keptMs: UInt64
  /// Received, and the application has not acknowledged it.
  package let isOpen: Bool
  package let hasBody: Bool
  package let head: HistoryHead
}

private let columns = """
  h.row, h.envelope_id, h.message_id, h.is_own, h.sender, h.sender_kid, h.chain_seq, h.thread, h.parent, \
  h.type, h.priority, h.created_ms, h.kept_ms, h.content IS NOT NULL, h.head, \
  EXISTS (SELECT 1 FROM inbox AS i WHERE i.envelope_id = h.envelope_id AND i.receipt IS NULL)
  """

extension ClientSnapshot {
  /// Rows of the history by a condition on `h`.
  func history(
    from source: String = "history AS h", where condition: String, _ arguments: [Argument]
  ) throws -> [HistoryRow] {
    try all("SELECT \(columns) FROM \(source) WHERE \(condition)", arguments) { c in
      let id: EnvelopeID = try c.id32(1)
      return HistoryRow(
        row: Int64(try c.number(0)), envelopeID: id, messageID: try c.id16(2), isOwn: try c.flag(3),
        sender: try c.address(4), senderKid: try c.id16(5), chainSeq: try c.number(6), thread: try c.id16(7),
        parent: try c.optionalID32(8), type: try c.value(9), priority: try c.value(10),
        createdMs: try c.number(11), keptMs: try c.number(12), isOpen: try c.flag(15),
        hasBody: try c.flag(13), head: try openedHead(try c.bytes(14), of: id))
    }
  }

  func openedHead(_ bytes: [UInt8], of id: EnvelopeID) throws -> HistoryHead {
    let plain = try opened(bytes, at: place("history", "head", id.bytes))
    guard let head = try? HistoryHead(parsing: plain) else { throw ClientStoreError.damaged }
    return head
  }

  package func message(_ id: EnvelopeID) throws -> HistoryRow? {
    try history(where: "h.envelope_id = ?", [.bytes(id.bytes)]).first
  }

  /// Messages under a sender's message id: one, unless two senders chose the same.
  package func messages(_ id: MessageID) throws -> [HistoryRow] {
    try history(where: "h.message_id = ? ORDER BY h.row LIMIT 10", [.bytes(id.bytes)])
  }

  /// Its body, or nil when it is not kept any more.
  package func body(of id: EnvelopeID) throws -> [UInt8]? {
    let sealed = try first("SELECT content FROM history WHERE envelope_id = ?", [.bytes(id.bytes)]) {
      try $0.optionalBytes(0)
    }
    guard let sealed, let sealed else { return nil }
    return try opened(sealed, at: place("history", "content", id.bytes))
  }

  /// How long bodies are kept; 0 keeps none beyond their acknowledgement.
  package func historyRetentionMs() throws -> UInt64 {
    try first("SELECT history_ms FROM account") { try $0.number(0) } ?? HistoryLimits.retentionMs
  }

  /// How many messages are kept, how many of them with their bodies, and when the oldest was kept.
  package func historySize() throws -> (messages: Int, bodies: Int, oldestMs: UInt64?) {
    try first("SELECT count(*), count(content), min(kept_ms) FROM history") {
      (try $0.count(0), try $0.count(1), try $0.optionalNumber(2))
    } ?? (0, 0, nil)
  }
}

extension ClientTransaction {
  /// Keeps a received message in the transaction that opened it.
  func keepReceived(_ message: OpenedMessage, nowMs: UInt64) throws {
    let header = message.header
    let head = HistoryHead(header, contentType: message.contentType, bodyBytes: message.body.count)
    // A message to oneself was kept when it was sent.
    try insertHistory(
      header, message.id, isOwn: false, chainSeq: message.chain.seq, head: head, body: message.body,
      nowMs: nowMs)
  }

  /// Keeps a message in the transaction that seals it.
  package func keepSent(
    _ header: EnvelopeHeader, _ id: EnvelopeID, contentType: String, body: [UInt8], nowMs: UInt64
  ) throws {
    let head = HistoryHead(header, contentType: contentType, bodyBytes: body.count)
    let isKept = try historyRetentionMs() > 0
    try insertHistory(
      header, id, isOwn: true, chainSeq: 0, head: head, body: isKept ? body : nil, nowMs: nowMs)
  }

  private func insertHistory(
    _ header: EnvelopeHeader, _ id: EnvelopeID, isOwn: Bool, chainSeq: UInt64, head: HistoryHead,
    body: [UInt8]?, nowMs: UInt64
  ) throws {
    let content = body.map { sealed($0, at: place("history", "content", id.bytes)) }
    try execute(
      """
      INSERT INTO history (envelope_id, message_id, is_own, sender, sender_kid, chain_seq, thread, parent,
        type, priority, created_ms, kept_ms, head, content)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (envelope_id) DO UPDATE SET content = ifnull(content, excluded.content)
      """,
      [
        .bytes(id.bytes), .bytes(header.messageID.bytes), .flag(isOwn), .text(header.sender.text),
        .bytes(header.senderKid.bytes), .number(chainSeq), .bytes(header.thread.bytes),
        .bytes(header.parent?.bytes), .number(header.type.rawValue), .number(header.priority.rawValue),
        .number(header.createdMs), .number(nowMs),
        .bytes(sealed(head.encoded(), at: place("history", "head", id.bytes))), .bytes(content),
      ])
  }

  /// From now on; what is older than that goes with the next purge.
  package func setHistoryRetention(ms: UInt64) throws {
    try execute("UPDATE account SET history_ms = ?", [.number(min(ms, HistoryLimits.retentionMsMax))])
  }

  /// Erases the body of one message and what the index knows of it; recipients and labels stay.
  func eraseBody(of id: EnvelopeID) throws {
    try execute(
      "UPDATE history_text SET words = '' WHERE rowid = (SELECT row FROM history WHERE envelope_id = ?)",
      [.bytes(id.bytes)])
    try execute("UPDATE history SET content = NULL WHERE envelope_id = ?", [.bytes(id.bytes)])
  }

  /// Erases bodies past their retention, and messages whole a year later. What the application has not
  /// acknowledged stays.
  package func purgeHistory(nowMs: UInt64) throws {
    let retention = try historyRetentionMs()
    func before(_ ms: UInt64) -> Argument { .number(nowMs > ms ? nowMs - ms : 0) }
    try eraseBodies(keptBy: before(retention))
    let end = before(retention + HistoryLimits.headersMs)
    try execute(
      "DELETE FROM history_text WHERE rowid IN (SELECT row FROM history WHERE kept_ms <= ? AND \(isDone))",
      [end])
    try execute("DELETE FROM history WHERE kept_ms <= ? AND \(isDone)", [end])
  }

  /// Erases every body that the application is done with.
  package func eraseBodies() throws { try eraseBodies(keptBy: .number(Int64.max)) }

  private func eraseBodies(keptBy end: Argument) throws {
    try execute(
      """
      UPDATE history_text SET words = '' WHERE rowid IN (
        SELECT row FROM history WHERE kept_ms <= ? AND content IS NOT NULL AND \(isDone))
      """, [end])
    try execute(
      "UPDATE history SET content = NULL WHERE kept_ms <= ? AND content IS NOT NULL AND \(isDone)", [end])
  }
}

private let isDone = """
  NOT EXISTS (SELECT 1 FROM inbox AS i WHERE i.envelope_id = history.envelope_id AND i.receipt IS NULL)
  """
