internal import EngramCore
internal import EngramCrypto
internal import EngramStore
internal import Logging

// What becomes of a delivery that was not done: another attempt later, or the end. `transition` decides; here
// its decision is written, in one transaction with the receipts and audit leaves that belong to it.

extension Node {
  /// Writes the end of leases as failed attempts: their time ran out, or their consumer went away.
  func endLeases(_ leases: [Lease], in mailbox: Int64, code: ErrorCode) {
    guard !leases.isEmpty else { return }
    commitLoop.submit(
      CommitCommand(weight: leases.count) { [self] group in
        var statements = StatementBatch()
        for lease in leases {
          _ = try settle(
            lease, in: mailbox, on: .leaseEnded(countsAsAttempt: true), code: code, &statements, group)
        }
        try statements.write(by: self, in: group)
      } refused: { [self] code in
        log.warning("failed attempts were not committed", metadata: ["code": "\(code.name)"])
        for lease in leases { dispatcher.reopen(mailbox, lease) }
      })
  }

  /// Applies a failure to a leased row.
  /// - Returns: the outcome for whoever reported it.
  func settle(
    _ lease: Lease, in mailbox: Int64, on event: DeliveryEvent, code: ErrorCode,
    _ statements: inout StatementBatch, _ group: CommitGroup
  ) throws -> ItemOutcome {
    guard let place = try group.transaction.place(mailbox, seq: lease.seq) else {
      group.note(.gone(mailbox: mailbox, seq: lease.seq))
      return ItemOutcome(.duplicate)
    }
    let info = try group.transaction.info(of: place.message)
    guard info.expiresMs > group.nowMs else { return ItemOutcome(.refused, code: .expired) }
    let step: DeliveryTransition
    switch transition(.leased, on: event, attempt: place.attempt, policy: settings.retry) {
    case .failure(let code): return ItemOutcome(.refused, code: code)
    case .success(let found): step = found
    }
    let failure = DeliveryFailure(
      attempt: step.attempt, atMs: group.nowMs, code: code == .none ? step.code : code, kid: lease.kid)
    var next = place
    next.attempt = step.attempt
    next.history = DeliveryFailure.appended(failure, to: place.history)
    if step.next == .deadLettered {
      try bury(place, as: next, info, code: step.code, reason: code, &statements, group)
    } else {
      try hold(place, as: next, info, until: group.nowMs + drawn(step.hold), group)
      audit(.retried, info, code: failure.code, actor: lease.kid, group)
    }
    return ItemOutcome(.accepted)
  }

  /// Full jitter: a time drawn evenly from what the policy allows.
  private func drawn(_ hold: DeliveryHold?) -> UInt64 {
    switch hold {
    case .exactly(let ms): ms
    case .upTo(let ms): 1 + randomNumber() % max(ms, 1)
    case nil: 0
    }
  }

  private func randomNumber() -> UInt64 { random.bytes(8).reduce(0) { $0 << 8 | UInt64($1) } }

  private func hold(
    _ place: DeliveryPlace, as next: DeliveryPlace, _ info: MessageInfo, until holdMs: UInt64,
    _ group: CommitGroup
  ) throws {
    var next = next
    if holdMs <= group.nowMs { return try makeReady(place, as: next, info.priority, group) }
    (next.rank, next.holdMs) = (nil, holdMs)
    _ = try group.transaction.moveDelivery(place.mailbox, seq: place.seq, to: next)
    group.note(.gone(mailbox: place.mailbox, seq: place.seq))
    freshRows.forget(place.mailbox)
  }

  /// Puts a row at its place in the order of work, as of now and under a new number: readers that follow
  /// numbers see it too.
  func makeReady(
    _ place: DeliveryPlace, as next: DeliveryPlace, _ priority: Priority, _ group: CommitGroup
  ) throws {
    var next = next
    next.seq = try group.nextSeq(next.mailbox)
    let rank = Ranking.rank(readyMs: group.nowMs, priority: priority, ageStepMs: settings.ageStepMs)
    (next.rank, next.holdMs) = (rank, 0)
    _ = try group.transaction.moveDelivery(place.mailbox, seq: place.seq, to: next)
    group.putUnseen(in: next.mailbox)
    group.note(.gone(mailbox: place.mailbox, seq: place.seq))
    group.note(
      .ready(
        mailbox: next.mailbox,
        ReadyEntry(key: ReadyKey(rank: rank, seq: next.seq), attempt: next.attempt, kids: next.kids)))
  }

  /// Makes a dead letter: the row moves to the mailbox's own dead letters, and its sender hears of it.
  private func bury(
    _ place: DeliveryPlace, as next: DeliveryPlace, _ info: MessageInfo, code: ErrorCode, reason: ErrorCode,
    _ statements: inout StatementBatch, _ group: CommitGroup
  ) throws {
    var next = next
    next.mailbox = try group.transaction.createMailbox(
      .deadLetters, owner: bigEndianBytes(UInt64(place.mailbox)))
    next.seq = try group.nextSeq(next.mailbox)
    (next.rank, next.holdMs) = (nil, 0)
    for body in try endings(.deadLettered, code: code, of: next, info, group) { statements.add(body) }
    _ = try group.transaction.moveDelivery(place.mailbox, seq: place.seq, to: next)
    group.putUnseen(in: next.mailbox)
    group.note(.gone(mailbox: place.mailbox, seq: place.seq))
    freshRows.forget(place.mailbox)
    audit(.deadLettered, info, code: code, actor: nil, group)
    group.afterCommit { [metrics] _ in metrics.add(.deadLettered) }
  }

  /// Our statements about the end of a delivery, one for each recipient that it was for. Read while the bytes
  /// are still there.
  func endings(
    _ state: ReceiptState, code: ErrorCode, of place: DeliveryPlace, _ info: MessageInfo, _ group: CommitGroup
  ) throws -> [ReceiptBody] {
    guard let bytes = try group.transaction.bytes(of: place.message),
      let header = try? UnverifiedEnvelope(parsing: bytes).header
    else { return [] }
    return place.slots.filter { $0 < header.recipients.count }.map { slot in
      let recipient = header.recipients[slot]
      var body = statement(state, code: code, about: info, messageID: header.messageID, atMs: group.nowMs)
      (body.recipient, body.recipientKid) = (recipient.address, recipient.kid)
      body.attempt = place.attempt
      return body
    }
  }

  func audit(
    _ action: AuditAction, _ info: MessageInfo, code: ErrorCode = .none, actor: Kid?, _ group: CommitGroup
  ) {
    let name = actor.flatMap { try? roster.device($0, in: group)?.certificate.body.address.text }
    group.audit(
      AuditLeaf(
        action, atMs: group.nowMs, actor: name ?? identity.name.text, envelope: info.envelopeID, code: code))
  }

  // MARK: - What is due

  /// Rows made ready in one command.
  private static let promotedPerCommand = 200

  /// Gives rows whose hold is over their place in the order of work. Called once a second; looks at one index.
  func promote() {
    let now = clock.nowMs()
    guard let next = try? reading({ try $0.nextDueMs() }), next <= now else { return }
    commitLoop.submit(
      CommitCommand(weight: Self.promotedPerCommand) { [self] group in
        let due = try group.transaction.dueDeliveries(nowMs: group.nowMs, limit: Self.promotedPerCommand)
        for row in due { try makeReady(row.place, as: row.place, row.priority, group) }
        if due.count == Self.promotedPerCommand { group.afterCommit { [self] _ in promote() } }
      } refused: { [log] code in
        log.warning("due deliveries were not committed", metadata: ["code": "\(code.name)"])
      })
  }
}
