package import EngramCore
internal import EngramCrypto
internal import EngramStore

// What a consumer says about the messages that it holds. Its lease is claimed before the commit and let go
// after it, so that nobody is given the message in between; a commit that fails leaves everything as it was.

extension Node {
  private struct Claim: Sendable {
    let settlement: Settlement
    var lease: Result<Lease, ErrorCode>
    /// The device's word, checked; nil when the verb carries none.
    var receipt: Result<VerifiedReceipt?, ErrorCode>
  }

  /// Settles leases of this device; outcomes come in the order of the settlements, after the commit. Verifies
  /// signatures on the caller's thread.
  package func settle(
    _ settlements: [Settlement], _ session: ClientSession,
    completion: @escaping @Sendable ([ItemOutcome]) -> Void
  ) {
    let mailbox: Int64
    do throws(ErrorCode) { mailbox = try workMailbox(session) } catch {
      return completion(settlements.map { _ in ItemOutcome(.refused, code: error) })
    }
    let roots = ReceiptRoots()
    let claims = settlements.map { claim($0, in: mailbox, session, roots) }
    if let outcomes = renewals(claims) { return completion(outcomes) }
    commitLoop.submit(
      CommitCommand(weight: claims.count) { [self] group in
        var notices = NoticeBatch(self)
        var statements = StatementBatch()
        let outcomes = try claims.map { try settle($0, in: mailbox, session, &notices, &statements, group) }
        try notices.write(in: group)
        try statements.write(by: self, in: group)
        group.afterCommit { [self] _ in
          for (claim, outcome) in zip(claims, outcomes) { release(claim, outcome, mailbox) }
          metrics.add(.acknowledged, outcomes.count { $0.outcome == .accepted })
          completion(outcomes)
        }
      } refused: { [self] code in
        for claim in claims {
          if case .success(let lease) = claim.lease { dispatcher.reopen(mailbox, lease) }
        }
        completion(claims.map { _ in ItemOutcome(code.isRetryable ? .later : .refused, code: code) })
      })
  }

  private func claim(
    _ settlement: Settlement, in mailbox: Int64, _ session: ClientSession, _ roots: ReceiptRoots
  ) -> Claim {
    let (seq, token, kid) = (settlement.seq, settlement.token, session.kid)
    switch settlement.verb {
    case .renew:
      let code = dispatcher.renew(mailbox, seq: seq, token: token, kid: kid)
      return Claim(settlement: settlement, lease: .failure(code), receipt: .success(nil))
    case .ack(let bytes), .reject(_, let bytes):
      let receipt = checkReceipt(bytes, from: session, roots)
      // What is refused for its own sake leaves the lease alone.
      if case .failure(let code) = receipt {
        return Claim(settlement: settlement, lease: .failure(code), receipt: receipt)
      }
      return Claim(
        settlement: settlement,
        lease: dispatcher.beginSettle(mailbox, seq: seq, token: token, kid: kid), receipt: receipt)
    case .nack:
      return Claim(
        settlement: settlement,
        lease: dispatcher.beginSettle(mailbox, seq: seq, token: token, kid: kid), receipt: .success(nil))
    }
  }

  /// Outcomes without a commit, when nothing but renewals was asked for.
  private func renewals(_ claims: [Claim]) -> [ItemOutcome]? {
    guard claims.allSatisfy({ $0.settlement.verb == .renew }) else { return nil }
    return claims.map { renewal($0) }
  }

  private func renewal(_ claim: Claim) -> ItemOutcome {
    guard case .failure(let code) = claim.lease, code != .none else { return ItemOutcome(.accepted) }
    return ItemOutcome(.refused, code: code)
  }

  private func settle(
    _ claim: Claim, in mailbox: Int64, _ session: ClientSession, _ notices: inout NoticeBatch,
    _ statements: inout StatementBatch, _ group: CommitGroup
  ) throws -> ItemOutcome {
    if case .failure(let code) = claim.receipt { return ItemOutcome(.refused, code: code) }
    let receipt = try claim.receipt.get()
    let lease: Lease
    switch (claim.lease, claim.settlement.verb) {
    case (.failure, .renew): return renewal(claim)
    case (.failure(let code), .ack), (.failure(let code), .reject):
      return try answerWithoutLease(code, claim.settlement, receipt, in: mailbox, &notices, group)
    case (.failure(let code), .nack): return ItemOutcome(.refused, code: code)
    case (.success(let found), _): lease = found
    }
    switch claim.settlement.verb {
    case .nack(let delayMs, let code):
      return try settle(
        lease, in: mailbox, on: .nack(delayMs: delayMs.map { UInt64($0) }), code: code, &statements, group)
    case .reject(let code, _) where receipt == nil:
      return try settle(lease, in: mailbox, on: .reject, code: code, &statements, group)
    case .ack, .reject:
      guard let receipt else { return ItemOutcome(.refused, code: .malformed) }
      if case .reject = claim.settlement.verb, receipt.body.state != .failed {
        return ItemOutcome(.refused, code: .malformed)
      }
      return try finish(lease.seq, in: mailbox, receipt, &notices, in: group)
    case .renew: return ItemOutcome(.accepted)
    }
  }

  /// An end that was reported twice is a duplicate; one that came too late says why.
  private func answerWithoutLease(
    _ code: ErrorCode, _ settlement: Settlement, _ receipt: VerifiedReceipt?, in mailbox: Int64,
    _ notices: inout NoticeBatch, _ group: CommitGroup
  ) throws -> ItemOutcome {
    guard code == .leaseLost, let receipt,
      try group.transaction.place(mailbox, seq: settlement.seq) == nil
    else { return ItemOutcome(.refused, code: code) }
    return try lateAnswer(receipt, in: mailbox, &notices, group) ?? ItemOutcome(.refused, code: code)
  }

  /// What to say to a device that reports the end of a message which is not in its mailbox any more. Nil when
  /// the message still waits there under another number.
  private func lateAnswer(
    _ receipt: VerifiedReceipt, in mailbox: Int64, _ notices: inout NoticeBatch, _ group: CommitGroup
  ) throws -> ItemOutcome? {
    let body = receipt.body
    guard let info = try group.transaction.info(dedupeDigest(of: body)), info.envelopeID == body.envelope
    else { return ItemOutcome(.duplicate) }
    try hearLate(receipt, in: mailbox, expiresMs: info.expiresMs, isOpen: false, &notices, group)
    if info.expiresMs <= group.nowMs { return ItemOutcome(.refused, code: .expired) }
    guard info.open > 0 else { return ItemOutcome(.duplicate) }
    for placed in try group.transaction.places(of: info) {
      if placed.mailbox == mailbox { return nil }
      if placed.mailboxKind == .deadLetters { return ItemOutcome(.refused, code: .deadLettered) }
    }
    return ItemOutcome(.duplicate)
  }

  /// That its application was done with a message after all, is the device's to say, although a node has
  /// ended the delivery: to the node it changes nothing, but the sender is told, once.
  private func hearLate(
    _ receipt: VerifiedReceipt, in mailbox: Int64, expiresMs: UInt64, isOpen: Bool,
    _ notices: inout NoticeBatch, _ group: CommitGroup
  ) throws {
    let body = receipt.body
    guard body.state == .processed,
      try group.transaction.hearLateWord(
        about: dedupeDigest(of: body), in: mailbox, expiresMs: expiresMs, isOpen: isOpen)
    else { return }
    try sendHome(receipt, &notices, group)
  }

  private func dedupeDigest(of body: ReceiptBody) -> Digest {
    dedupeKey(sender: body.sender, kid: body.senderKid, message: body.messageID)
  }

  private func sendHome(
    _ receipt: VerifiedReceipt, _ notices: inout NoticeBatch, _ group: CommitGroup
  ) throws {
    let body = receipt.body
    if let home = try homeMailbox(of: body.sender, kid: body.senderKid, in: group) {
      notices.add(receipt.bytes, to: home)
      metrics.add(.receiptsForwarded)
    }
    group.audit(
      AuditLeaf(
        body.state == .processed ? .processed : .failed, atMs: group.nowMs,
        actor: body.recipient?.text ?? "", envelope: body.envelope, code: body.code))
  }

  /// Ends a delivery with its device's signed word, which goes home to the sender.
  func finish(
    _ seq: UInt64, in mailbox: Int64, _ receipt: VerifiedReceipt, _ notices: inout NoticeBatch,
    in group: CommitGroup
  ) throws -> ItemOutcome {
    let body = receipt.body
    guard body.state == .processed || body.state == .failed else {
      return ItemOutcome(.refused, code: .malformed)
    }
    var expiresMs: UInt64 = 0
    do {
      let removed = try group.transaction.removeDelivery(mailbox, seq: seq) { info in
        guard info.envelopeID == body.envelope, info.sender == body.sender,
          info.senderKid == body.senderKid, info.dedupe == dedupeDigest(of: body)
        else { throw ErrorCode.malformed }
        expiresMs = info.expiresMs
        guard info.expiresMs > group.nowMs else { throw ErrorCode.expired }
      }
      group.note(.gone(mailbox: mailbox, seq: seq))
      guard removed != nil else {
        return try lateAnswer(receipt, in: mailbox, &notices, group) ?? ItemOutcome(.duplicate)
      }
    } catch let code as ErrorCode where code == .malformed || code == .expired {
      if code == .expired {
        try hearLate(receipt, in: mailbox, expiresMs: expiresMs, isOpen: true, &notices, group)
      }
      return ItemOutcome(.refused, code: code)
    }
    try sendHome(receipt, &notices, group)
    return ItemOutcome(.accepted)
  }

  /// A settlement that was refused leaves its lease as it was.
  private func release(_ claim: Claim, _ outcome: ItemOutcome, _ mailbox: Int64) {
    guard case .success(let lease) = claim.lease else { return }
    switch outcome.outcome {
    case .accepted, .duplicate: delivered.settled(mailbox, seqs: [lease.seq])
    case .refused, .later: dispatcher.reopen(mailbox, lease)
    }
  }
}
