internal import EngramClientStore
internal import EngramCore

extension EngramClient {
  /// Conversations, the one with the newest message first.
  /// - Parameter cursor: `next` of the page before.
  public func threads(limit: Int = 50, cursor: String? = nil) async throws -> Page<ThreadSummary> {
    try await publicly {
      let query = Array("threads".utf8)
      let limit = min(max(limit, 1), ClientLimits.pageMax)
      let start = try cursor.map { try Cursor(parsing: $0, for: query) }
      return try await core.read { rows in
        let horizon = try start?.horizon ?? rows.newestRow()
        let found = try rows.threads(horizon: horizon, below: start?.below ?? .max, limit: limit)
        let items = try found.map { try ThreadSummary($0, in: rows) }
        let next = found.count == limit ? found.last?.lastRow : nil
        return Page(
          items: items, next: next.map { Cursor(horizon: horizon, below: $0).text(for: query) })
      }
    }
  }

  /// The newest messages of a conversation, in reading order: answers after what they answer, each sender's
  /// in the order of its signed chain, the rest by date.
  /// - Parameter thread: its id, or the id of one of its messages.
  public func thread(
    _ thread: String, limit: Int = 1_000, withBodies: Bool = true
  ) async throws -> [ThreadMessage] {
    try await publicly {
      let limit = min(max(limit, 1), ClientLimits.threadMax)
      return try await core.read { rows in
        var id = bytes(hex: thread).flatMap { ThreadID($0) }
        if id == nil || (try rows.threadIsEmpty(id)) { id = try rows.kept(thread).thread }
        guard let id else { throw EngramError.notKept }
        return try rows.ordered(try rows.messages(in: id, limit: limit), withBodies: withBodies)
      }
    }
  }

  /// One kept message with its body.
  /// - Parameter id: the envelope id, or the message id where that names one message.
  public func message(_ id: String) async throws -> HistoryMessage {
    try await publicly {
      try await core.read { rows in try HistoryMessage(try rows.kept(id), in: rows, withBody: true) }
    }
  }

  /// Answers a message: in its thread, with it as parent, to its sender, or to its recipients if it is ours.
  ///
  /// What is not kept here any more can be answered too, if `to` and `options.thread` are given.
  /// - Parameters:
  ///   - message: the envelope id, or the message id where that names one message.
  ///   - recipients: nil for those above.
  ///   - toAll: its sender and all its recipients, without ourselves.
  ///   - type: nil for the one that answers the message's: RESPONSE to a QUERY, TASK_RESULT to a TASK_REQUEST.
  ///   - options: `replyTo`, `thread` and `type` are set here; `thread` only where the message is not kept.
  public func reply(
    to message: String, body: [UInt8], contentType: String = "text/plain; charset=utf-8",
    recipients: [String]? = nil, toAll: Bool = false, type: String? = nil, options: SendOptions = .init()
  ) async throws -> SentMessage {
    try await publicly {
      var options = options
      let known: HistoryRow?
      do { known = try await core.read { try $0.kept(message) } } catch let error as EngramError {
        // Enough to go on: who it is for, and which conversation.
        guard bytes(hex: message).flatMap({ EnvelopeID($0) }) != nil, recipients != nil,
          options.thread != nil
        else { throw error }
        known = nil
      }
      options.replyTo = known?.envelopeID.description ?? message
      options.thread = options.thread ?? known?.thread.description
      options.type = type ?? known?.type.answer.name ?? options.type
      let own = core.account.address
      let audience = known.map { $0.audience(toAll: toAll, own: own).map(\.text) } ?? []
      return try await send(
        to: recipients ?? audience, body: body, contentType: contentType, options: options)
    }
  }

  /// What a quote refers to, in this device's own verified copy; nil when that is not kept here.
  public func passage(_ quote: Quote) async throws -> (from: String, text: String)? {
    try await publicly {
      try await core.read { rows in
        guard let id = bytes(hex: quote.envelopeID).flatMap({ EnvelopeID($0) }), let row = try rows.message(id),
          let body = try rows.body(of: id), let text = String(validating: body, as: UTF8.self)
        else { return nil }
        return (row.sender.text, quote.passage(of: text))
      }
    }
  }
}

extension MessageType {
  /// What an answer to it usually is.
  var answer: MessageType {
    switch self {
    case .query: .response
    case .taskRequest: .taskResult
    default: .direct
    }
  }
}

extension HistoryRow {
  fileprivate func audience(toAll: Bool, own: Address) -> [Address] {
    let direct = isOwn ? head.recipients : [sender]
    guard toAll else { return direct }
    var all: [Address] = []
    for address in [sender] + head.recipients where address != own && !all.contains(address) {
      all.append(address)
    }
    return all.isEmpty ? direct : all
  }
}

extension ClientSnapshot {
  fileprivate func threadIsEmpty(_ thread: ThreadID?) throws -> Bool {
    try thread.map { try messages(in: $0, limit: 1).isEmpty } ?? true
  }

  fileprivate func ordered(_ rows: [HistoryRow], withBodies: Bool) throws -> [ThreadMessage] {
    let entries = rows.map { row in
      // Our own have no place in a chain to us; the order in which they were sealed is theirs.
      ThreadEntry(
        id: row.envelopeID, parent: row.parent, senderKid: row.senderKid,
        place: row.isOwn ? UInt64(clamping: row.row) : row.chainSeq, createdMs: row.createdMs)
    }
    let present = Set(rows.map(\.envelopeID))
    return try threadOrder(entries).map { index, depth in
      let row = rows[index]
      return ThreadMessage(
        message: try HistoryMessage(row, in: self, withBody: withBodies), depth: depth,
        isParentMissing: row.parent.map { !present.contains($0) } ?? false)
    }
  }
}

extension ThreadSummary {
  fileprivate init(_ row: ThreadRow, in rows: ClientSnapshot) throws {
    guard let last = try rows.message(row: row.lastRow) else { throw ClientStoreError.damaged }
    self.init(
      thread: row.thread.description, messages: row.messages, open: row.open,
      senders: try rows.senders(in: row.thread).map(\.text), firstMs: row.firstMs, lastMs: row.lastMs,
      last: try HistoryMessage(last, in: rows, withBody: isTextual(last.head.contentType)))
  }
}
