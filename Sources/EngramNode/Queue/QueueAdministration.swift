package import EngramCore
internal import EngramCrypto
internal import EngramStore

/// A mailbox, for the operator.
package struct QueueSummary: Equatable, Sendable {
  package let mailbox: Int64
  /// `device`, `work-queue`, `outbox` or `dead-letters`.
  package let kind: String
  /// An address, a peer's name; for dead letters that of the mailbox they come from.
  package let owner: String
  package let waiting: Int
  package let held: Int
  package let leased: Int
  package let consumers: Int
}

/// A message that waits in a mailbox, for the operator. Nothing of its content.
package struct WaitingSummary: Equatable, Sendable {
  package let mailbox: Int64
  package let seq: UInt64
  package let envelope: EnvelopeID
  package let sender: Address
  package let type: MessageType
  package let priority: Priority
  /// `pending`, `delivered` or `dead-lettered`.
  package let state: String
  package let createdMs: UInt64
  package let expiresMs: UInt64
  /// 0 when it is not held.
  package let heldUntilMs: UInt64
  /// Failures so far.
  package let attempt: UInt32
  package let history: [DeliveryFailure]
  /// Only where one message was asked for.
  package let recipients: [Address]
  package let bytes: Int
}

// What `engram-node admin queue` asks of the running node. Blocking.

extension Node {
  package func queues() throws(ErrorCode) -> [QueueSummary] {
    let rows = try reading { snapshot in
      try [MailboxKind.device, .workQueue, .peerEnvelopes, .deadLetters].flatMap { kind in
        try snapshot.mailboxes(kind).map { row in
          (row: row, owner: try owner(of: row, snapshot), counts: try snapshot.queueCounts(row.id))
        }
      }
    }
    return rows.map { row, owner, counts in
      let load = dispatcher.load(row.id)
      // Outboxes and dead letters have no order of work, so nothing in them is "ready".
      let isQueue = row.kind == .device || row.kind == .workQueue
      return QueueSummary(
        mailbox: row.id, kind: Self.name(of: row.kind), owner: owner,
        waiting: isQueue ? max(0, counts.ready - load.leased) : counts.ready + counts.held,
        held: isQueue ? counts.held : 0, leased: load.leased, consumers: load.consumers)
    }
  }

  /// What waits in a mailbox after a number, by number.
  package func waiting(
    in mailbox: Int64, after seq: UInt64, maxCount: Int
  ) throws(ErrorCode) -> [WaitingSummary] {
    try reading { snapshot in
      guard let row = try snapshot.mailbox(mailbox) else { throw ErrorCode.notFound }
      return try snapshot.listDeliveries(mailbox, after: seq, limit: maxCount).map {
        summary($0.place, $0.info, row.kind, envelope: nil)
      }
    }
  }

  package func inspect(_ mailbox: Int64, seq: UInt64) throws(ErrorCode) -> WaitingSummary {
    try reading { snapshot in
      guard let row = try snapshot.mailbox(mailbox), let found = try snapshot.delivery(mailbox, seq: seq)
      else {
        throw ErrorCode.notFound
      }
      return summary(found.place, found.info, row.kind, envelope: found.bytes)
    }
  }

  /// Gives a dead letter another round, from the first attempt; its history stays.
  package func requeue(_ mailbox: Int64, seq: UInt64) throws(ErrorCode) {
    try writing { [self] group in
      guard let row = try group.transaction.mailbox(mailbox), row.kind == .deadLetters,
        let place = try group.transaction.place(mailbox, seq: seq)
      else { throw ErrorCode.notFound }
      let info = try group.transaction.info(of: place.message)
      guard info.expiresMs > group.nowMs else { throw ErrorCode.expired }
      var next = place
      next.mailbox = Int64(bitPattern: row.owner.reduce(0) { $0 << 8 | UInt64($1) })
      next.attempt = try transition(
        .deadLettered, on: .requeue, attempt: place.attempt, policy: settings.retry
      )
      .get().attempt
      try makeReady(place, as: next, info.priority, group)
      auditOperator(.requeued, info, group)
    }
  }

  /// Takes a message out for good. The sender of one that was still open gets a `failed` receipt.
  package func drop(_ mailbox: Int64, seq: UInt64) throws(ErrorCode) {
    try writing { [self] group in
      guard let row = try group.transaction.mailbox(mailbox),
        let place = try group.transaction.place(mailbox, seq: seq)
      else { throw ErrorCode.notFound }
      let info = try group.transaction.info(of: place.message)
      let state = try droppable(place, row.kind, group)
      let step = try transition(state, on: .drop, attempt: place.attempt, policy: settings.retry).get()
      if let receipt = step.receipt {
        var statements = StatementBatch()
        for body in try endings(receipt, code: step.code, of: place, info, group) { statements.add(body) }
        try statements.write(by: self, in: group)
      }
      _ = try group.transaction.removeDelivery(mailbox, seq: seq)
      group.note(.gone(mailbox: mailbox, seq: seq))
      freshRows.forget(mailbox)
      auditOperator(.dropped, info, group)
    }
  }

  /// The state of a row that nobody has in hand; `not-permitted` for the others, and for what a link may have
  /// sent.
  private func droppable(
    _ place: DeliveryPlace, _ kind: MailboxKind, _ group: CommitGroup
  ) throws -> DeliveryState {
    let (mailbox, seq) = (place.mailbox, place.seq)
    switch kind {
    case .deadLetters: return .deadLettered
    case .device, .workQueue:
      guard dispatcher.withdraw(mailbox, seq: seq) else { throw ErrorCode.notPermitted }
      group.onUndo { [dispatcher] in dispatcher.restore(mailbox, seq: seq) }
    case .peerEnvelopes:
      guard outboxGate.withdraw(place) else { throw ErrorCode.notPermitted }
      group.onUndo { [outboxGate] in outboxGate.restore(mailbox, seq: seq) }
    case .peerReceipts: throw ErrorCode.notFound
    }
    return place.holdMs > 0 ? .held : .ready
  }

  private func auditOperator(_ action: AuditAction, _ info: MessageInfo, _ group: CommitGroup) {
    group.audit(AuditLeaf(action, atMs: group.nowMs, actor: "operator", envelope: info.envelopeID))
  }

  private func summary(
    _ place: DeliveryPlace, _ info: MessageInfo, _ kind: MailboxKind, envelope bytes: [UInt8]?
  ) -> WaitingSummary {
    let header = bytes.flatMap { try? UnverifiedEnvelope(parsing: $0).header }
    let recipients = header?.recipients.enumerated().filter { place.slots.contains($0.offset) }
      .map(\.element.address)
    let state: DeliveryState =
      kind == .deadLetters
      ? .deadLettered
      : dispatcher.holder(place.mailbox, of: place.seq) != nil ? .leased : place.holdMs > 0 ? .held : .ready
    return WaitingSummary(
      mailbox: place.mailbox, seq: place.seq, envelope: info.envelopeID, sender: info.sender, type: info.type,
      priority: info.priority, state: state.name, createdMs: info.createdMs, expiresMs: info.expiresMs,
      heldUntilMs: place.holdMs, attempt: place.attempt,
      history: DeliveryFailure.decode(place.history ?? []), recipients: recipients ?? [],
      bytes: bytes?.count ?? 0)
  }

  private static func name(of kind: MailboxKind) -> String {
    switch kind {
    case .device: "device"
    case .workQueue: "work-queue"
    case .peerEnvelopes, .peerReceipts: "outbox"
    case .deadLetters: "dead-letters"
    }
  }

  private func owner(of row: MailboxRow, _ snapshot: StoreSnapshot) throws -> String {
    switch row.kind {
    case .device:
      guard let kid = Kid(row.owner), let device = try snapshot.device(kid) else { return hex(row.owner) }
      return device.address.text
    case .workQueue, .peerEnvelopes, .peerReceipts: return String(decoding: row.owner, as: UTF8.self)
    case .deadLetters:
      let id = Int64(bitPattern: row.owner.reduce(0) { $0 << 8 | UInt64($1) })
      guard let original = try snapshot.mailbox(id), original.kind != .deadLetters else { return "" }
      return try owner(of: original, snapshot)
    }
  }
}
