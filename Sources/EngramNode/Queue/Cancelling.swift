package import EngramCore
internal import EngramCrypto
internal import EngramStore

// Ending what nobody has in hand yet, on the word of its sender: directly at the sender's own node, and by a
// TASK_CANCEL wherever that comes by. What was handed out, or sent on, is left to whoever has it now.

extension Node {
  /// Label of a TASK_CANCEL: the message id of what it cancels, 32 hexadecimal digits.
  package static let cancelsLabel = "cancels"
  /// The kid of the sending device, 32 hexadecimal digits, if it was another one of the same address.
  package static let cancelsDeviceLabel = "cancels-device"

  /// Ends what has not left this node of a message that this device sent. `accepted` when something was
  /// ended, `not-cancellable` when nothing could be, `not-found` when the message is not known.
  package func cancel(
    _ message: MessageID, _ session: ClientSession, completion: @escaping @Sendable (ItemOutcome) -> Void
  ) {
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        let key = dedupeKey(sender: session.address, kid: session.kid, message: message)
        guard let count = try cancel(key, actor: session.address.text, in: group) else {
          throw ErrorCode.notFound
        }
        let outcome = count > 0 ? ItemOutcome(.accepted) : ItemOutcome(.refused, code: .notCancellable)
        group.afterCommit { _ in completion(outcome) }
      } refused: { code in
        completion(ItemOutcome(code.isRetryable ? .later : .refused, code: code))
      })
  }

  /// What a TASK_CANCEL that was just stored asks for. Its sender is the one who sent what it cancels, or it
  /// names nothing that is here. Labels that are not well formed cancel nothing.
  func cancelNamed(by header: EnvelopeHeader, in group: CommitGroup) throws {
    guard let key = cancelledKey(header) else { return }
    _ = try cancel(key, actor: header.sender.text, in: group)
  }

  /// The lane of an outbox that a message takes: that of its priority; a TASK_CANCEL takes that of what it
  /// cancels, so that it never arrives before it.
  func outboxLane(of header: EnvelopeHeader, in group: CommitGroup) throws -> Priority {
    guard let key = cancelledKey(header), let info = try group.transaction.info(key) else {
      return header.priority
    }
    return info.priority
  }

  /// Nil for anything but a well formed TASK_CANCEL.
  private func cancelledKey(_ header: EnvelopeHeader) -> Digest? {
    guard header.type == .taskCancel,
      let named = header.labels.first(where: { $0.key == Self.cancelsLabel }),
      let message = bytes(hex: named.value).flatMap({ MessageID($0) })
    else { return nil }
    var kid = header.senderKid
    if let device = header.labels.first(where: { $0.key == Self.cancelsDeviceLabel }) {
      guard let other = bytes(hex: device.value).flatMap({ Kid($0) }) else { return nil }
      kid = other
    }
    return dedupeKey(sender: header.sender, kid: kid, message: message)
  }

  /// - Returns: how many deliveries ended; nil when the message is not known here.
  private func cancel(_ key: Digest, actor: String, in group: CommitGroup) throws -> Int? {
    guard let info = try group.transaction.info(key) else { return nil }
    guard info.open > 0, info.expiresMs > group.nowMs else { return 0 }
    var statements = StatementBatch()
    var count = 0
    for placed in try group.transaction.places(of: info) where withdraw(placed, in: group) {
      for body in try endings(.cancelled, code: .none, of: placed.place, info, group) { statements.add(body) }
      guard try group.transaction.removeDelivery(placed.mailbox, seq: placed.seq) != nil else { continue }
      // A device may have it all the same, if the node was restarted in the moment after.
      if placed.mailboxKind.isOfDevices {
        try group.transaction.expectLateWord(about: key, in: placed.mailbox, expiresMs: info.expiresMs)
      }
      group.note(.gone(mailbox: placed.mailbox, seq: placed.seq))
      freshRows.forget(placed.mailbox)
      count += 1
    }
    if count > 0 {
      try statements.write(by: self, in: group)
      group.audit(
        AuditLeaf(.cancelled, atMs: group.nowMs, actor: actor, envelope: info.envelopeID))
      group.afterCommit { [metrics, count] _ in metrics.add(.cancelled, count) }
    }
    return count
  }

  /// Takes a delivery out of everybody's reach, if nobody has it.
  private func withdraw(_ placed: PlacedDelivery, in group: CommitGroup) -> Bool {
    let (mailbox, seq) = (placed.mailbox, placed.seq)
    switch placed.mailboxKind {
    case .device, .workQueue:
      guard !shown.contains(placed.place), dispatcher.withdraw(mailbox, seq: seq) else { return false }
      group.onUndo { [dispatcher] in dispatcher.restore(mailbox, seq: seq) }
      return true
    case .peerEnvelopes:
      guard outboxGate.withdraw(placed.place) else { return false }
      group.onUndo { [outboxGate] in outboxGate.restore(mailbox, seq: seq) }
      return true
    case .deadLetters, .peerReceipts: return false
    }
  }
}
