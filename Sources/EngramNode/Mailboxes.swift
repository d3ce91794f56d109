package import EngramCore
internal import EngramCrypto
internal import EngramStore

extension Node {
  /// What waits for a device after `after`, oldest first: envelopes, receipts, and every sender's certificate
  /// before the first envelope that needs it. A blocking read: call it off the event loops. At least one item
  /// comes when any waits, even if it is larger than `maxBytes`.
  package func items(
    _ session: ClientSession, after: UInt64, maxCount: Int, maxBytes: Int, knownSenders: inout Set<Kid>
  ) throws(ErrorCode) -> [MailboxItem] {
    let now = clock.nowMs()
    let (deliveries, notices) = try reading { snapshot in
      (
        try snapshot.deliveries(session.mailbox, after: after, maxCount: maxCount, maxBytes: maxBytes),
        try snapshot.notices(session.mailbox, after: after, maxCount: maxCount, maxBytes: maxBytes)
      )
    }
    var items: [MailboxItem] = []
    var bytes = 0
    var (d, n) = (deliveries[...], notices[...])
    while items.count < maxCount, items.isEmpty || bytes < maxBytes {
      if let delivery = d.first, delivery.seq < n.first?.seq ?? .max {
        d = d.dropFirst()
        guard delivery.expiresMs > now, delivery.notBeforeMs <= now else { continue }
        if knownSenders.insert(delivery.senderKid).inserted, let item = try certificate(delivery.senderKid) {
          items.append(MailboxItem(kind: .certificate, seq: 0, payload: item.encoded()))
        }
        items.append(MailboxItem(kind: .envelope, seq: delivery.seq, payload: delivery.bytes))
        bytes += delivery.bytes.count
      } else if let notice = n.first {
        n = n.dropFirst()
        items.append(MailboxItem(kind: .receipt, seq: notice.seq, payload: notice.bytes))
        bytes += notice.bytes.count
      } else {
        break
      }
    }
    return items
  }

  /// Certificate and newest device list of a device, as they are handed to whoever needs them.
  package func certificate(_ kid: Kid) throws(ErrorCode) -> CertificateItem? {
    try reading { snapshot in
      guard let device = try snapshot.device(kid), let client = try snapshot.client(device.address) else {
        return nil
      }
      return CertificateItem(certificate: device.certificate, deviceList: client.list)
    }
  }

  /// Called after every commit that put something into the mailbox, on the commit thread.
  package func watch(mailbox: Int64, _ onWork: @escaping @Sendable () -> Void) -> Watch {
    mailboxWatches.add(mailbox, onWork)
  }

  package func pendingCount(mailbox: Int64) throws(ErrorCode) -> Int {
    try reading { try $0.pendingCount(mailbox) }
  }

  /// A device's acknowledgements: envelopes with its signed `processed` or `failed` receipt, receipts with
  /// nothing. Verifies signatures on the caller's thread, then commits removal and the receipt's way home
  /// together.
  package func acknowledge(
    _ acks: [MailboxAck], _ session: ClientSession, completion: @escaping @Sendable ([ItemOutcome]) -> Void
  ) {
    let checked = acks.map { ack in (seq: ack.seq, receipt: checkReceipt(ack.receipt, from: session)) }
    commitLoop.submit(
      CommitCommand(weight: acks.count) { [self] group in
        var notices = NoticeBatch()
        let outcomes = try checked.map { ack in
          switch ack.receipt {
          case .failure(let code): ItemOutcome(.refused, code: code)
          case .success(let receipt): try settle(ack.seq, receipt, session, &notices, in: group)
          }
        }
        try notices.write(in: group)
        group.afterCommit { [metrics] _ in
          metrics.add(.acknowledged, outcomes.count { $0.outcome == .accepted })
          completion(outcomes)
        }
      } refused: { code in
        completion(acks.map { _ in ItemOutcome(code.isRetryable ? .later : .refused, code: code) })
      })
  }

  /// nil for an empty receipt; otherwise one that this very device signed about itself.
  private func checkReceipt(
    _ bytes: [UInt8], from session: ClientSession
  ) -> Result<VerifiedReceipt?, ErrorCode> {
    if bytes.isEmpty { return .success(nil) }
    do {
      let receipt = try UnverifiedReceipt(parsing: bytes[...])
      guard receipt.body.role == .device, receipt.body.recipient == session.address,
        receipt.body.recipientKid == session.kid, let device = try roster.device(session.kid)
      else { return .failure(.wrongHome) }
      return .success(
        try VerifiedReceipt(receipt, bytes: bytes, expectedKey: device.certificate.body.signing))
    } catch let error as CodecError {
      return .failure(error.code)
    } catch let error as SignatureError {
      return .failure(error.code)
    } catch {
      return .failure(error as? ErrorCode ?? .internalError)
    }
  }

  private func settle(
    _ seq: UInt64, _ receipt: VerifiedReceipt?, _ session: ClientSession, _ notices: inout NoticeBatch,
    in group: CommitGroup
  ) throws -> ItemOutcome {
    guard let receipt else {
      // Only a receipt row may go without a statement; an envelope needs one.
      if try group.transaction.removeNotice(session.mailbox, seq: seq) { return ItemOutcome(.accepted) }
      let isEnvelope = try group.transaction.delivery(session.mailbox, seq: seq) != nil
      return isEnvelope ? ItemOutcome(.refused, code: .malformed) : ItemOutcome(.duplicate)
    }
    do {
      return try group.transaction.savepoint {
        guard let removed = try group.transaction.removeDelivery(session.mailbox, seq: seq) else {
          return ItemOutcome(.duplicate)
        }
        let body = receipt.body
        guard removed.info.envelopeID == body.envelope, removed.info.sender == body.sender,
          removed.info.senderKid == body.senderKid,
          removed.info.dedupe == dedupeKey(sender: body.sender, kid: body.senderKid, message: body.messageID)
        else { throw ErrorCode.malformed }
        if let home = try homeMailbox(of: body.sender, kid: body.senderKid, in: group) {
          notices.add(receipt.bytes, to: home)
          metrics.add(.receiptsForwarded)
        }
        return ItemOutcome(.accepted)
      }
    } catch let code as ErrorCode where code == .malformed {
      return ItemOutcome(.refused, code: code)
    }
  }
}
