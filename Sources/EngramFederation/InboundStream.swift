import EngramCore

/// Deliveries from one peer on one link: checked against the window, verified one batch after the other,
/// committed in parallel, acknowledged after their commit. They come in the origin's order of work, so their
/// numbers need not ascend.
struct InboundStream: Sendable {
  enum Work: Sendable {
    case accept(InboundBatch)
    case learn(CertificateItem)
  }

  private let origin: NodeID
  private let destination: NodeID
  private let epoch: UInt64
  private let windowMessages: Int

  /// Numbers that arrived, in whole or as a first part, and are not answered.
  private var undecided: Set<UInt64> = []
  private var assemblies: [UInt32: PartAssembly] = [:]
  private var waiting = Queue<Work>()
  private var undecidedCertificates = 0
  private var learning = 0
  private var isVerifying = false
  /// Batches that are being verified or committed.
  private var submitted = 0
  private var undecidedBytes = 0
  /// The highest number that is decided and durable.
  private var committedThrough: UInt64

  init(origin: NodeID, destination: NodeID, epoch: UInt64, committedThrough: UInt64, windowMessages: Int) {
    (self.origin, self.destination, self.epoch) = (origin, destination, epoch)
    (self.committedThrough, self.windowMessages) = (committedThrough, windowMessages)
  }

  /// So much is undecided that reading on would only pile it up.
  var isOverfull: Bool { undecidedBytes > LinkLimits.undecidedBytesMax }
  /// Nothing that was taken in waits for its answer; half-arrived envelopes do not count.
  var isIdle: Bool { submitted == 0 && waiting.isEmpty && learning == 0 }

  // MARK: - Frames

  mutating func deliver(_ frame: DeliverFrame) throws(LinkRefusal) {
    try check(frame)
    try take(frame.firstSeq..<(frame.firstSeq + UInt64(frame.envelopes.count)))
    enqueue(frame)
  }

  mutating func part(_ part: PartFrame) throws(LinkRefusal) {
    if assemblies[part.stream] == nil {
      guard part.offset == 0, part.firstSeq < .max else { throw LinkRefusal(.nonCanonical) }
      guard assemblies.count < LinkLimits.partStreamsMax else { throw LinkRefusal(.windowExceeded) }
      try take(part.firstSeq..<(part.firstSeq + 1))
      assemblies[part.stream] = PartAssembly(part)
    }
    guard try assemblies[part.stream]?.add(part) == true,
      let whole = assemblies.removeValue(forKey: part.stream)
    else { return }
    let frame = try parsed { () throws(CodecError) in try DeliverFrame(parsing: whole.bytes[...]) }
    try check(frame)
    guard frame.envelopes.count == 1, frame.firstSeq == whole.firstSeq else {
      throw LinkRefusal(.nonCanonical)
    }
    enqueue(frame)
  }

  mutating func certificate(_ certificate: CertificateItem) throws(LinkRefusal) {
    guard undecidedCertificates < windowMessages else { throw LinkRefusal(.windowExceeded) }
    undecidedCertificates += 1
    waiting.append(.learn(certificate))
  }

  private func check(_ frame: DeliverFrame) throws(LinkRefusal) {
    guard frame.origin == origin, frame.destination == destination else { throw LinkRefusal(.wrongPeer) }
    guard frame.epoch == epoch else { throw LinkRefusal(.nonCanonical) }
  }

  /// A number that is under way comes only once: its answer would be ambiguous.
  private mutating func take(_ seqs: Range<UInt64>) throws(LinkRefusal) {
    guard undecided.count + seqs.count <= windowMessages else { throw LinkRefusal(.windowExceeded) }
    for seq in seqs {
      guard undecided.insert(seq).inserted else { throw LinkRefusal(.nonCanonical) }
    }
  }

  private mutating func enqueue(_ frame: DeliverFrame) {
    let bytes = frame.envelopes.reduce(0) { $0 + $1.count }
    undecidedBytes += bytes
    let seqs = frame.envelopes.indices.map { frame.firstSeq + UInt64($0) }
    waiting.append(
      .accept(InboundBatch(epoch: epoch, seqs: seqs, envelopes: frame.envelopes, byteCount: bytes)))
  }

  // MARK: - Work

  /// Certificates that stand together are learned together; the envelopes behind them wait until all are
  /// stored.
  mutating func nextWork() -> Work? {
    switch waiting.first {
    case .learn?:
      learning += 1
      return waiting.popFirst()
    case .accept?:
      guard learning == 0, !isVerifying else { return nil }
      isVerifying = true
      submitted += 1
      return .accept(joinedBatch())
    case nil: return nil
    }
  }

  /// Small frames that wait together are worked off together: mixed priorities leave few numbers that are
  /// consecutive, and so many small frames.
  private mutating func joinedBatch() -> InboundBatch {
    var joined = InboundBatch(epoch: epoch, seqs: [], envelopes: [], byteCount: 0)
    while case .accept(let batch)? = waiting.first {
      guard
        joined.seqs.isEmpty
          || (joined.seqs.count + batch.seqs.count <= LinkLimits.joinedEnvelopesMax
            && joined.byteCount + batch.byteCount <= LinkLimits.frameFillBytes)
      else { break }
      _ = waiting.popFirst()
      if joined.seqs.isEmpty {
        joined = batch
      } else {
        joined.seqs += batch.seqs
        joined.envelopes += batch.envelopes
        joined.byteCount += batch.byteCount
      }
    }
    return joined
  }

  mutating func batchVerified() { isVerifying = false }

  mutating func certificateLearned() {
    learning -= 1
    undecidedCertificates -= 1
  }

  /// The ack frames for a committed batch, each small enough for a frame. What was put off may not have been
  /// committed at all, so it does not count.
  mutating func committed(_ batch: InboundBatch, _ items: [AckFrame.Item]) -> [[UInt8]] {
    submitted -= 1
    undecidedBytes -= batch.byteCount
    for seq in batch.seqs { undecided.remove(seq) }
    for item in items where item.outcome != .later { committedThrough = max(committedThrough, item.seq) }
    return Self.split(items.sorted { $0.seq < $1.seq }).map { group in
      AckFrame(
        origin: origin, destination: destination, epoch: epoch, through: committedThrough, items: group
      ).encoded()
    }
  }

  private static func split(_ items: [AckFrame.Item]) -> [[AckFrame.Item]] {
    var groups: [[AckFrame.Item]] = []
    var bytes = Int.max / 2
    for item in items {
      // A sequence number, an outcome, a code, four lengths and the receipt.
      let size = item.receipt.count + 40
      if bytes + size > LinkLimits.frameFillBytes {
        groups.append([])
        bytes = 0
      }
      groups[groups.count - 1].append(item)
      bytes += size
    }
    return groups
  }
}

/// An envelope arriving in parts: one stream, one number, one total, offsets without holes or overlaps.
private struct PartAssembly: Sendable {
  let firstSeq: UInt64
  private let total: UInt32
  private(set) var bytes: [UInt8] = []

  init(_ first: PartFrame) { (firstSeq, total) = (first.firstSeq, first.total) }

  /// True when the last part is there.
  mutating func add(_ part: PartFrame) throws(LinkRefusal) -> Bool {
    guard part.firstSeq == firstSeq, part.total == total, Int(part.offset) == bytes.count else {
      throw LinkRefusal(.nonCanonical)
    }
    bytes += part.bytes
    return bytes.count == Int(total)
  }
}
