internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import EngramSealing

extension EngramClient {
  /// Seals a message for every active device of its recipients and hands it to the home node.
  ///
  /// When it returns, the message is durable: at the node (`accepted`), or here, to be sent by a later call
  /// (`waiting`, `queued`).
  /// - Throws: `EngramError` when nothing was kept: bad input, an unknown recipient, a changed identity.
  public func send(
    to recipients: [String], body: [UInt8], contentType: String = "text/plain; charset=utf-8",
    options: SendOptions = .init()
  ) async throws -> SentMessage {
    let message = OutgoingMessage(to: recipients, body: body, contentType: contentType, options: options)
    let sent = try await sendBatch([message])[0]
    if case .refused(let error) = sent.state, sent.envelopeID == nil { throw error }
    return sent
  }

  /// `send` for many messages: sealed in few transactions and transmitted together, in their order.
  /// - Returns: one result per message, in order. Messages that were refused before sealing have no envelope
  ///   id.
  /// - Throws: `EngramError` when the local store fails.
  public func sendBatch(_ messages: [OutgoingMessage]) async throws -> [SentMessage] {
    try await publicly {
      await core.maintainIfDue()
      let blocked = await core.sealQueued()
      let now = core.nowMs()
      var known = try await knownMessages(
        messages.compactMap { $0.options.messageID.flatMap { try? messageNamed($0) } })
      var drafts: [Draft?] = []
      var fresh: [Draft] = []
      var early: [Int: EngramError] = [:]
      var outcomes = known.compactMapValues(\.unsealed)
      for (index, message) in messages.enumerated() {
        do {
          var draft = try Draft(message, nowMs: now)
          if case .past = known[draft.messageID] { throw EngramError(.badInput, .messageIDReused) }
          if known[draft.messageID] == nil {
            if draft.parent != nil {
              let (unplaced, isThreadChosen) = (draft, message.options.thread != nil)
              draft = try await core.read { try $0.place(unplaced, isThreadChosen: isThreadChosen) }
            }
            fresh.append(draft)
            known[draft.messageID] = .sealed(nil)
          }
          drafts.append(draft)
        } catch {
          drafts.append(nil)
          early[index] = EngramError(error)
        }
      }
      outcomes.merge(try await core.submit(fresh, behind: blocked)) { $1 }
      return try await results(drafts, early, outcomes)
    }
  }

  /// Sends what an earlier call left behind.
  /// - Returns: how many messages the node has taken.
  @discardableResult
  public func resendOutbox() async throws -> Int {
    try await publicly {
      await core.sealQueued()
      return try await core.transmitWaiting()
    }
  }

  /// What this device sent or has yet to send, newest first.
  public func outbox(limit: Int = 100) async throws -> [OutboxEntry] {
    try await publicly {
      try await core.read { rows in
        let queued = try rows.queued(limit: limit).map(OutboxEntry.init)
        return queued + (try rows.outbox(limit: limit).filter { !$0.isControl }.map(OutboxEntry.init))
      }
    }
  }

  /// What was said about a message of ours, each statement verified before it was kept.
  /// - Parameter message: the message id or the envelope id, in hexadecimal.
  public func receipts(of message: String) async throws -> [DeliveryReceipt] {
    try await publicly {
      try await core.read { rows in
        try rows.receipts(of: try rows.sent(message).envelopeID).map(DeliveryReceipt.init)
      }
    }
  }

  /// Fetches until every recipient has processed a message or has failed to. One device is enough for a
  /// recipient with several, as in `status`.
  /// - Returns: true when all processed it; false when one failed on all its devices, or time is up.
  public func waitUntilProcessed(_ message: String, timeoutSeconds: Int) async throws -> Bool {
    try await publicly {
      let deadline = Deadline(seconds: timeoutSeconds)
      while true {
        if let verdict = try await core.read({ try $0.processed(message) }) { return verdict }
        guard !deadline.hasPassed else { return false }
        if await mailbox.tryBegin() {
          let count = try await mailbox.fetch(
            max: ClientLimits.itemsPerFetch, waitSeconds: max(1, deadline.pollSeconds))
          if count > 0 { continue }
        }
        // Another process of this home receives and stores the receipts, or the node answered at once: there
        // is nothing to wait on but time.
        try await Task.sleep(for: .milliseconds(ClientLimits.receiverPollMs))
      }
    }
  }

  func results(
    _ drafts: [Draft?], _ early: [Int: EngramError], _ outcomes: [MessageID: SubmitOutcome]
  ) async throws -> [SentMessage] {
    try await core.read { rows in
      try drafts.enumerated().map { index, draft in
        guard let draft else {
          let error = early[index] ?? EngramError(.badInput, .internalError)
          return SentMessage(messageID: "", envelopeID: nil, state: .refused(error), receipts: [])
        }
        let id = draft.messageID
        guard let row = try rows.outbox(id) else {
          let outcome = outcomes[id] ?? .refused(EngramError(.local, .internalError))
          return SentMessage(
            messageID: id.description, envelopeID: nil, state: outcome.unsealedState, receipts: [])
        }
        let receipts = try rows.receipts(of: row.envelopeID).map(DeliveryReceipt.init)
        return SentMessage(
          messageID: id.description, envelopeID: row.envelopeID.description,
          state: row.sentState(outcomes[id]), receipts: receipts)
      }
    }
  }
}

/// A message id that was given to this home before.
enum KnownMessage: Sendable {
  /// It was sealed; the error with which the home node refused it, if it did.
  case sealed(EngramError?)
  /// It waits for keys, or waited too long for them.
  case queued(SubmitOutcome)
  /// Kept in the history only: what became of it is forgotten.
  case past

  var unsealed: SubmitOutcome? {
    if case .queued(let outcome) = self { outcome } else { nil }
  }

  /// Why it went nowhere and never will.
  var refusal: EngramError? {
    switch self {
    case .sealed(let error): error
    case .queued(.refused(let error)): error
    case .queued, .past: nil
    }
  }
}

extension EngramClient {
  /// Those of these messages that were handed to `send` before.
  func knownMessages(_ ids: [MessageID]) async throws -> [MessageID: KnownMessage] {
    guard !ids.isEmpty else { return [:] }
    return try await publicly {
      try await core.read { rows in
        var known: [MessageID: KnownMessage] = [:]
        for id in ids { known[id] = try rows.known(id) }
        return known
      }
    }
  }
}

extension ClientSnapshot {
  fileprivate func known(_ id: MessageID) throws -> KnownMessage? {
    if let row = try outbox(id) {
      return .sealed(row.state == .refused ? EngramError(refusal: row.code) : nil)
    }
    if let row = try queued(id) {
      let error = EngramError(refusal: row.code)
      return .queued(row.code == .expired ? .refused(error) : .queued(error))
    }
    return try messages(id).contains { $0.isOwn } ? .past : nil
  }
}

private func messageNamed(_ text: String) throws -> MessageID {
  guard let id = bytes(hex: text).flatMap({ MessageID($0) }) else {
    throw EngramError(.badInput, name: "bad-message-id", "a message id has 32 hexadecimal digits")
  }
  return id
}

/// What `submit` could not read from the outbox afterwards.
enum SubmitOutcome: Sendable {
  case queued(EngramError)
  case refused(EngramError)
  case waiting(EngramError)

  var unsealedState: SentMessage.State {
    switch self {
    case .queued(let error): .queued(error)
    case .refused(let error): .refused(error)
    case .waiting(let error): .waiting(error)
    }
  }
}

extension OutboxRow {
  /// Between devices, of no concern to people.
  var isControl: Bool { (try? UnverifiedEnvelope(parsing: envelope).header.kind) == .control }

  func sentState(_ outcome: SubmitOutcome?) -> SentMessage.State {
    switch state {
    case .accepted: .accepted
    case .cancelled: .refused(EngramError(.local, name: "cancelled", "the message was called back"))
    case .refused: .refused(EngramError(refusal: code))
    case .waiting:
      if case .waiting(let error) = outcome { .waiting(error) } else { .waiting(reason) }
    }
  }

  var reason: EngramError {
    code == .none
      ? EngramError(.unreachable, name: "not-sent-yet", "the node has not confirmed it yet")
      : EngramError(refusal: code)
  }
}

extension ClientSnapshot {
  /// A message of ours by message id or envelope id.
  func sent(_ text: String) throws -> OutboxRow {
    guard let id = bytes(hex: text) else { throw EngramError.noSuchMessage }
    let row =
      if let message = MessageID(id) {
        try outbox(message)
      } else if let envelope = EnvelopeID(id) {
        try outbox(envelope: envelope)
      } else {
        OutboxRow?.none
      }
    guard let row else { throw EngramError.noSuchMessage }
    return row
  }

  /// Whether every recipient processed a message; nil while it is open.
  func processed(_ message: String) throws -> Bool? {
    let row = try sent(message)
    guard row.state == .accepted || row.state == .waiting else { return false }
    guard let header = try? UnverifiedEnvelope(parsing: row.envelope).header else {
      throw ClientStoreError.damaged
    }
    let states = try recipientStates(row, header).map(\.state)
    if states.contains(where: { !$0.isOpen && $0 != .processed }) { return false }
    return states.contains(where: \.isOpen) ? nil : true
  }
}

extension EngramError {
  static var noSuchMessage: EngramError {
    EngramError(
      .badInput, name: "no-such-message", "this device sent no such message",
      hint: "`engram outbox` lists message ids")
  }
}

extension Draft {
  /// Checks everything that can be checked without asking anybody.
  init(_ message: OutgoingMessage, nowMs: UInt64) throws {
    let options = message.options
    func bad(_ name: String, _ text: String, _ hint: String? = nil) -> EngramError {
      EngramError(.badInput, name: name, text, hint: hint)
    }
    var recipients: [Address] = []
    for text in message.to {
      guard let address = try? Address(text) else {
        throw bad(
          "bad-address", "an address has the form name@node, in lower case",
          "for instance worker@globex.example")
      }
      if !recipients.contains(address) { recipients.append(address) }
    }
    guard !recipients.isEmpty else { throw bad("no-recipient", "a message needs a recipient") }
    guard message.body.count <= Limits.bodyBytesMax else {
      throw bad(
        "body-too-large", "a body has at most \(Limits.bodyBytesMax) bytes",
        "send it in several messages, or say where it can be fetched")
    }
    let contentType = try QuotedContentType.encode(message.contentType, quoting: options.quotes)
    guard contentType.utf8.count <= Limits.contentTypeBytesMax else {
      throw bad("bad-content-type", "a content type has at most \(Limits.contentTypeBytesMax) bytes")
    }
    let type = try MessageType(checking: options.type)
    let priority = try Priority(checking: options.priority)
    let ttl = options.ttlSeconds.multipliedReportingOverflow(by: 1_000)
    guard options.ttlSeconds > 0, !ttl.overflow, ttl.partialValue <= Limits.ttlMsMax else {
      throw bad("bad-ttl", "a message lives between one second and 30 days")
    }
    let notBefore = options.notBeforeMs ?? 0
    guard notBefore == 0 || (nowMs <= notBefore && notBefore < nowMs + ttl.partialValue) else {
      throw bad("bad-not-before", "the earliest delivery lies between now and the end of the message's life")
    }
    guard
      let thread = options.thread.map({ bytes(hex: $0).flatMap { ThreadID($0) } })
        ?? ThreadID(randomBytes(16))
    else { throw EngramError.badThread }
    var parent: EnvelopeID?
    if let text = options.replyTo {
      parent = bytes(hex: text).flatMap { EnvelopeID($0) }
      guard parent != nil else { throw bad("bad-reply-to", "an envelope id has 64 hexadecimal digits") }
    }
    let named = try options.messageID.map { try messageNamed($0) }
    guard let id = named ?? MessageID(randomBytes(16)) else { throw bad("internal", "no message id") }
    self.init(
      messageID: id, recipients: recipients, type: type, priority: priority, thread: thread, parent: parent,
      createdMs: nowMs, expiresMs: nowMs + ttl.partialValue, notBeforeMs: notBefore,
      contentType: contentType, body: message.body, mayCompress: options.compress)
    labels = try [Label](checking: options.labels)
  }
}

extension [Label] {
  fileprivate init(checking labels: [String: String]) throws {
    guard labels.count <= Limits.labelsMax,
      labels.allSatisfy({ isLocalName($0.key) && $0.value.utf8.count <= Limits.labelValueBytesMax })
    else {
      throw EngramError(
        .badInput, name: "bad-label",
        "a message has at most \(Limits.labelsMax) labels, with values of \(Limits.labelValueBytesMax) bytes",
        hint: "keys are lower-case letters, digits, dots, dashes and underscores")
    }
    let sorted = labels.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    self = sorted.map { Label(key: $0.key, value: $0.value) }
  }
}

extension ClientSnapshot {
  /// Puts an answer into the thread of what it answers.
  /// - Parameter isThreadChosen: the caller named the thread; then it has to be that one.
  func place(_ draft: Draft, isThreadChosen: Bool) throws -> Draft {
    guard let parent = draft.parent else { return draft }
    let thread = try threadOfAnswer(to: parent, chosen: isThreadChosen ? draft.thread : nil, lineage: lineage)
    switch thread {
    case .success(let thread):
      var placed = draft
      placed.thread = thread
      return placed
    case .failure(let code):
      throw EngramError(
        .badInput, code, hint: "what is not kept here can be answered too, with its thread: --thread ID")
    }
  }
}
