package import EngramCore

/// The columns that `messageInfo` decodes, in its order, from `message`.
let infoColumns = """
  seq, dedupe, envelope_id, sender, sender_kid, type, priority, created_ms, expires_ms,
  not_before_ms, origin, accepted_ms, open, check_sum, info_sum
  """
/// Where columns after `infoColumns` begin.
let infoColumnCount: Int32 = 15

// Built once: these run for every message.
enum MessageSQL {
  static let insert = """
    INSERT INTO message (dedupe, envelope_id, sender, sender_kid, type, priority, created_ms, expires_ms,
      not_before_ms, origin, accepted_ms, open, check_sum, info_sum)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (dedupe) DO NOTHING
    """
  static let find = "SELECT \(infoColumns) FROM message WHERE dedupe = ?"
  static let info = "SELECT \(infoColumns) FROM message WHERE seq = ?"
  static let load = """
    SELECT \(infoColumns), length(b.bytes), b.bytes
    FROM message JOIN body AS b ON b.message = seq WHERE seq = ?
    """
}

/// A message's row and the sum its bytes must have.
struct CheckedInfo {
  let info: MessageInfo
  let checkSum: CheckSum
}

/// Decodes and checks everything but the bytes.
func messageInfo(_ fields: Fields) throws(StoreError) -> CheckedInfo {
  guard let type = UInt8(exactly: try fields.integer(5)).flatMap(MessageType.init(rawValue:)),
    let priority = UInt8(exactly: try fields.integer(6)).flatMap(Priority.init(rawValue:))
  else { throw fields.damaged }
  let info = MessageInfo(
    message: try fields.integer(0), dedupe: try fields.identifier(1, as: Digest.self),
    envelopeID: try fields.identifier(2, as: EnvelopeID.self), sender: try fields.address(3),
    senderKid: try fields.identifier(4, as: Kid.self), type: type, priority: priority,
    createdMs: try fields.bits(7), expiresMs: try fields.ordered(8), notBeforeMs: try fields.bits(9),
    origin: try fields.integer(10), acceptedMs: try fields.bits(11), open: try fields.count(12))
  let sum = try fields.identifier(13, as: CheckSum.self)
  guard infoSum(info, checkSum: sum) == (try fields.identifier(14, as: CheckSum.self)) else {
    throw fields.damaged
  }
  return CheckedInfo(info: info, checkSum: sum)
}

extension StoreSnapshot {
  /// The message with this deduplication key, done or not.
  package func message(_ dedupe: Digest) throws(StoreError) -> MessageRow? {
    let found = try first(.findMessage, .message, key: 0, bind: { $0.identifier(dedupe) }, messageInfo)
    guard let found else { return nil }
    return MessageRow(info: found.info, bytes: try body(of: found))
  }

  /// The envelope behind a deduplication key, while that is remembered; nothing else is looked at.
  package func envelopeID(_ dedupe: Digest) throws(StoreError) -> EnvelopeID? {
    try first(.findEnvelope, .message, bind: { $0.identifier(dedupe) }) {
      try $0.identifier(0, as: EnvelopeID.self)
    }
  }

  /// What is left of a message that was found damaged: its bytes as they are, unchecked. Nil when its columns
  /// cannot be trusted either, or the bytes are gone.
  package func remains(of message: Int64) throws(StoreError) -> (info: MessageInfo, bytes: [UInt8])? {
    do throws(StoreError) {
      let sql = "SELECT \(infoColumns) FROM message WHERE seq = ?"
      guard let found = try first(sql, [.integer(message)], .message, key: 0, messageInfo) else { return nil }
      let bytes = try first("SELECT bytes FROM body WHERE message = ?", [.integer(message)], .message) {
        try $0.bytes(0)
      }
      return bytes.map { (found.info, $0) }
    } catch {
      guard case .damaged = error else { throw error }
      return nil
    }
  }

  /// The bytes of an open message, checked; nil for one that is done.
  func body(of message: CheckedInfo) throws(StoreError) -> [UInt8]? {
    let number = message.info.message
    let sql = "SELECT bytes FROM body WHERE message = ?"
    guard let bytes = try first(sql, [.integer(number)], .message, { try $0.bytes(0) }) else {
      guard message.info.open == 0 else { throw .damaged(.message, row: number) }
      return nil
    }
    guard checkSum(bytes) == message.checkSum else { throw .damaged(.message, row: number) }
    return bytes
  }
}

extension StoreTransaction {
  /// Stores a message unless its deduplication key is there already, in which case nothing changes.
  /// - Throws: `outOfRange` for an expiry above 2^63 - 1; `damaged` when the row that is there cannot be
  ///   trusted.
  package func insertMessage(_ message: NewMessage) throws(StoreError) -> InsertOutcome {
    let sum = checkSum(message.bytes)
    let inserted = try execute(.insertMessage) { (row) throws(StoreError) in
      row.identifier(message.dedupe)
      row.identifier(message.envelopeID)
      row.text(message.sender.text)
      row.identifier(message.senderKid)
      row.integer(Int64(message.type.rawValue))
      row.integer(Int64(message.priority.rawValue))
      row.bits(message.createdMs)
      try row.ordered(message.expiresMs)
      row.bits(message.notBeforeMs)
      row.integer(message.origin)
      row.bits(message.acceptedMs)
      row.integer(message.openDeliveries)
      row.identifier(sum)
      row.identifier(infoSum(message.info, checkSum: sum))
    }
    guard inserted == 1 else { return try known(message.dedupe) }
    let number = lastInsertedRow
    // A message without deliveries (everything about it was decided at once) only serves deduplication.
    if message.openDeliveries > 0 {
      try insertBody(of: number, message.bytes)
    }
    return .inserted(message: number)
  }

  private func insertBody(of message: Int64, _ bytes: [UInt8]) throws(StoreError) {
    let result = bytes.withUnsafeBytes { bytes -> Result<Int, StoreError> in
      Result { () throws(StoreError) in
        try execute(.insertBody) { (row) throws(StoreError) in
          row.integer(message)
          row.lent(bytes)
        }
      }
    }
    _ = try result.get()
  }

  private func known(_ dedupe: Digest) throws(StoreError) -> InsertOutcome {
    let found = try first(.findMessage, .message, key: 0, bind: { $0.identifier(dedupe) }, messageInfo)
    guard let found else { throw .missing(.message) }
    return .exists(envelope: found.info.envelopeID, acceptedMs: found.info.acceptedMs)
  }

  /// Counts `done` deliveries off; with the last one the bytes go, and `secure_delete` overwrites them.
  func settle(_ info: inout MessageInfo, done: Int) throws(StoreError) {
    info.open = max(0, info.open - done)
    let (open, message) = (info.open, info.message)
    try execute(.countOff) {
      $0.integer(open)
      $0.integer(message)
    }
    if open == 0 { try execute(.wipeBody) { $0.integer(message) } }
  }
}
