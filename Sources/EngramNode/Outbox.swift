package import EngramCore
internal import EngramCrypto
internal import EngramStore
internal import Logging

// The outbox is the view of deliveries that wait for a peer. Everything here reads committed rows or settles
// them; links hold nothing that is not in the store.

extension Node {
  /// What a link needs to know when it starts. A peer without an epoch gets one here.
  package func linkState(_ peer: NodeName) throws(ErrorCode) -> LinkState {
    guard let known = roster.peer(peer) else { throw .noRoute }
    return try reading { try Self.linkState(known, $0) }
  }

  private static func linkState(_ known: KnownPeer, _ snapshot: StoreSnapshot) throws -> LinkState {
    let row = try snapshot.link(peer: known.envelopes)
    return LinkState(
      outEpoch: row.outEpoch, inEpoch: row.inEpoch, inThrough: row.inThrough,
      receiptsInEpoch: row.receiptsInEpoch, receiptsInThrough: row.receiptsInThrough,
      ackedThrough: row.ackedThrough, highestAssigned: try snapshot.highestSeq(known.envelopes),
      envelopesMailbox: known.envelopes, receiptsMailbox: known.receipts)
  }

  /// A new epoch, after the peer showed that our numbering was rolled back. Waiting rows keep their numbers;
  /// the peer deduplicates by message.
  package func redrawEpoch(
    _ peer: NodeName, completion: @escaping @Sendable (Result<LinkState, ErrorCode>) -> Void
  ) {
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        guard let known = roster.peer(peer) else { throw ErrorCode.noRoute }
        var row = try group.transaction.link(peer: known.envelopes)
        (row.outEpoch, row.ackedThrough) = (drawEpoch(), 0)
        try group.transaction.setLink(row)
        let state = try Self.linkState(known, group.transaction)
        log.warning("drew a new epoch towards a peer", metadata: ["peer": "\(peer)"])
        group.afterCommit { _ in completion(.success(state)) }
      } refused: {
        completion(.failure($0))
      })
  }

  /// Committed envelopes for a peer after `seq`, ascending, pruned to what it may see. A blocking read.
  package func outbound(
    _ peer: NodeName, after seq: UInt64, maxCount: Int, maxBytes: Int
  ) throws(ErrorCode) -> [OutboundEnvelope] {
    guard let known = roster.peer(peer) else { throw .noRoute }
    let now = clock.nowMs()
    let rows = try readingRows(known.envelopes) {
      try $0.deliveries(known.envelopes, after: seq, maxCount: maxCount, maxBytes: maxBytes)
    }
    guard let last = rows.last else { return [] }
    // Whatever is not withdrawn by now cannot be any more.
    let withdrawn = outboxGate.read(known.envelopes, through: last.seq)
    let live = rows.filter { $0.expiresMs > now && !withdrawn.contains($0.seq) }
    return try live.map { row throws(ErrorCode) in
      OutboundEnvelope(
        seq: row.seq, bytes: try pruned(row.bytes, for: peer), senderKid: row.senderKid,
        senderListVersion: try roster.device(row.senderKid)?.list.version ?? 0)
    }
  }

  /// The same for rows that were only just committed, without the store: never blocks. Nil when it has to be
  /// asked.
  package func freshOutbound(
    _ peer: NodeName, after seq: UInt64, maxCount: Int, maxBytes: Int
  ) -> [OutboundEnvelope]? {
    guard let known = roster.peer(peer) else { return nil }
    let now = clock.nowMs()
    let rows = freshRows.rows(known.envelopes, after: seq, maxCount: maxCount, maxBytes: maxBytes) { row in
      if case .envelope(let envelope) = row { envelope.header.expiresMs > now } else { false }
    }
    guard let rows, let last = rows.last else { return rows == nil ? nil : [] }
    let withdrawn = outboxGate.read(known.envelopes, through: last.seq)
    var out: [OutboundEnvelope] = []
    for (seq, row) in rows where !withdrawn.contains(seq) {
      guard case .envelope(let envelope) = row, let device = roster.cachedDevice(envelope.header.senderKid)
      else { return nil }
      out.append(
        OutboundEnvelope(
          seq: seq, bytes: pruned(envelope, for: peer), senderKid: envelope.header.senderKid,
          senderListVersion: device.list.version))
    }
    return out
  }

  /// Has rows for a peer kept in memory when they are committed, for the `fresh…` reads.
  package func followOutbox(_ peer: NodeName) -> [Watch] {
    guard let known = roster.peer(peer) else { return [] }
    return [freshRows.follow(known.envelopes), freshRows.follow(known.receipts)]
  }

  private func pruned(_ bytes: [UInt8], for peer: NodeName) throws(ErrorCode) -> [UInt8] {
    do throws(CodecError) { return pruned(try UnverifiedEnvelope(parsing: bytes), for: peer) } catch {
      throw .damagedRow
    }
  }

  private func pruned(_ envelope: UnverifiedEnvelope, for peer: NodeName) -> [UInt8] {
    if envelope.hasPattern(fullFor: { $0.address.node == peer }) { return envelope.bytes }
    return pruneEnvelope(envelope) { $0.address.node == peer }
  }

  /// Applies a peer's acknowledgements. Accepted and duplicate end the row; refused ends it with a failed
  /// receipt for the sender; later gives it a new number. Receipts about our clients' messages go into their
  /// mailboxes.
  package func settle(
    _ peer: NodeName, through: UInt64, items: [AckFrame.Item], completion: @escaping @Sendable () -> Void
  ) {
    commitLoop.submit(
      CommitCommand(weight: items.count) { [self] group in
        guard let known = roster.peer(peer) else { throw ErrorCode.noRoute }
        var notices = NoticeBatch(self)
        for item in items { try settle(item, known, &notices, in: group) }
        try notices.write(in: group)
        var link = try group.transaction.link(peer: known.envelopes)
        if through > link.ackedThrough {
          link.ackedThrough = through
          try group.transaction.setLink(link)
        }
        group.afterCommit { [metrics] _ in
          metrics.add(.federated, items.count { $0.outcome == .accepted })
          completion()
        }
      } refused: { [log] code in
        // The rows stay; the next connection sends them again and the peer answers `duplicate`.
        log.warning("acknowledgements were not stored", metadata: ["code": "\(code.name)"])
        completion()
      })
  }

  private func settle(
    _ item: AckFrame.Item, _ known: KnownPeer, _ notices: inout NoticeBatch, in group: CommitGroup
  ) throws {
    if item.outcome == .later {
      let fresh = try group.nextSeq(known.envelopes)
      group.putUnseen(in: known.envelopes)
      _ = try group.transaction.requeueDelivery(known.envelopes, seq: item.seq, newSeq: fresh)
      return
    }
    if item.outcome == .refused { try forgetDirectoryAnswers(after: item, from: known, in: group) }
    // Read before the removal, which wipes the bytes of a message that nobody waits for any more.
    let refusedID =
      item.outcome == .refused ? try messageID(mailbox: known.envelopes, seq: item.seq, in: group) : nil
    guard let removed = try group.transaction.removeDelivery(known.envelopes, seq: item.seq) else { return }
    let info = removed.info
    guard let home = try homeMailbox(of: info.sender, kid: info.senderKid, in: group) else { return }
    group.audit(
      AuditLeaf(
        item.outcome == .refused ? .failed : .forwarded, atMs: group.nowMs, actor: known.peer.name.text,
        envelope: info.envelopeID, code: item.code))
    if let receipt = usableReceipt(item.receipt, about: info, from: known) {
      notices.add(receipt, to: home)
    } else if let messageID = refusedID {
      metrics.add(.peersRefused)
      let body = statement(.failed, code: item.code, about: info, messageID: messageID, atMs: group.nowMs)
      for receipt in signReceipts([body], with: identity.key) { notices.add(receipt, to: home) }
    }
  }

  /// The peer's receipt if it is about this very envelope and in the peer's own name; its signature is for
  /// the sender's device to judge, which pins the peer's key.
  private func usableReceipt(_ bytes: [UInt8], about info: MessageInfo, from known: KnownPeer) -> [UInt8]? {
    guard !bytes.isEmpty, let receipt = try? UnverifiedReceipt(parsing: bytes[...]),
      receipt.body.envelope == info.envelopeID, receipt.body.sender == info.sender,
      receipt.body.issuerKey == known.peer.id.key, receipt.body.issuerName == known.peer.name.text
    else { return nil }
    return bytes
  }

  /// Receipt rows waiting for a peer. A blocking read.
  package func outboundReceipts(
    _ peer: NodeName, after seq: UInt64, maxCount: Int
  ) throws(ErrorCode) -> [OutboundReceipts] {
    guard let known = roster.peer(peer) else { throw .noRoute }
    let rows = try readingRows(known.receipts) {
      try $0.notices(known.receipts, after: seq, maxCount: maxCount, maxBytes: Limits.frameBytesMax)
    }
    return try rows.map { row throws(ErrorCode) in
      OutboundReceipts(seq: row.seq, receipts: try splitReceipts(row.bytes))
    }
  }

  /// The same for rows that were only just committed; see `freshOutbound`.
  package func freshReceipts(_ peer: NodeName, after seq: UInt64, maxCount: Int) -> [OutboundReceipts]? {
    guard let known = roster.peer(peer) else { return nil }
    let rows = freshRows.rows(
      known.receipts, after: seq, maxCount: maxCount, maxBytes: Limits.frameBytesMax
    ) { _ in true }
    guard let rows else { return nil }
    var out: [OutboundReceipts] = []
    for (seq, row) in rows {
      guard case .notice(let bytes) = row, let receipts = try? splitReceipts(bytes) else { return nil }
      out.append(OutboundReceipts(seq: seq, receipts: receipts))
    }
    return out
  }

  package func settleReceipts(
    _ peer: NodeName, through: UInt64, completion: @escaping @Sendable () -> Void
  ) {
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        guard let known = roster.peer(peer) else { throw ErrorCode.noRoute }
        _ = try group.transaction.removeNotices(known.receipts, through: through)
        group.afterCommit { _ in completion() }
      } refused: { _ in
        completion()
      })
  }

  /// One row of receipts from a peer, for our own clients: stored in their mailboxes with the stream's
  /// progress. Only receipts about messages that were sent are kept; once a message is forgotten, its sender
  /// has no use for them either.
  package func acceptReceipts(
    _ peer: NodeName, epoch: UInt64, seq: UInt64, receipts: [[UInt8]],
    completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let usable = receipts.compactMap { bytes -> (body: ReceiptBody, dedupe: Digest, bytes: [UInt8])? in
      guard let body = try? UnverifiedReceipt(parsing: bytes[...]).body, body.sender.node == identity.name,
        body.issuerName == peer.text || body.recipient?.node == peer, body.role != .homeNode
      else { return nil }
      let dedupe = dedupeKey(sender: body.sender, kid: body.senderKid, message: body.messageID)
      return (body, dedupe, bytes)
    }
    commitLoop.submit(
      CommitCommand(weight: receipts.count) { [self] group in
        guard let known = roster.peer(peer) else { throw ErrorCode.noRoute }
        var link = try group.transaction.link(peer: known.envelopes)
        guard link.receiptsInEpoch != epoch || seq > link.receiptsInThrough else {
          group.afterCommit { _ in completion(.none) }
          return
        }
        var notices = NoticeBatch(self)
        for receipt in usable {
          forgetDirectoryAnswer(after: receipt.body)
          guard try group.transaction.envelopeID(receipt.dedupe) == receipt.body.envelope,
            let home = try homeMailbox(of: receipt.body.sender, kid: receipt.body.senderKid, in: group)
          else {
            metrics.add(.receiptsDropped)
            continue
          }
          notices.add(receipt.bytes, to: home)
        }
        try notices.write(in: group)
        (link.receiptsInEpoch, link.receiptsInThrough) = (epoch, seq)
        try group.transaction.setLink(link)
        group.afterCommit { _ in completion(.none) }
      } refused: {
        completion($0)
      })
  }

  private func splitReceipts(_ bytes: [UInt8]) throws(ErrorCode) -> [[UInt8]] {
    do throws(CodecError) { return try splitBatch(bytes[...]).map { Array($0) } } catch { throw .damagedRow }
  }

  /// The id that the sender gave a waiting message, from its bytes.
  func messageID(mailbox: Int64, seq: UInt64, in group: CommitGroup) throws -> MessageID? {
    guard let row = try group.transaction.delivery(mailbox, seq: seq) else { return nil }
    return try? UnverifiedEnvelope(parsing: row.bytes).header.messageID
  }

  func drawEpoch() -> UInt64 {
    // Below 2^63, which is what SQLite can order; never 0, which means "none yet".
    random.bytes(8).reduce(0) { $0 << 8 | UInt64($1) } >> 1 | 1
  }
}
