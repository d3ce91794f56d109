internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

/// What became of an attempt to call a message back.
public struct Cancellation: Sendable {
  /// Where the message stands now. Devices that have it keep it.
  public let status: MessageStatus
  /// The TASK_CANCEL that went to its recipients; nil when there was nobody left to tell.
  public let notice: SentMessage?
}

extension EngramClient {
  /// Where a message of ours stands for each recipient, as the verified receipts that are here say.
  /// - Parameters:
  ///   - message: the message id or the envelope id, in hexadecimal.
  ///   - fetching: ask the node for receipts first, if no other process of this home receives.
  public func status(of message: String, fetching: Bool = false) async throws -> MessageStatus {
    try await publicly {
      let before = try await core.read { try $0.status(of: message) }
      // What a node says is no end for certain: a device may have been done with it all the same, and a dead
      // letter may get another round.
      let isFinal = before.state == .processed || before.state == .failed
      guard fetching, !isFinal, before.envelopeID != nil else { return before }
      try await fetchReceipts()
      return try await core.read { try $0.status(of: message) }
    }
  }

  /// Works out again what the receipts of a message prove. Offline: nothing but this home is asked.
  public func verify(_ message: String) async throws -> Verification {
    try await publicly {
      // Nothing remembered: every signature is checked again.
      let (account, credentials) = (core.account, CredentialCache())
      return try await core.read { rows in
        let row = try rows.sent(message)
        guard let envelope = try? UnverifiedEnvelope(parsing: row.envelope) else {
          throw ClientStoreError.damaged
        }
        let subject = ProofSubject(
          envelope: envelope, id: row.envelopeID, receipts: try rows.receiptBytes(of: row.envelopeID))
        return try verifyProof(subject, account: account, credentials: credentials, in: rows)
      }
    }
  }

  /// A message's stub and receipts as bytes to keep elsewhere: they outlive this home's own records, and
  /// hold no body.
  public func exportProof(of message: String) async throws -> [UInt8] {
    try await publicly {
      try await core.read { rows in
        let row = try rows.sent(message)
        guard let envelope = try? UnverifiedEnvelope(parsing: row.envelope) else {
          throw ClientStoreError.damaged
        }
        return ProofFile.encode(
          stub: stubBytes(envelope), receipts: try rows.receiptBytes(of: row.envelopeID))
      }
    }
  }

  /// `verify` for what `exportProof` wrote, against the keys that are pinned here.
  /// - Throws: `EngramError` when it is not a proof at all.
  public func verify(proof: [UInt8]) async throws -> Verification {
    try await publicly {
      let subject: ProofSubject
      do throws(CodecError) { subject = try ProofFile.decode(proof) } catch {
        throw EngramError(
          .badInput, name: "not-a-proof", "this is not a proof file (\(error.code.name))",
          hint: "`engram verify MESSAGE --export FILE` writes one")
      }
      let (account, credentials) = (core.account, CredentialCache())
      return try await core.read {
        try verifyProof(subject, account: account, credentials: credentials, in: $0)
      }
    }
  }

  /// Calls a message back, as far as it has not reached a device.
  ///
  /// 1. What has not left this machine never will.
  /// 2. The home node is asked to drop what it still holds; it signs a receipt for each.
  /// 3. Recipients for whom it is still open are sent a TASK_CANCEL, on whose way every node drops what it
  ///    holds, and which tells a device that has it already.
  ///
  /// - Parameter tellRecipients: false leaves out 3.
  /// - Throws: `EngramError`; `not-cancellable` when nothing is open any more.
  public func cancel(_ message: String, tellRecipients: Bool = true) async throws -> Cancellation {
    try await publicly {
      if let status = try await cancelQueued(message) { return Cancellation(status: status, notice: nil) }
      let row = try await core.read { try $0.sent(message) }
      let before = try await core.read { try $0.status(of: message) }
      guard before.state.isOpen else { throw EngramError.notCancellable }
      let isHere = row.state == .waiting
      if isHere { try await core.commit { try $0.settle(row, .cancelled, code: .none) } }
      do {
        _ = try await core.api.cancel(row.messageID)
        try await fetchReceipts()
      } catch let error as EngramError {
        // The node may have nothing of it, or nothing that it still could drop; then only 3 is left.
        guard isHere || error.kind == .refused else { throw error }
      }
      let after = try await core.read { try $0.status(of: message) }
      let open = after.recipients.filter { $0.state.isOpen }
      guard tellRecipients, !isHere, !open.isEmpty else { return Cancellation(status: after, notice: nil) }
      let notice = try await tell(open.map(\.address), about: row, after)
      return Cancellation(status: try await core.read { try $0.status(of: message) }, notice: notice)
    }
  }

  /// Takes back what was never sealed.
  private func cancelQueued(_ message: String) async throws -> MessageStatus? {
    guard let id = bytes(hex: message).flatMap({ MessageID($0) }) else { return nil }
    let now = core.nowMs()
    return try await core.commit { rows in
      guard let queued = try rows.queued(id) else { return nil }
      guard queued.code != .expired, now < queued.draft.expiresMs else { throw EngramError.notCancellable }
      try rows.dequeue(id)
      return MessageStatus(queued).cancelled
    }
  }

  /// TASK_CANCEL: an answer to the message, with labels that nodes on the way understand.
  private func tell(
    _ addresses: [String], about row: OutboxRow, _ status: MessageStatus
  ) async throws -> SentMessage {
    let now = core.nowMs()
    var options = SendOptions()
    (options.type, options.thread) = (MessageType.taskCancel.name, status.thread)
    options.replyTo = row.envelopeID.description
    // It has to overtake what it calls back, and need not outlive it.
    options.priority = status.priority == Priority.critical.name ? status.priority : Priority.urgent.name
    options.ttlSeconds = max(1, (row.expiresMs > now ? row.expiresMs - now : 0) / 1_000)
    options.labels = ["cancels": row.messageID.description]
    return try await send(to: addresses, body: [], options: options)
  }

  /// One look into the mailbox, if no other process of this home has it.
  private func fetchReceipts() async throws {
    guard await mailbox.tryBegin() else { return }
    while try await mailbox.fetch(max: ClientLimits.itemsPerFetch, waitSeconds: 0) > 0 {}
  }
}

extension ClientSnapshot {
  func status(of message: String) throws -> MessageStatus {
    if let id = bytes(hex: message).flatMap({ MessageID($0) }), let queued = try queued(id) {
      return MessageStatus(queued)
    }
    return try MessageStatus(try sent(message), in: self)
  }
}

extension MessageStatus {
  /// The same message, called back before it was sealed.
  fileprivate var cancelled: MessageStatus {
    MessageStatus(
      messageID: messageID, envelopeID: envelopeID, thread: thread, type: type, priority: priority,
      labels: labels, createdMs: createdMs, expiresMs: expiresMs, notBeforeMs: notBeforeMs,
      outbox: .cancelled, reason: nil, state: .cancelled,
      recipients: recipients.map { RecipientStatus(address: $0.address, state: .cancelled, devices: []) })
  }
}

extension EngramError {
  static var notCancellable: EngramError {
    EngramError(
      .refused, name: "not-cancellable", "nothing of this message is still on its way",
      hint: "`engram status` shows where it stands")
  }
}
