package import EngramCore

/// What the application wants to say, before it is sealed: recipients are addresses, devices come later.
package struct Draft: Sendable, Equatable {
  package var kind = EnvelopeKind.message
  package var messageID: MessageID
  package var recipients: [Address]
  package var type: MessageType
  package var priority: Priority
  package var thread: ThreadID
  package var parent: EnvelopeID?
  package var createdMs: UInt64
  package var expiresMs: UInt64
  /// 0: deliver at once.
  package var notBeforeMs: UInt64
  package var contentType: String
  package var body: [UInt8]
  package var mayCompress: Bool
  /// By key, ascending.
  package var labels: [Label] = []
  package var topic = ""

  package init(
    messageID: MessageID, recipients: [Address], type: MessageType, priority: Priority, thread: ThreadID,
    parent: EnvelopeID?, createdMs: UInt64, expiresMs: UInt64, notBeforeMs: UInt64, contentType: String,
    body: [UInt8], mayCompress: Bool
  ) {
    (self.messageID, self.recipients, self.type, self.priority) = (messageID, recipients, type, priority)
    (self.thread, self.parent) = (thread, parent)
    (self.createdMs, self.expiresMs, self.notBeforeMs) = (createdMs, expiresMs, notBeforeMs)
    (self.contentType, self.body, self.mayCompress) = (contentType, body, mayCompress)
  }

  /// For the sealed column of the queue; not a format that leaves this machine.
  func encoded() -> [UInt8] {
    fields(capacity: body.count + 512) { w in
      w.field(messageID.bytes)
      w.list { list in for address in recipients { list.field(address.text) } }
      w.field(type.rawValue)
      w.field(priority.rawValue)
      w.field(thread.bytes)
      w.field(parent?.bytes ?? [])
      w.field(createdMs)
      w.field(expiresMs)
      w.field(notBeforeMs)
      w.field(contentType)
      w.field(UInt8(mayCompress ? 1 : 0))
      w.field(kind.rawValue)
      w.list { list in
        for label in labels {
          list.field(label.key)
          list.field(label.value)
        }
      }
      w.field(topic)
      w.field(body)
    }
  }

  init(parsing bytes: [UInt8]) throws(CodecError) {
    var r = FieldReader(bytes)
    messageID = try MessageID(field: try r.field(max: 16))
    var recipients: [Address] = []
    try r.list(maxCount: Limits.recipientsMax) { (list) throws(CodecError) in
      recipients.append(try Address(try list.field(max: Limits.addressBytesMax)))
    }
    self.recipients = recipients
    type = try known(MessageType(rawValue: try r.integer()))
    priority = try known(Priority(rawValue: try r.integer()))
    thread = try ThreadID(field: try r.field(max: 16))
    let parentBytes = try r.field(max: 32)
    parent = parentBytes.isEmpty ? nil : try EnvelopeID(field: parentBytes)
    createdMs = try r.integer()
    expiresMs = try r.integer()
    notBeforeMs = try r.integer()
    contentType = try r.string(max: Limits.contentTypeBytesMax)
    mayCompress = try r.integer(UInt8.self) == 1
    kind = try known(EnvelopeKind(rawValue: try r.integer()))
    labels = try parseLabels(&r)
    topic = try r.string(max: Limits.topicBytesMax)
    body = Array(try r.field(max: Limits.bodyBytesMax))
    try r.finish()
  }
}

/// A message that waits for a recipient's keys.
package struct QueuedRow: Sendable {
  package let draft: Draft
  package let attempts: Int
  /// Why it could not be sealed the last time.
  package let code: ErrorCode
}

private let queuedColumns = "message_id, content, attempts, code"

extension ClientSnapshot {
  /// Messages that wait for keys or have waited too long, in the order in which they were given, bodies
  /// opened.
  package func queued(limit: Int) throws -> [QueuedRow] {
    try all(
      "SELECT \(queuedColumns) FROM queued ORDER BY row LIMIT ?", [.number(limit)], queuedRow)
  }

  /// Those that still wait, from behind `after` on, in the order in which they were given.
  package func queuedAlive(after row: Int64 = 0, limit: Int) throws -> [(row: Int64, queued: QueuedRow)] {
    let rows = try all(
      "SELECT row, message_id FROM queued WHERE code <> ? AND row > ? ORDER BY row LIMIT ?",
      [.code(.expired), .number(row), .number(limit)]
    ) { (row: Int64(try $0.number(0)), id: try $0.id16(1) as MessageID) }
    return try rows.compactMap { row, id in try queued(id).map { (row, $0) } }
  }

  package func queued(_ id: MessageID) throws -> QueuedRow? {
    try first("SELECT \(queuedColumns) FROM queued WHERE message_id = ?", [.bytes(id.bytes)], queuedRow)
  }

  private func queuedRow(_ c: Columns) throws -> QueuedRow {
    let plain = try opened(try c.bytes(1), at: place("queued", "content", try c.bytes(0)))
    guard let draft = try? Draft(parsing: plain) else { throw ClientStoreError.damaged }
    return QueuedRow(draft: draft, attempts: try c.count(2), code: try c.code(3))
  }

  package func queuedCount() throws -> Int {
    try first("SELECT count(*) FROM queued") { try $0.count(0) } ?? 0
  }
}

extension ClientTransaction {
  /// Keeps a message that cannot be sealed yet; its body is sealed under the storage key.
  /// - Throws: `full` when too many wait already.
  package func enqueue(_ draft: Draft, code: ErrorCode) throws {
    guard try queuedCount() < ClientStoreLimits.queuedMax else { throw ClientStoreError.full }
    try execute(
      "INSERT INTO queued (message_id, content, created_ms, expires_ms, code) VALUES (?, ?, ?, ?, ?)",
      [
        .bytes(draft.messageID.bytes),
        .bytes(sealed(draft.encoded(), at: place("queued", "content", draft.messageID.bytes))),
        .number(draft.createdMs), .number(draft.expiresMs), .code(code),
      ])
  }

  package func noteQueued(_ id: MessageID, code: ErrorCode) throws {
    try execute(
      "UPDATE queued SET attempts = attempts + 1, code = ? WHERE message_id = ?",
      [.code(code), .bytes(id.bytes)])
  }

  /// Nobody could be found to seal for in time: the body goes, the entry stays for the person who wrote it.
  package func expireQueued(_ draft: Draft) throws {
    var empty = draft
    empty.body = []
    let place = place("queued", "content", draft.messageID.bytes)
    try execute(
      "UPDATE queued SET content = ?, code = ? WHERE message_id = ?",
      [.bytes(sealed(empty.encoded(), at: place)), .code(.expired), .bytes(draft.messageID.bytes)])
  }

  /// Takes a message off the queue: it was sealed in this transaction, or given up.
  package func dequeue(_ id: MessageID) throws {
    try execute("DELETE FROM queued WHERE message_id = ?", [.bytes(id.bytes)])
  }
}
