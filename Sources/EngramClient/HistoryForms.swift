internal import EngramClientStore
internal import EngramCore

/// A message that was opened or sent on this device and is kept here, encrypted.
public struct HistoryMessage: Sendable {
  public let envelopeID: String
  public let messageID: String
  /// Sent from this device.
  public let isOwn: Bool
  public let from: String
  public let fromDevice: String
  public let to: [String]
  public let thread: String
  public let replyTo: String?
  public let type: String
  public let priority: String
  public let labels: [String: String]
  public let topic: String?
  public let createdMs: UInt64
  public let expiresMs: UInt64
  public let notBeforeMs: UInt64?
  /// When it was opened or sealed here.
  public let keptMs: UInt64
  /// Of our own: as the receipts say. Of others: `delivered` until it is acknowledged here, then `processed`.
  public let state: DeliveryStatus
  public let contentType: String
  public let quotes: [Quote]
  public let bodyBytes: Int
  /// nil when it was not asked for, or is not kept any more.
  public let body: [UInt8]?
  /// Whether the body is still kept.
  public let hasBody: Bool
}

/// A page of a listing. Pages do not shift when messages arrive between them.
public struct Page<Item: Sendable>: Sendable {
  public let items: [Item]
  /// Asks for what follows; nil at the end.
  public let next: String?
}

/// A conversation as this device knows it.
public struct ThreadSummary: Sendable {
  public let thread: String
  public let messages: Int
  /// Received and not acknowledged.
  public let open: Int
  /// Who wrote in it.
  public let senders: [String]
  public let firstMs: UInt64
  public let lastMs: UInt64
  /// The newest message, with its body if that is text and still kept.
  public let last: HistoryMessage
}

/// A message at its place in a thread.
public struct ThreadMessage: Sendable {
  public let message: HistoryMessage
  /// How many of the messages it answers, one answering the other, are here.
  public let depth: Int
  /// It answers a message that is not here: not yet, not any more, or never meant for this device.
  public let isParentMissing: Bool
}

extension HistoryMessage {
  init(_ row: HistoryRow, in rows: ClientSnapshot, withBody: Bool) throws {
    let content = QuotedContentType(parsing: row.head.contentType)
    let state: DeliveryStatus =
      row.isOwn
      ? try rows.sentState(row.envelopeID) ?? .processed : row.isOpen ? .delivered : .processed
    self.init(
      envelopeID: row.envelopeID.description, messageID: row.messageID.description, isOwn: row.isOwn,
      from: row.sender.text, fromDevice: row.senderKid.description, to: row.head.recipients.map(\.text),
      thread: row.thread.description, replyTo: row.parent?.description, type: row.type.name,
      priority: row.priority.name, labels: row.head.labels.dictionary,
      topic: row.head.topic.isEmpty ? nil : row.head.topic, createdMs: row.createdMs,
      expiresMs: row.head.expiresMs, notBeforeMs: row.head.notBeforeMs == 0 ? nil : row.head.notBeforeMs,
      keptMs: row.keptMs, state: state, contentType: content.contentType, quotes: content.quotes,
      bodyBytes: Int(clamping: row.head.bodyBytes),
      body: withBody && row.hasBody ? try rows.body(of: row.envelopeID) : nil, hasBody: row.hasBody)
  }
}

extension ClientSnapshot {
  /// A kept message by envelope id, or by message id where that names one.
  func kept(_ text: String) throws -> HistoryRow {
    guard let id = bytes(hex: text) else { throw EngramError.notKept }
    if let envelope = EnvelopeID(id), let row = try message(envelope) { return row }
    if let message = MessageID(id) {
      let rows = try messages(message)
      if rows.count == 1 { return rows[0] }
    }
    throw EngramError.notKept
  }
}

extension EngramError {
  static var notKept: EngramError {
    EngramError(
      .badInput, name: "no-such-message", "no such message is kept on this device",
      hint: "`engram search` and `engram thread list` show what is; give the id in full")
  }
}
