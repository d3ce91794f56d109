import EngramCore

/// One stored row of receipts for the peer's clients: one frame, one number.
package struct ReceiptsRow: Sendable {
  package var seq: UInt64
  package var receipts: [[UInt8]]
  package init(seq: UInt64, receipts: [[UInt8]]) { (self.seq, self.receipts) = (seq, receipts) }
}

/// Names a receipts frame until it is committed.
package struct ReceiptsTicket: Sendable, Equatable {
  package var epoch: UInt64
  package var seq: UInt64
  var count: Int
}

/// Receipts on their way to the peer: rows in sequence, settled by one number.
struct ReceiptsOutStream: Sendable {
  private let epoch: UInt64
  private let windowReceipts: Int
  private var cursor: UInt64 = 0
  private var queue = Queue<ReceiptsRow>()
  private var flights = Queue<Flight>()
  private var inFlightReceipts = 0
  private var isReading = false
  private var mayHaveMore = true
  private struct Flight {
    let seq: UInt64
    let receipts: Int
  }
  /// Rows read at once; a row holds the receipts of a whole batch.
  private static let rowsPerRead = 64

  init(epoch: UInt64, windowReceipts: Int) { (self.epoch, self.windowReceipts) = (epoch, windowReceipts) }

  mutating func workArrived() { mayHaveMore = true }

  mutating func nextRead() -> (after: UInt64, maxCount: Int)? {
    guard mayHaveMore, !isReading, queue.isEmpty else { return nil }
    (isReading, mayHaveMore) = (true, false)
    return (cursor, Self.rowsPerRead)
  }

  mutating func take(_ rows: [ReceiptsRow]) {
    isReading = false
    guard let last = rows.last else { return }
    mayHaveMore = true
    cursor = last.seq
    for row in rows { queue.append(row) }
  }

  mutating func readFailed() { isReading = false }

  /// One row may always go; more only within the window.
  var hasFrames: Bool {
    guard let row = queue.first else { return false }
    return flights.isEmpty || inFlightReceipts + row.receipts.count <= windowReceipts
  }

  mutating func nextFrame() -> [UInt8]? {
    guard hasFrames, let row = queue.popFirst() else { return nil }
    inFlightReceipts += row.receipts.count
    flights.append(Flight(seq: row.seq, receipts: row.receipts.count))
    return ReceiptsFrame(epoch: epoch, seq: row.seq, receipts: row.receipts.map { $0[...] }).encoded()
  }

  /// Returns the number to settle, nil when the ack says nothing new.
  mutating func acknowledge(_ frame: ReceiptsAckFrame) throws(LinkRefusal) -> UInt64? {
    guard frame.epoch == epoch else { throw LinkRefusal(.nonCanonical) }
    var settled: UInt64?
    while let row = flights.first, row.seq <= frame.through {
      settled = row.seq
      inFlightReceipts -= row.receipts
      _ = flights.popFirst()
    }
    return settled
  }
}

/// Receipts from the peer. Nothing here is verified: the sender's device does that, which pins the issuer's
/// key.
struct ReceiptsInStream: Sendable {
  private let epoch: UInt64
  private let windowReceipts: Int
  private var lastSeq: UInt64 = 0
  private var undecidedRows = 0
  private var undecidedReceipts = 0

  init(epoch: UInt64, windowReceipts: Int) { (self.epoch, self.windowReceipts) = (epoch, windowReceipts) }

  var isIdle: Bool { undecidedRows == 0 }

  mutating func take(_ frame: ReceiptsFrame) throws(LinkRefusal) -> ReceiptsTicket {
    guard frame.epoch == epoch, frame.seq > lastSeq else { throw LinkRefusal(.nonCanonical) }
    let count = frame.receipts.count
    guard undecidedRows == 0 || undecidedReceipts + count <= windowReceipts else {
      throw LinkRefusal(.windowExceeded)
    }
    lastSeq = frame.seq
    undecidedRows += 1
    undecidedReceipts += count
    return ReceiptsTicket(epoch: epoch, seq: frame.seq, count: count)
  }

  mutating func committed(_ ticket: ReceiptsTicket) -> ReceiptsAckFrame {
    undecidedRows -= 1
    undecidedReceipts -= ticket.count
    return ReceiptsAckFrame(epoch: epoch, through: ticket.seq)
  }
}
