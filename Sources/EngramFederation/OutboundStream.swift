import EngramCore

/// Our deliveries to one peer on one link: rows are read ahead within the window, framed, and remembered
/// until the peer answers for each of them. Numbers ascend; gaps are rows that were settled otherwise.
struct OutboundStream: Sendable {
  private let origin: NodeID
  private let destination: NodeID
  private let epoch: UInt64
  private let windowMessages: Int
  private let windowBytes: Int
  private let frameBytesMax: Int
  private let canPart: Bool

  /// Highest sequence number read. Rows leave the mailbox only when they are settled, so a link starts from
  /// the first row there is, whatever was acknowledged on others.
  private var cursor: UInt64 = 0
  private var queue = Queue<OutboundRow>()
  private var queuedBytes = 0
  private var flights = FlightLog()
  private var parts: PartSender?
  private var nextStream: UInt32 = 1
  private var partWasLast = false
  /// Outcomes that are being stored; they still count against the window, which bounds that backlog.
  private var unsettled = 0
  private var isReading = false
  private var mayHaveMore = true
  private var postponed = PostponedRows()
  /// Versions of the device lists that this link carried, by the sender's device.
  private(set) var certificatesSent: [Kid: UInt64] = [:]

  init(
    origin: NodeID, destination: NodeID, epoch: UInt64, windowMessages: Int, windowBytes: Int,
    frameBytesMax: Int,
    canPart: Bool
  ) {
    (self.origin, self.destination, self.epoch) = (origin, destination, epoch)
    (self.windowMessages, self.windowBytes) = (windowMessages, windowBytes)
    (self.frameBytesMax, self.canPart) = (frameBytesMax, canPart)
  }

  var inFlightCount: Int { flights.count }

  // MARK: - Reading ahead

  mutating func workArrived() { mayHaveMore = true }

  /// What to read next, nil when nothing is known to wait or the window has no room worth a read.
  mutating func nextRead() -> (after: UInt64, maxCount: Int, maxBytes: Int)? {
    // Rows that were put off take up half of the window at most: the other half is for everybody else.
    let used = flights.count + queue.count + unsettled - min(postponed.count, windowMessages / 2)
    let usedBytes = flights.byteCount + queuedBytes
    guard mayHaveMore, !isReading, used < windowMessages, usedBytes < windowBytes else { return nil }
    // Reading one row per acknowledgement would cost a read each: wait for a quarter of the window.
    guard used == 0 || (windowMessages - used) * 4 >= windowMessages,
      queue.isEmpty || usedBytes * 4 <= windowBytes * 3
    else { return nil }
    (isReading, mayHaveMore) = (true, false)
    return (cursor, min(windowMessages - used, Limits.envelopesPerBatchMax), windowBytes - usedBytes)
  }

  /// Takes the rows of a read. Returns outcomes for those that can never be sent on this link.
  mutating func take(_ rows: [OutboundRow]) -> [AckFrame.Item] {
    isReading = false
    guard let last = rows.last else { return [] }
    mayHaveMore = true
    cursor = max(cursor, last.seq)
    var unsendable: [AckFrame.Item] = []
    for row in rows {
      if frameBytes(row) > frameBytesMax && !canPart {
        unsendable.append(AckFrame.Item(seq: row.seq, outcome: .refused, code: .tooLarge))
      } else {
        queue.append(row)
        queuedBytes += row.bytes.count
      }
    }
    unsettled += unsendable.count
    return unsendable
  }

  /// The read failed; the next signal or sweep tries again.
  mutating func readFailed() { isReading = false }

  mutating func settled(_ count: Int) { unsettled -= count }

  /// True the first time for each device, and again when its list is newer than the one that was sent.
  mutating func markSent(_ certificate: SenderCertificate) -> Bool {
    if let sent = certificatesSent[certificate.kid], sent >= certificate.listVersion { return false }
    certificatesSent[certificate.kid] = certificate.listVersion
    return true
  }

  // MARK: - Sending

  var hasFrames: Bool { parts != nil || !queue.isEmpty }

  /// Parts of a large envelope and frames of others take turns. Only one envelope is in parts at a time: what
  /// is behind the next large one waits, because numbers ascend.
  mutating func nextFrame() -> (FrameType, [UInt8])? {
    let canDeliver = queue.first.map { !isOversized($0) } ?? false
    if parts == nil, let row = queue.first, isOversized(row) { startParts(row) }
    if parts != nil, !canDeliver || !partWasLast {
      partWasLast = true
      return nextPart()
    }
    partWasLast = false
    return canDeliver ? (.deliver, nextDeliver()) : nil
  }

  private func frameBytes(_ row: OutboundRow) -> Int { 1 + DeliverFrame.overheadBytes + 4 + row.bytes.count }
  private func isOversized(_ row: OutboundRow) -> Bool { frameBytes(row) > frameBytesMax }

  private mutating func nextDeliver() -> [UInt8] {
    var envelopes: [ArraySlice<UInt8>] = []
    var bytes = 0
    var firstSeq: UInt64 = 0
    while let row = queue.first, envelopes.count < Limits.envelopesPerBatchMax, !isOversized(row) {
      if envelopes.isEmpty {
        firstSeq = row.seq
      } else {
        guard row.seq == firstSeq + UInt64(envelopes.count),
          bytes + row.bytes.count + 4 <= LinkLimits.frameFillBytes
        else { break }
      }
      envelopes.append(row.bytes[...])
      bytes += row.bytes.count + 4
      launch(row)
    }
    return DeliverFrame(
      origin: origin, destination: destination, epoch: epoch, firstSeq: firstSeq, envelopes: envelopes
    ).encoded()
  }

  private mutating func startParts(_ row: OutboundRow) {
    let frame = DeliverFrame(
      origin: origin, destination: destination, epoch: epoch, firstSeq: row.seq, envelopes: [row.bytes[...]])
    parts = PartSender(stream: nextStream, firstSeq: row.seq, bytes: frame.encoded())
    nextStream &+= 1
    launch(row)
  }

  private mutating func nextPart() -> (FrameType, [UInt8])? {
    guard let frame = parts?.next() else { return nil }
    if parts?.isFinished == true { parts = nil }
    return (.part, frame)
  }

  private mutating func launch(_ row: OutboundRow) {
    _ = queue.popFirst()
    queuedBytes -= row.bytes.count
    flights.append(seq: row.seq, bytes: row.bytes.count, sender: row.senderKid)
  }

  // MARK: - Answers

  /// Checks that the peer answers what it was sent, each row once. Returns the number up to which everything
  /// that this link sent is answered: the peer's own `through` may run ahead of rows that are on their way
  /// again. What the peer put off is not among the outcomes; it comes from `duePostponed`.
  mutating func acknowledge(
    _ frame: AckFrame, nowMs: UInt64
  ) throws(LinkRefusal) -> (through: UInt64, items: [AckFrame.Item]) {
    guard frame.origin == origin, frame.destination == destination else { throw LinkRefusal(.wrongPeer) }
    guard frame.epoch == epoch else { throw LinkRefusal(.nonCanonical) }
    var later: [(item: AckFrame.Item, sender: Kid)] = []
    for item in frame.items {
      guard let sender = flights.answer(item.seq) else { throw LinkRefusal(.nonCanonical) }
      if item.outcome == .later { later.append((item, sender)) } else { postponed.answered(sender) }
    }
    unsettled += frame.items.count
    let through = min(frame.through, flights.answeredThrough)
    guard !later.isEmpty else { return (through, frame.items) }
    postponed.add(later, nowMs: nowMs)
    return (through, frame.items.filter { $0.outcome != .later })
  }

  /// Outcomes of rows that were put off and have waited long enough to be queued again.
  mutating func duePostponed(nowMs: UInt64) -> [AckFrame.Item] { postponed.takeDue(nowMs: nowMs) }
}

/// One envelope that is larger than a frame, on its way in parts.
private struct PartSender: Sendable {
  let stream: UInt32
  let firstSeq: UInt64
  let bytes: [UInt8]
  private var offset = 0

  init(stream: UInt32, firstSeq: UInt64, bytes: [UInt8]) {
    (self.stream, self.firstSeq, self.bytes) = (stream, firstSeq, bytes)
  }

  var isFinished: Bool { offset == bytes.count }

  mutating func next() -> [UInt8] {
    let end = min(offset + Limits.partBytesMax, bytes.count)
    defer { offset = end }
    return PartFrame(
      stream: stream, firstSeq: firstSeq, total: UInt32(bytes.count), offset: UInt32(offset),
      bytes: bytes[offset..<end]
    ).encoded()
  }
}

/// Sent and not yet answered rows, ascending.
private struct FlightLog: Sendable {
  private struct Flight {
    let seq: UInt64
    let bytes: Int
    let sender: Kid
    var isAnswered = false
  }

  private var flights: [Flight] = []
  private var head = 0
  private(set) var count = 0
  private(set) var byteCount = 0
  /// Everything sent up to here is answered.
  private(set) var answeredThrough: UInt64 = 0

  mutating func append(seq: UInt64, bytes: Int, sender: Kid) {
    flights.append(Flight(seq: seq, bytes: bytes, sender: sender))
    count += 1
    byteCount += bytes
  }

  /// The sender's device; nil when the row is not on its way.
  mutating func answer(_ seq: UInt64) -> Kid? {
    var (low, high) = (head, flights.count)
    while low < high {
      let middle = (low + high) / 2
      if flights[middle].seq < seq { low = middle + 1 } else { high = middle }
    }
    guard low < flights.count, flights[low].seq == seq, !flights[low].isAnswered else { return nil }
    flights[low].isAnswered = true
    let sender = flights[low].sender
    count -= 1
    byteCount -= flights[low].bytes
    while head < flights.count, flights[head].isAnswered {
      answeredThrough = flights[head].seq
      head += 1
    }
    if head > 256, head * 2 > flights.count {
      flights.removeFirst(head)
      head = 0
    }
    return sender
  }
}
