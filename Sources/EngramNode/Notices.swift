internal import EngramCore
internal import EngramCrypto
internal import EngramStore

/// Receipts on their way home, gathered per mailbox so that a batch costs one row and not one per receipt.
struct NoticeBatch {
  /// A row stays small enough for one frame with room to spare.
  private static let receiptsPerRowMax = 256
  private static let rowBytesMax = 192 << 10

  /// How long a receipt waits for whoever should read it: as long as a message may live at most. By then the
  /// sender has given the message up.
  static let keptMs = Limits.ttlMsMax

  private var pending: [Int64: [[UInt8]]] = [:]
  private let numbersMax: UInt64
  private let metrics: NodeMetrics

  init(_ node: Node) {
    (numbersMax, metrics) = (UInt64(node.settings.noticeNumbersMax), node.metrics)
  }

  mutating func add(_ receipt: [UInt8], to mailbox: Int64) { pending[mailbox, default: []].append(receipt) }

  /// Writes the rows, mailboxes in ascending order.
  func write(in group: CommitGroup) throws {
    for (mailbox, receipts) in pending.sorted(by: { $0.key < $1.key }) {
      var row = FieldWriter(capacity: 4_096)
      var count = 0
      for receipt in receipts {
        if count == Self.receiptsPerRowMax || row.bytes.count + receipt.count > Self.rowBytesMax {
          try flush(&row, &count, mailbox, group)
        }
        row.field(receipt)
        count += 1
      }
      try flush(&row, &count, mailbox, group)
    }
  }

  private func flush(_ row: inout FieldWriter, _ count: inout Int, _ mailbox: Int64, _ group: CommitGroup)
    throws
  {
    guard count > 0 else { return }
    let seq = try group.nextSeq(mailbox)
    try group.transaction.insertNotice(mailbox: mailbox, seq: seq, bytes: row.bytes, nowMs: group.nowMs)
    if seq > numbersMax {
      let dropped = try group.transaction.removeNotices(mailbox, through: seq - numbersMax)
      if dropped > 0 { metrics.add(.receiptsDropped, dropped) }
    }
    group.keep(.notice(row.bytes), in: mailbox, seq: seq)
    (row, count) = (FieldWriter(capacity: 4_096), 0)
  }
}

extension Node {
  /// Where receipts about a message of this sender go: the device's own mailbox, or its node's. Nil when
  /// neither is known any more; the receipt is then dropped, for nobody is left to read it.
  func homeMailbox(of sender: Address, kid: Kid, in group: CommitGroup) throws -> Int64? {
    if sender.node == identity.name { return try roster.device(kid, in: group)?.mailbox }
    return roster.peer(sender.node)?.receipts
  }

  func signed(_ bodies: [ReceiptBody]) -> [[UInt8]] { signReceipts(bodies, with: identity.key) }

  /// Signs statements of our own at once, because they are stored in this transaction, and sends them home.
  func post(_ bodies: [ReceiptBody], towards sender: Address, kid: Kid, in group: CommitGroup) throws {
    guard let mailbox = try homeMailbox(of: sender, kid: kid, in: group) else { return }
    var notices = NoticeBatch(self)
    for receipt in signReceipts(bodies, with: identity.key) { notices.add(receipt, to: mailbox) }
    try notices.write(in: group)
  }

  /// A statement about a stored message, for one recipient or for the whole.
  func statement(
    _ state: ReceiptState, code: ErrorCode, about info: MessageInfo, messageID: MessageID, atMs: UInt64
  ) -> ReceiptBody {
    ReceiptBody(
      role: info.origin == 0 ? .homeNode : .recipientNode, issuerName: identity.name.text,
      issuerKey: identity.id.key, envelope: info.envelopeID, sender: info.sender, senderKid: info.senderKid,
      messageID: messageID, state: state, code: code, atMs: atMs)
  }
}
