import EngramCore

/// Deliveries from one peer on one link: checked against the window and the numbering, verified one batch
/// after the other, committed in parallel, acknowledged after their commit.
struct InboundStream: Sendable {
  enum Work: Sendable {
    case accept(InboundBatch)
    case learn(CertificateItem)
  }

  private struct Submitted {
    let firstSeq: UInt64
    let through: UInt64
    var isDecided = false
  }

  private let origin: NodeID
  private let destination: NodeID
  private let epoch: UInt64
  private let windowMessages: Int

  /// Highest number that arrived on this link, in whole or as a first part.
  private var lastStarted: UInt64 = 0
  private var assemblies: [UInt32: PartAssembly] = [:]
  private var waiting = Queue<Work>()
  private var undecidedCertificates = 0
  private var learning = 0
  private var isVerifying = false
  private var submitted: [Submitted] = []
  private var undecidedMessages = 0
  private var undecidedBytes = 0
  /// Everything at or below is decided and durable.
  private var committedThrough: UInt64

  init(origin: NodeID, destination: NodeID, epoch: UInt64, committedThrough: UInt64, windowMessages: Int) {
    (self.origin, self.destination, self.epoch) = (origin, destination, epoch)
    (self.committedThrough, self.windowMessages) = (committedThrough, windowMessages)
  }

  /// So much is undecided that reading on would only pile it up.
  var isOverfull: Bool { undecidedBytes > LinkLimits.undecidedBytesMax }
  /// Nothing that was taken in waits for its answer; half-arrived envelopes do not count.
  var isIdle: Bool { submitted.isEmpty && waiting.isEmpty && learning == 0 }

  // MARK: - Frames

  mutating func deliver(_ frame: DeliverFrame) throws(LinkRefusal) {
    try check(frame)
    guard frame.firstSeq > lastStarted else { throw LinkRefusal(.nonCanonical) }
    try take(count: frame.envelopes.count)
    lastStarted = frame.firstSeq + UInt64(frame.envelopes.count - 1)
    enqueue(frame)
  }

  mutating func part(_ part: PartFrame) throws(LinkRefusal) {
    if assemblies[part.stream] == nil {
      guard part.offset == 0, part.firstSeq > lastStarted else { throw LinkRefusal(.nonCanonical) }
      guard assemblies.count < LinkLimits.partStreamsMax else { throw LinkRefusal(.windowExceeded) }
      try take(count: 1)
      lastStarted = part.firstSeq
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

  private mutating func take(count: Int) throws(LinkRefusal) {
    guard undecidedMessages + count <= windowMessages else { throw LinkRefusal(.windowExceeded) }
    undecidedMessages += count
  }

  private mutating func enqueue(_ frame: DeliverFrame) {
    // Envelopes still in parts hold the number back: after a crash they are not there.
    let held = assemblies.values.lazy.map(\.firstSeq).min().map { $0 - 1 } ?? lastStarted
    let bytes = frame.envelopes.reduce(0) { $0 + $1.count }
    undecidedBytes += bytes
    waiting.append(
      .accept(
        InboundBatch(
          epoch: epoch, firstSeq: frame.firstSeq, through: held, envelopes: frame.envelopes, byteCount: bytes)
      ))
  }

  // MARK: - Work

  /// Certificates that stand together are learned together; the envelopes behind them wait until all are
  /// stored.
  mutating func nextWork() -> Work? {
    switch waiting.first {
    case .learn?: learning += 1
    case .accept(let batch)?:
      guard learning == 0, !isVerifying else { return nil }
      isVerifying = true
      submitted.append(Submitted(firstSeq: batch.firstSeq, through: batch.through))
    case nil: return nil
    }
    return waiting.popFirst()
  }

  mutating func batchVerified() { isVerifying = false }

  mutating func certificateLearned() {
    learning -= 1
    undecidedCertificates -= 1
  }

  /// The ack frames for a committed batch, each small enough for a frame. A batch that was turned away at
  /// once may answer before older ones; `through` waits for those.
  mutating func committed(_ batch: InboundBatch, _ items: [AckFrame.Item]) -> [[UInt8]] {
    undecidedMessages -= batch.envelopes.count
    undecidedBytes -= batch.byteCount
    let before = committedThrough
    if let index = submitted.firstIndex(where: { $0.firstSeq == batch.firstSeq && !$0.isDecided }) {
      submitted[index].isDecided = true
    }
    while let first = submitted.first, first.isDecided {
      committedThrough = max(committedThrough, first.through)
      submitted.removeFirst()
    }
    let groups = Self.split(items)
    return groups.enumerated().map { index, group in
      AckFrame(
        origin: origin, destination: destination, epoch: epoch,
        through: index == groups.count - 1 ? committedThrough : before, items: group
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
