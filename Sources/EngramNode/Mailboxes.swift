package import EngramCore
internal import EngramCrypto
internal import EngramStore
internal import Logging

extension Node {
  /// What waits for a device after `after`, oldest first: envelopes, receipts, and every sender's certificate
  /// before the first envelope that needs it. A blocking read: call it off the event loops. At least one item
  /// comes when any can be handed out, even if it is larger than `maxBytes`; fewer may come than there is
  /// room for, so whoever wants all asks until nothing comes.
  package func items(
    _ session: ClientSession, after: UInt64, maxCount: Int, maxBytes: Int, knownSenders: inout KnownSenders,
    noticesOnly: Bool = false
  ) throws(ErrorCode) -> [MailboxItem] {
    var cursor = after
    while true {
      let rows = try mailboxRows(
        session.mailbox, after: cursor, maxCount: maxCount, maxBytes: maxBytes, noticesOnly: noticesOnly)
      guard let last = rows.last else { return [] }
      cursor = last.seq
      let items = try handOut(
        rows, leased: dispatcher.leased(session.mailbox) ?? [], maxCount: maxCount, maxBytes: maxBytes,
        knownSenders: &knownSenders)
      noteShown(items, session, besides: Set(rows.filter(\.isShown).map(\.seq)))
      // Rows that ran out or are not due yet must not hide what is behind them.
      if !items.isEmpty { return items }
    }
  }

  private enum ItemRow {
    case delivery(DeliveryRow)
    case notice(NoticeRow)

    var seq: UInt64 {
      switch self {
      case .delivery(let row): row.seq
      case .notice(let row): row.seq
      }
    }

    var isShown: Bool {
      if case .delivery(let row) = self { row.place.isShown } else { false }
    }
  }

  /// Deliveries and receipt rows in one sequence. Either list may have been cut short by its limits, so
  /// nothing is taken from one that lies behind the end of the other: it would move the reader's cursor past
  /// rows it never saw.
  private func mailboxRows(
    _ mailbox: Int64, after: UInt64, maxCount: Int, maxBytes: Int, noticesOnly: Bool
  ) throws(ErrorCode) -> [ItemRow] {
    let (deliveries, notices) = try readingRows(mailbox) { snapshot in
      (
        noticesOnly
          ? [] : try snapshot.deliveries(mailbox, after: after, maxCount: maxCount, maxBytes: maxBytes),
        try snapshot.notices(mailbox, after: after, maxCount: maxCount, maxBytes: maxBytes)
      )
    }
    let end = min(deliveries.last?.seq ?? .max, notices.last?.seq ?? .max)
    let rows = deliveries.map(ItemRow.delivery) + notices.map(ItemRow.notice)
    return rows.filter { $0.seq <= end }.sorted { $0.seq < $1.seq }
  }

  private func handOut(
    _ rows: [ItemRow], leased: Set<UInt64>, maxCount: Int, maxBytes: Int, knownSenders: inout KnownSenders
  ) throws(ErrorCode) -> [MailboxItem] {
    let now = clock.nowMs()
    var items: [MailboxItem] = []
    // Certificates are free: they count towards neither limit.
    var (count, bytes) = (0, 0)
    for row in rows {
      guard count == 0 || (count < maxCount && bytes < maxBytes) else { break }
      switch row {
      case .delivery(let delivery):
        guard delivery.expiresMs > now, delivery.place.rank != nil, !leased.contains(delivery.seq) else {
          continue
        }
        if let item = try certificate(delivery.senderKid, beyond: &knownSenders) {
          items.append(MailboxItem(kind: .certificate, seq: 0, payload: item.encoded()))
        }
        items.append(MailboxItem(kind: .envelope, seq: delivery.seq, payload: delivery.bytes))
        (count, bytes) = (count + 1, bytes + delivery.bytes.count)
      case .notice(let notice):
        items.append(MailboxItem(kind: notice.kind, seq: notice.seq, payload: notice.bytes))
        (count, bytes) = (count + 1, bytes + notice.bytes.count)
      }
    }
    return items
  }

  /// `items` for rows that were only just committed, without the store: never blocks. Nil when it has to be
  /// asked. Needs `followMailbox`.
  package func freshItems(
    _ session: ClientSession, after: UInt64, maxCount: Int, maxBytes: Int, knownSenders: KnownSenders,
    noticesOnly: Bool = false
  ) -> [MailboxItem]? {
    // Only the store knows what was given back, and what is held.
    guard noticesOnly || dispatcher.leased(session.mailbox) == nil else { return nil }
    let now = clock.nowMs()
    let rows = freshRows.rows(session.mailbox, after: after, maxCount: maxCount, maxBytes: maxBytes) { row in
      guard case .envelope(let fresh) = row else { return true }
      return !noticesOnly && fresh.header.expiresMs > now && fresh.header.notBeforeMs <= now
    }
    guard let rows else { return nil }
    var items: [MailboxItem] = []
    items.reserveCapacity(rows.count)
    for (seq, row) in rows {
      switch row {
      case .envelope(let fresh):
        // A certificate that has to come first is in the store.
        let kid = fresh.header.senderKid
        guard let sender = roster.cachedDevice(kid),
          knownSenders.isCurrent(kid, listVersion: sender.list.version)
        else { return nil }
        items.append(MailboxItem(kind: .envelope, seq: seq, payload: fresh.envelope.bytes))
      case .notice(let bytes):
        items.append(MailboxItem(kind: .receipt, seq: seq, payload: bytes))
      }
    }
    noteShown(items, session)
    return items
  }

  /// Remembers what a reader is handed: it cannot be called back any more, and if nothing is said about it
  /// for a while, its sender is told that the device has it.
  /// - Parameter told: of these the sender knows.
  private func noteShown(_ items: [MailboxItem], _ session: ClientSession, besides told: Set<UInt64> = []) {
    guard let last = items.last(where: { $0.kind == .envelope }) else { return }
    shown.add(session.mailbox, through: last.seq)
    let dueMs = clock.monotonicMs() + settings.deliveredAfterMs
    var entries: [DeliveredBatch.Entry] = []
    entries.reserveCapacity(items.count)
    for item in items where item.kind == .envelope && !told.contains(item.seq) {
      entries.append(
        DeliveredBatch.Entry(
          mailbox: session.mailbox, seq: item.seq, address: session.address, kid: session.kid,
          isLeased: false, dueMs: dueMs))
    }
    delivered.add(entries)
  }

  /// Has what is committed for a device kept in memory, for `freshItems`.
  package func followMailbox(_ session: ClientSession) -> Watch { freshRows.follow(session.mailbox) }

  /// A read of a mailbox's rows, which carry check sums. One that does not match its own is never handed out:
  /// it is taken out, so that it does not block what is behind it, and counted for the operator.
  func readingRows<T>(_ mailbox: Int64, _ body: (StoreSnapshot) throws -> T) throws(ErrorCode) -> T {
    do { return try unmappedRead(body) } catch {
      guard let failure = error as? StoreError else { throw error as? ErrorCode ?? .internalError }
      switch failure {
      case .damaged(.message, let row): quarantine(message: row)
      case .damaged(.notice, let row): quarantine(notice: UInt64(clamping: row), in: mailbox)
      default: break
      }
      throw failure.code
    }
  }

  /// The sender is told, as far as the row still says who that is: it was promised an answer.
  private func quarantine(message: Int64) {
    metrics.add(.damagedRows)
    log.error("a stored message is damaged and was set aside", metadata: ["row": "\(message)"])
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        let remains = try group.transaction.remains(of: message)
        for place in try group.transaction.quarantine(message: message) {
          group.wake(place.mailbox)
          group.note(.gone(mailbox: place.mailbox, seq: place.seq))
        }
        // The bytes are damaged somewhere; the id in them is right if it leads to the row's own key.
        guard let (info, bytes) = remains, info.open > 0,
          let header = try? UnverifiedEnvelope(parsing: bytes).header, dedupeKey(header) == info.dedupe
        else { return }
        let body = statement(
          .failed, code: .damagedRow, about: info, messageID: header.messageID, atMs: group.nowMs)
        try post([body], towards: info.sender, kid: info.senderKid, in: group)
      } refused: { _ in
      })
  }

  private func quarantine(notice seq: UInt64, in mailbox: Int64) {
    metrics.add(.damagedRows)
    log.error("a stored receipt row is damaged and was removed", metadata: ["row": "\(seq)"])
    commitLoop.submit(
      CommitCommand(weight: 1) { group in
        _ = try group.transaction.removeNotice(mailbox, seq: seq)
        group.wake(mailbox)
      } refused: { _ in
      })
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
    let roots = ReceiptRoots()
    let checked = acks.map { ack in
      (seq: ack.seq, receipt: checkReceipt(ack.receipt, from: session, roots))
    }
    commitLoop.submit(
      CommitCommand(weight: acks.count) { [self] group in
        var notices = NoticeBatch(self)
        let outcomes = try checked.map { ack in
          switch ack.receipt {
          case .failure(let code): ItemOutcome(code.isRetryable ? .later : .refused, code: code)
          case .success(let receipt): try settle(ack.seq, receipt, session, &notices, in: group)
          }
        }
        try notices.write(in: group)
        group.afterCommit { [metrics, delivered] _ in
          let settled = zip(checked, outcomes).filter { [.accepted, .duplicate].contains($1.outcome) }
          delivered.settled(session.mailbox, seqs: settled.lazy.map(\.0.seq))
          metrics.add(.acknowledged, outcomes.count { $0.outcome == .accepted })
          completion(outcomes)
        }
      } refused: { code in
        completion(acks.map { _ in ItemOutcome(code.isRetryable ? .later : .refused, code: code) })
      })
  }

  /// nil for an empty receipt; otherwise one that this very device signed about itself.
  /// - Parameter roots: of one request: what the device signed together is verified together.
  func checkReceipt(
    _ bytes: [UInt8], from session: ClientSession, _ roots: ReceiptRoots
  ) -> Result<VerifiedReceipt?, ErrorCode> {
    if bytes.isEmpty { return .success(nil) }
    do {
      let receipt = try UnverifiedReceipt(parsing: bytes[...])
      guard receipt.body.role == .device, receipt.body.recipient == session.address,
        receipt.body.recipientKid == session.kid, let device = try roster.device(session.kid)
      else { return .failure(.wrongHome) }
      return .success(
        try VerifiedReceipt(receipt, bytes: bytes, key: device.certificate.key, roots: roots))
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
    // A message in a consumer's hands is that one's to settle, under its token.
    if dispatcher.holder(session.mailbox, of: seq) != nil {
      return ItemOutcome(.refused, code: .leaseLost)
    }
    return try finish(seq, in: session.mailbox, receipt, &notices, in: group)
  }
}
