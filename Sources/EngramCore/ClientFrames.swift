/// One thing that a node hands to a client's device: `kind u8 | seq u64 | payload`.
package struct MailboxItem: Equatable, Sendable {
  package enum Kind: UInt8, Sendable {
    /// A `CertificateItem`; seq 0, not acknowledged. Precedes the first envelope that needs it.
    case certificate = 1
    case envelope = 2
    /// `lp(receipt)…`: one or more receipts about messages that this device sent; acknowledged as one.
    case receipt = 3
    /// A `LeasedEnvelope`; settled under its token, never acknowledged by its number alone.
    case leased = 4
    /// A `NodeNotice`; acknowledged with an empty receipt.
    case notice = 5
  }

  package var kind: Kind
  package var seq: UInt64
  package var payload: [UInt8]
  package init(kind: Kind, seq: UInt64, payload: [UInt8]) {
    (self.kind, self.seq, self.payload) = (kind, seq, payload)
  }

  package static let overheadBytes = 5 + 12 + 4

  package func append(to w: inout FieldWriter) {
    w.raw(UInt32(Self.overheadBytes + payload.count))
    w.field(kind.rawValue)
    w.field(seq)
    w.field(payload)
  }

  package static func encode(_ items: [MailboxItem]) -> [UInt8] {
    fields(capacity: items.reduce(0) { $0 + $1.payload.count + Self.overheadBytes + 4 }) { w in
      for item in items { item.append(to: &w) }
    }
  }

  /// Decodes `lp(item)…`, the body of `GET …/messages` (application/vnd.engram.items).
  package static func decode(_ bytes: ArraySlice<UInt8>, maxCount: Int = 4_096) throws(CodecError)
    -> [MailboxItem]
  {
    var reader = FieldReader(bytes)
    var items: [MailboxItem] = []
    try reader.rest(maxCount: maxCount) { (r) throws(CodecError) in
      items.append(
        try parse(try r.field()) { (item) throws(CodecError) in
          MailboxItem(
            kind: try known(Kind(rawValue: try item.integer())), seq: try item.integer(),
            payload: Array(try item.field(max: Limits.envelopeBytesMax + LeasedEnvelope.overheadBytes)))
        })
    }
    return items
  }
}

/// A device's word about one mailbox item: `seq u64 | receipt or empty`. Envelopes are acknowledged with the
/// device's signed receipt (processed or failed); receipts with an empty one.
package struct MailboxAck: Equatable, Sendable {
  package var seq: UInt64
  package var receipt: [UInt8]
  package init(seq: UInt64, receipt: [UInt8] = []) { (self.seq, self.receipt) = (seq, receipt) }

  package static func encode(_ acks: [MailboxAck]) -> [UInt8] {
    fields(capacity: acks.reduce(0) { $0 + $1.receipt.count + 20 }) { w in
      for ack in acks {
        w.list {
          $0.field(ack.seq)
          $0.field(ack.receipt)
        }
      }
    }
  }

  package static func decode(_ bytes: ArraySlice<UInt8>) throws(CodecError) -> [MailboxAck] {
    var reader = FieldReader(bytes)
    var acks: [MailboxAck] = []
    try reader.rest(maxCount: Limits.envelopesPerBatchMax) { (r) throws(CodecError) in
      acks.append(
        try parse(try r.field()) { (item) throws(CodecError) in
          MailboxAck(seq: try item.integer(), receipt: Array(try item.field(max: Limits.receiptBytesMax)))
        })
    }
    return acks
  }
}

/// The answer for one envelope or ack of a batch, in the batch's order: `outcome u8 | code u16 | receipt or
/// empty`.
package struct ItemOutcome: Equatable, Sendable {
  package var outcome: DeliveryOutcome
  package var code: ErrorCode
  package var receipt: [UInt8]
  package init(_ outcome: DeliveryOutcome, code: ErrorCode = .none, receipt: [UInt8] = []) {
    (self.outcome, self.code, self.receipt) = (outcome, code, receipt)
  }

  package static func append(_ outcomes: [ItemOutcome], to w: inout FieldWriter) {
    for outcome in outcomes {
      w.list {
        $0.field(outcome.outcome.rawValue)
        $0.field(outcome.code.rawValue)
        $0.field(outcome.receipt)
      }
    }
  }

  package static func encode(_ outcomes: [ItemOutcome]) -> [UInt8] {
    fields(capacity: outcomes.reduce(0) { $0 + $1.receipt.count + 32 }) { append(outcomes, to: &$0) }
  }

  package static func decode(_ bytes: ArraySlice<UInt8>) throws(CodecError) -> [ItemOutcome] {
    var reader = FieldReader(bytes)
    var outcomes: [ItemOutcome] = []
    try reader.rest(maxCount: Limits.envelopesPerBatchMax) { (r) throws(CodecError) in
      outcomes.append(
        try parse(try r.field()) { (item) throws(CodecError) in
          ItemOutcome(
            try known(DeliveryOutcome(rawValue: try item.integer())),
            code: ErrorCode(received: try item.integer()),
            receipt: Array(try item.field(max: Limits.receiptBytesMax)))
        })
    }
    return outcomes
  }
}

/// Binary WebSocket messages of `…/realtime`: one type byte, then the payload named here.
package enum RealtimeFrame: Equatable, Sendable {
  /// 1, client: `request u32 | lp(envelope)…`
  case send(request: UInt32, envelopes: [ArraySlice<UInt8>])
  /// 2, client: `request u32 | acks…`
  case ack(request: UInt32, acks: [MailboxAck])
  /// 3, client: `items u32`: the node may push that many more items (certificates are free).
  case credit(UInt32)
  /// 4, client: from now on envelopes come as leases, within the prefetch instead of the credit.
  case consume(ConsumeRequest)
  /// 5, client: `request u32 | settlements…`
  case settle(request: UInt32, settlements: [Settlement])
  /// 16, node: `items…`
  case items([MailboxItem])
  /// 17, node: `request u32 | outcomes…`: answers a send, an ack or a settle.
  case outcomes(request: UInt32, [ItemOutcome])
  /// 18, node: `code u16`: the connection closes next.
  case problem(ErrorCode)

  package func encoded() -> [UInt8] {
    var w = FieldWriter(capacity: 1_024)
    switch self {
    case .send(let request, let envelopes):
      w = FieldWriter(capacity: 16 + envelopes.reduce(0) { $0 + $1.count + 4 })
      w.raw(UInt8(1))
      w.field(request)
      for envelope in envelopes { w.field(envelope) }
    case .ack(let request, let acks):
      w.raw(UInt8(2))
      w.field(request)
      w.raw(MailboxAck.encode(acks))
    case .credit(let count):
      w.raw(UInt8(3))
      w.field(count)
    case .consume(let consume):
      w.raw(UInt8(4))
      consume.append(to: &w)
    case .settle(let request, let settlements):
      w.raw(UInt8(5))
      w.field(request)
      Settlement.append(settlements, to: &w)
    case .items(let items):
      w = FieldWriter(capacity: items.reduce(1) { $0 + $1.payload.count + MailboxItem.overheadBytes + 4 })
      w.raw(UInt8(16))
      for item in items { item.append(to: &w) }
    case .outcomes(let request, let outcomes):
      w = FieldWriter(capacity: outcomes.reduce(9) { $0 + $1.receipt.count + 32 })
      w.raw(UInt8(17))
      w.field(request)
      ItemOutcome.append(outcomes, to: &w)
    case .problem(let code):
      w.raw(UInt8(18))
      w.field(code.rawValue)
    }
    return w.bytes
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard let type = bytes.first else { throw .truncated }
    var r = FieldReader(bytes.dropFirst())
    func remainder(_ r: FieldReader) -> ArraySlice<UInt8> { bytes[r.position...] }
    switch type {
    case 1:
      let request: UInt32 = try r.integer()
      self = .send(request: request, envelopes: try splitBatch(remainder(r)))
    case 2:
      let request: UInt32 = try r.integer()
      self = .ack(request: request, acks: try MailboxAck.decode(remainder(r)))
    case 3:
      self = .credit(try r.integer())
      try r.finish()
    case 4:
      self = .consume(try ConsumeRequest(&r))
      try r.finish()
    case 5:
      let request: UInt32 = try r.integer()
      self = .settle(request: request, settlements: try Settlement.decode(remainder(r)))
    case 16: self = .items(try MailboxItem.decode(remainder(r)))
    case 17:
      let request: UInt32 = try r.integer()
      self = .outcomes(request: request, try ItemOutcome.decode(remainder(r)))
    case 18:
      self = .problem(ErrorCode(received: try r.integer()))
      try r.finish()
    default: throw .unknownValue
    }
  }
}
