/// Frame types of the federation link, with the feature bit that both sides must offer before one is sent.
package enum FrameType: UInt8, CaseIterable, Sendable {
  case hello = 1
  case deliver = 2
  case ack = 3
  case receipts = 4
  case receiptsAck = 5
  case directoryQuery = 6
  case directoryAnswer = 7
  case certificate = 8
  case part = 9
  case ping = 10
  case pong = 11
  case goodbye = 12
  case request = 13
  case response = 14

  package var requiredFeature: LinkFeatures {
    switch self {
    case .hello, .ping, .pong, .goodbye: []
    case .deliver, .ack, .certificate: .deliver
    case .receipts, .receiptsAck: .receipts
    case .directoryQuery, .directoryAnswer: .directory
    case .part: .parts
    case .request, .response: .requests
    }
  }
}

package struct LinkFeatures: OptionSet, Sendable {
  package let rawValue: UInt64
  package init(rawValue: UInt64) { self.rawValue = rawValue }
  package static let deliver = LinkFeatures(rawValue: 1 << 0)
  package static let receipts = LinkFeatures(rawValue: 1 << 1)
  package static let directory = LinkFeatures(rawValue: 1 << 2)
  package static let parts = LinkFeatures(rawValue: 1 << 3)
  package static let requests = LinkFeatures(rawValue: 1 << 4)
  /// What this implementation speaks.
  package static let supported: LinkFeatures = [.deliver, .receipts, .directory, .parts, .requests]
}

package enum LinkRole: UInt8, Sendable {
  case dialler = 1
  case listener = 2
  package var opposite: LinkRole { self == .dialler ? .listener : .dialler }
}

/// `N`: the first frame both ways, signed over itself and the TLS exporter value.
package struct HelloBody: Equatable, Sendable {
  package static let version: UInt16 = 1

  package var role: LinkRole
  package var version: UInt16
  package var name: NodeName
  package var nodeID: NodeID
  package var peerName: NodeName
  package var peerNodeID: NodeID
  package var nowMs: UInt64
  /// Names the numbering of our deliveries to the peer; redrawn when it starts over.
  package var epoch: UInt64
  /// Last committed sequence number from the peer, in the peer's epoch `throughEpoch`.
  package var throughEpoch: UInt64
  package var through: UInt64
  package var maxFrame: UInt32
  package var window: UInt32
  package var features: LinkFeatures

  package init(
    role: LinkRole, version: UInt16 = HelloBody.version, name: NodeName, nodeID: NodeID, peerName: NodeName,
    peerNodeID: NodeID, nowMs: UInt64, epoch: UInt64, throughEpoch: UInt64, through: UInt64,
    maxFrame: UInt32 = UInt32(Limits.frameBytesMax), window: UInt32, features: LinkFeatures = .supported
  ) {
    (self.role, self.version, self.name, self.nodeID) = (role, version, name, nodeID)
    (self.peerName, self.peerNodeID, self.nowMs) = (peerName, peerNodeID, nowMs)
    (self.epoch, self.throughEpoch, self.through) = (epoch, throughEpoch, through)
    (self.maxFrame, self.window, self.features) = (maxFrame, window, features)
  }

  package func encoded() -> [UInt8] {
    fields { w in
      w.field(role.rawValue)
      w.field(version)
      w.field(name.text)
      w.field(nodeID.bytes)
      w.field(peerName.text)
      w.field(peerNodeID.bytes)
      w.field(nowMs)
      w.field(epoch)
      w.field(throughEpoch)
      w.field(through)
      w.field(maxFrame)
      w.field(window)
      w.field(features.rawValue)
      w.list { _ in }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    role = try known(LinkRole(rawValue: try r.integer()))
    version = try r.integer()
    name = try NodeName(try r.field(max: Limits.nodeNameBytesMax))
    nodeID = try NodeID(try r.field(max: 32))
    peerName = try NodeName(try r.field(max: Limits.nodeNameBytesMax))
    peerNodeID = try NodeID(try r.field(max: 32))
    nowMs = try r.integer()
    epoch = try r.integer()
    throughEpoch = try r.integer()
    through = try r.integer()
    maxFrame = try r.integer()
    window = try r.integer()
    features = LinkFeatures(rawValue: try r.integer())
    guard try r.field(max: Limits.criticalExtensionBytesMax).isEmpty else { throw .criticalExtension }
    try r.finish()
  }
}

/// `deliver = origin id | destination id | epoch | first seq | count | lp(envelope)…`
package struct DeliverFrame: Sendable {
  package var origin: NodeID
  package var destination: NodeID
  package var epoch: UInt64
  package var firstSeq: UInt64
  package var envelopes: [ArraySlice<UInt8>]

  package init(
    origin: NodeID, destination: NodeID, epoch: UInt64, firstSeq: UInt64, envelopes: [ArraySlice<UInt8>]
  ) {
    (self.origin, self.destination, self.epoch) = (origin, destination, epoch)
    (self.firstSeq, self.envelopes) = (firstSeq, envelopes)
  }

  /// Bytes that the frame adds around its envelopes, for filling frames up to a limit.
  package static let overheadBytes = 36 + 36 + 12 + 12 + 6

  package func encoded() -> [UInt8] {
    fields(capacity: Self.overheadBytes + envelopes.reduce(0) { $0 + $1.count + 4 }) { w in
      w.field(origin.bytes)
      w.field(destination.bytes)
      w.field(epoch)
      w.field(firstSeq)
      w.field(UInt16(envelopes.count))
      for envelope in envelopes { w.field(envelope) }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    origin = try NodeID(try r.field(max: 32))
    destination = try NodeID(try r.field(max: 32))
    epoch = try r.integer()
    firstSeq = try r.integer()
    let count = Int(try r.integer(UInt16.self))
    guard (1...Limits.envelopesPerBatchMax).contains(count) else { throw .tooLarge }
    guard firstSeq >= 1, firstSeq <= UInt64.max - UInt64(count) else { throw .nonCanonical }
    envelopes = []
    for _ in 0..<count { envelopes.append(try r.field(max: Limits.envelopeBytesMax)) }
    try r.finish()
  }
}

package enum DeliveryOutcome: UInt8, Sendable {
  case accepted = 1
  case duplicate = 2
  case refused = 3
  /// Not now; the origin sends it again under a new sequence number.
  case later = 4
}

/// `ack = origin id | destination id | epoch | through | (seq, outcome, code, receipt or empty)…`, ascending
/// by `seq`
package struct AckFrame: Sendable {
  package struct Item: Sendable {
    package var seq: UInt64
    package var outcome: DeliveryOutcome
    package var code: ErrorCode
    package var receipt: [UInt8]
    package init(seq: UInt64, outcome: DeliveryOutcome, code: ErrorCode = .none, receipt: [UInt8] = []) {
      (self.seq, self.outcome, self.code, self.receipt) = (seq, outcome, code, receipt)
    }
  }

  package var origin: NodeID
  package var destination: NodeID
  package var epoch: UInt64
  package var through: UInt64
  package var items: [Item]

  package init(origin: NodeID, destination: NodeID, epoch: UInt64, through: UInt64, items: [Item]) {
    (self.origin, self.destination, self.epoch) = (origin, destination, epoch)
    (self.through, self.items) = (through, items)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: 128 + items.count * 512) { w in
      w.field(origin.bytes)
      w.field(destination.bytes)
      w.field(epoch)
      w.field(through)
      for item in items {
        w.list {
          $0.field(item.seq)
          $0.field(item.outcome.rawValue)
          $0.field(item.code.rawValue)
          $0.field(item.receipt)
        }
      }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    origin = try NodeID(try r.field(max: 32))
    destination = try NodeID(try r.field(max: 32))
    epoch = try r.integer()
    through = try r.integer()
    var items: [Item] = []
    try r.rest(maxCount: Limits.envelopesPerBatchMax) { (r) throws(CodecError) in
      items.append(
        try parse(try r.field()) { (item) throws(CodecError) in
          Item(
            seq: try item.integer(), outcome: try known(DeliveryOutcome(rawValue: try item.integer())),
            code: ErrorCode(received: try item.integer()),
            receipt: Array(try item.field(max: Limits.receiptBytesMax)))
        })
    }
    // One outcome per envelope, in one order: no frame can answer twice for the same one.
    guard zip(items, items.dropFirst()).allSatisfy({ $0.seq < $1.seq }) else { throw .nonCanonical }
    self.items = items
  }
}

/// `receipts = epoch | seq | lp(receipt)…`: statements on their way to the sender's home node. One frame is
/// one row of the outbox and has one number, however many receipts it carries; it is acknowledged as a whole.
package struct ReceiptsFrame: Sendable {
  package var epoch: UInt64
  package var seq: UInt64
  package var receipts: [ArraySlice<UInt8>]

  package init(epoch: UInt64, seq: UInt64, receipts: [ArraySlice<UInt8>]) {
    (self.epoch, self.seq, self.receipts) = (epoch, seq, receipts)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: 64 + receipts.reduce(0) { $0 + $1.count + 4 }) { w in
      w.field(epoch)
      w.field(seq)
      for receipt in receipts { w.field(receipt) }
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    epoch = try r.integer()
    seq = try r.integer()
    var receipts: [ArraySlice<UInt8>] = []
    try r.rest(maxCount: Limits.envelopesPerBatchMax) { (r) throws(CodecError) in
      receipts.append(try r.field(max: Limits.receiptBytesMax))
    }
    guard !receipts.isEmpty, seq >= 1 else { throw .nonCanonical }
    self.receipts = receipts
  }
}
