import EngramCore
import EngramNode

/// Our deliveries to one peer on one link: rows are read ahead within the window, framed in the order of
/// work, and remembered until the peer answers for each of them by its number.
///
/// Envelopes larger than a frame are kept apart: they are read one at a time, go in parts between the frames
/// of others, and have a window of their own.
struct OutboundStream: Sendable {
  private let origin: NodeID
  private let destination: NodeID
  private let epoch: UInt64
  private let windowMessages: Int
  private let windowBytes: Int
  private let frameBytesMax: Int
  private let canPart: Bool

  /// What was read. Rows leave the mailbox only when they are settled, so a link starts from the first row
  /// there is, whatever was acknowledged on others.
  private var cursor = OutboxCursor.start
  private var queue = RankedRows()
  private var flights = FlightLog()
  private var large = RankedRows()
  /// The large row whose bytes are being read.
  private var loading: OutboundRow?
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
  mutating func nextRead() -> (after: OutboxCursor, maxCount: Int, maxBytes: Int)? {
    // Rows that were put off take up half of the window at most: the other half is for everybody else.
    let waiting = queue.count + large.count + (loading == nil ? 0 : 1)
    let used = flights.count + waiting + unsettled - min(postponed.count, windowMessages / 2)
    let usedBytes = flights.byteCount + queue.byteCount
    guard mayHaveMore, !isReading, used < windowMessages, usedBytes < windowBytes else { return nil }
    // Reading one row per acknowledgement would cost a read each: wait for a quarter of the window.
    guard used == 0 || (windowMessages - used) * 4 >= windowMessages,
      queue.isEmpty || (usedBytes * 4 <= windowBytes * 3 && queue.byteCount * 2 <= LinkLimits.readAheadBytes)
    else { return nil }
    (isReading, mayHaveMore) = (true, false)
    let bytes = min(windowBytes - usedBytes, LinkLimits.readAheadBytes - queue.byteCount)
    return (cursor, min(windowMessages - used, Limits.envelopesPerBatchMax), max(bytes, 1))
  }

  /// Takes the rows of a read. Returns outcomes for those that can never be sent on this link.
  mutating func take(_ rows: [OutboundRow], through reached: OutboxCursor) -> [AckFrame.Item] {
    isReading = false
    if reached != cursor || !rows.isEmpty { mayHaveMore = true }
    cursor = reached
    var unsendable: [AckFrame.Item] = []
    for row in rows {
      if row.bytes == nil {
        large.insert(row)
      } else if let refusal = place(row) {
        unsendable.append(refusal)
      }
    }
    unsettled += unsendable.count
    return unsendable
  }

  /// Puts a row that has its bytes where it waits, or says why it cannot.
  private mutating func place(_ row: OutboundRow) -> AckFrame.Item? {
    if !isOversized(row) {
      queue.insert(row)
    } else if canPart {
      large.insert(row)
    } else {
      return AckFrame.Item(seq: row.seq, outcome: .refused, code: .tooLarge)
    }
    return nil
  }

  /// The read failed; the next signal or sweep tries again.
  mutating func readFailed() { isReading = false }

  /// The large row to read next, nil while another is under way. Starts one that has been read.
  mutating func nextLargeRead() -> UInt64? {
    guard parts == nil, loading == nil, let row = large.first,
      flights.largeByteCount == 0 || flights.largeByteCount + row.byteCount <= windowBytes
    else { return nil }
    _ = large.popFirst()
    guard row.bytes == nil else {
      startParts(row)
      return nil
    }
    loading = row
    return row.seq
  }

  /// Takes the bytes of the large row, nil when it has ended. Returns its outcome if it can never be sent.
  mutating func takeLarge(_ bytes: [UInt8]?) -> [AckFrame.Item] {
    guard var row = loading else { return [] }
    loading = nil
    guard let bytes else { return [] }
    (row.bytes, row.byteCount) = (bytes, bytes.count)
    guard let refusal = place(row) else { return [] }
    unsettled += 1
    return [refusal]
  }

  /// It keeps its place, and is read again at the next sweep.
  mutating func largeReadFailed() {
    guard let row = loading else { return }
    loading = nil
    setAside.append(row)
  }

  /// Large rows whose read failed; the sweep gives them another chance.
  private var setAside: [OutboundRow] = []

  mutating func sweep() {
    workArrived()
    for row in setAside { large.insert(row) }
    setAside = []
  }

  mutating func settled(_ count: Int) { unsettled -= count }

  /// True the first time for each device, and again when its list is newer than the one that was sent.
  mutating func markSent(_ certificate: SenderCertificate) -> Bool {
    if let sent = certificatesSent[certificate.kid], sent >= certificate.listVersion { return false }
    certificatesSent[certificate.kid] = certificate.listVersion
    return true
  }

  // MARK: - Sending

  var hasFrames: Bool { parts != nil || !queue.isEmpty }

  /// Parts of a large envelope and frames of others take turns, whatever their priorities: neither holds up
  /// the other for more than a frame.
  mutating func nextFrame() -> (FrameType, [UInt8])? {
    if parts != nil, queue.isEmpty || !partWasLast {
      partWasLast = true
      return nextPart()
    }
    partWasLast = false
    return queue.isEmpty ? nil : (.deliver, nextDeliver())
  }

  private func isOversized(_ row: OutboundRow) -> Bool {
    1 + DeliverFrame.overheadBytes + 4 + row.byteCount > frameBytesMax
  }

  /// Consecutive numbers share a frame.
  private mutating func nextDeliver() -> [UInt8] {
    var envelopes: [ArraySlice<UInt8>] = []
    var bytes = 0
    var firstSeq: UInt64 = 0
    while let row = queue.first, envelopes.count < Limits.envelopesPerBatchMax {
      if envelopes.isEmpty {
        firstSeq = row.seq
      } else {
        guard row.seq == firstSeq + UInt64(envelopes.count),
          bytes + row.byteCount + 4 <= LinkLimits.frameFillBytes
        else { break }
      }
      _ = queue.popFirst()
      envelopes.append((row.bytes ?? [])[...])
      bytes += row.byteCount + 4
      launch(row, isLarge: false)
    }
    return DeliverFrame(
      origin: origin, destination: destination, epoch: epoch, firstSeq: firstSeq, envelopes: envelopes
    ).encoded()
  }

  private mutating func startParts(_ row: OutboundRow) {
    let frame = DeliverFrame(
      origin: origin, destination: destination, epoch: epoch, firstSeq: row.seq,
      envelopes: [(row.bytes ?? [])[...]])
    parts = PartSender(stream: nextStream, firstSeq: row.seq, bytes: frame.encoded())
    nextStream &+= 1
    launch(row, isLarge: true)
  }

  private mutating func nextPart() -> (FrameType, [UInt8])? {
    guard let frame = parts?.next() else { return nil }
    if parts?.isFinished == true { parts = nil }
    return (.part, frame)
  }

  private mutating func launch(_ row: OutboundRow, isLarge: Bool) {
    flights.append(
      seq: row.seq, FlightLog.Flight(bytes: row.byteCount, sender: row.senderKid, isLarge: isLarge))
  }

  // MARK: - Answers

  /// Checks that the peer answers what it was sent, each row once. Returns the highest number that it has
  /// decided on, by its own word and by these answers. What the peer put off is not among the outcomes; it
  /// comes from `duePostponed`.
  mutating func acknowledge(
    _ frame: AckFrame, nowMs: UInt64
  ) throws(LinkRefusal) -> (through: UInt64, items: [AckFrame.Item]) {
    guard frame.origin == origin, frame.destination == destination else { throw LinkRefusal(.wrongPeer) }
    guard frame.epoch == epoch else { throw LinkRefusal(.nonCanonical) }
    var later: [(item: AckFrame.Item, sender: Kid)] = []
    var decided: UInt64 = 0
    for item in frame.items {
      guard let sender = flights.answer(item.seq) else { throw LinkRefusal(.nonCanonical) }
      if item.outcome == .later {
        later.append((item, sender))
      } else {
        decided = max(decided, item.seq)
        postponed.answered(sender)
      }
    }
    unsettled += frame.items.count
    let through = min(frame.through, decided)
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
