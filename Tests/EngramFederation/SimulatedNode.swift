import EngramCore
import EngramCrypto
import EngramFederation
import EngramNode
import TestSupport

/// A node reduced to what federation sees of it: numbered rows for the peer, a dedupe set, effects, and a
/// commit queue whose work is lost when the node crashes before it ran. What is stored here survives a crash.
final class SimulatedNode {
  let identity: NodeIdentity
  let deduplicates: Bool

  // Durable.
  private(set) var outbox: [(seq: UInt64, message: UInt64, bytes: Int)] = []
  private(set) var receiptsOutbox: [(seq: UInt64, message: UInt64)] = []
  private(set) var highestSeq: UInt64 = 0
  private var highestReceiptSeq: UInt64 = 0
  private(set) var numbers: LinkNumbers
  private var receiptsIn: (epoch: UInt64, through: UInt64) = (0, 0)
  private var seen: Set<UInt64> = []
  /// How often each message took effect here; the promise is once.
  private(set) var effects: [UInt64: Int] = [:]
  private(set) var receiptEffects: [UInt64: Int] = [:]
  /// Messages whose fate the peer told us.
  private(set) var acknowledged: Set<UInt64> = []

  init(_ node: TestNode, epoch: UInt64, deduplicates: Bool) {
    identity = NodeIdentity(name: node.name, key: node.key)
    numbers = LinkNumbers(outEpoch: epoch)
    self.deduplicates = deduplicates
  }

  var linkNumbers: LinkNumbers {
    var numbers = numbers
    numbers.highestAssigned = highestSeq
    return numbers
  }

  // MARK: - Verbs, each one transaction

  func enqueue(_ message: UInt64, bytes: Int) {
    highestSeq += 1
    outbox.append((highestSeq, message, bytes))
  }

  /// A row that is settled otherwise, as by expiry: leaves a gap.
  func withdraw(_ index: Int) -> UInt64 { outbox.remove(at: index).message }

  /// Every message has a priority, and age counts: a step per priority, in messages.
  static func priority(_ message: UInt64) -> Priority {
    Priority(rawValue: UInt8(1 + message * 7 % 5)) ?? .normal
  }
  static func rank(_ message: UInt64) -> UInt64 { message + UInt64(5 - priority(message).rawValue) * 10 }

  func rows(
    after cursor: OutboxCursor, maxCount: Int, maxBytes: Int
  ) -> (rows: [OutboundRow], cursor: OutboxCursor) {
    var bytes = 0
    var rows: [OutboundRow] = []
    var reached = cursor
    while rows.count < maxCount {
      let heads = Priority.allCases.compactMap { lane in
        outbox.first { Self.priority($0.message) == lane && $0.seq > reached[lane] }
      }
      // A row that was put off keeps its rank and gets a new number: those before it in its lane go first.
      guard let row = heads.min(by: { (Self.rank($0.message), $0.seq) < (Self.rank($1.message), $1.seq) })
      else { break }
      let isLarge = row.bytes > Limits.frameBytesMax
      guard rows.isEmpty || isLarge || bytes + row.bytes <= maxBytes else { break }
      let lane = Self.priority(row.message)
      reached[lane] = row.seq
      bytes += isLarge ? 0 : row.bytes
      // Every tenth sender is another device, whose certificate travels first.
      rows.append(
        OutboundRow(
          seq: row.seq, rank: Self.rank(row.message), bytes: isLarge ? nil : content(row),
          byteCount: row.bytes + 8, senderKid: kid(row.message % 10)))
    }
    return (rows, reached)
  }

  func bytes(of seq: UInt64) -> [UInt8]? { outbox.first { $0.seq == seq }.map(content) }

  private func content(_ row: (seq: UInt64, message: UInt64, bytes: Int)) -> [UInt8] {
    bigEndianBytes(row.message) + [UInt8](repeating: 0, count: row.bytes)
  }

  func receiptsRows(after seq: UInt64, maxCount: Int) -> [ReceiptsRow] {
    receiptsOutbox.filter { $0.seq > seq }.prefix(maxCount).map {
      ReceiptsRow(seq: $0.seq, receipts: [bigEndianBytes($0.message)])
    }
  }

  /// - Parameter refuseLater: for each message, whether it is put off.
  func accept(_ batch: InboundBatch, later: (UInt64) -> Bool) -> [AckFrame.Item] {
    let items = batch.envelopes.enumerated().map { index, envelope in
      let message = envelope.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      let seq = batch.seqs[index]
      if later(message) { return AckFrame.Item(seq: seq, outcome: .later, code: .overloaded) }
      guard seen.insert(message).inserted || !deduplicates else {
        return AckFrame.Item(seq: seq, outcome: .duplicate)
      }
      effects[message, default: 0] += 1
      highestReceiptSeq += 1
      receiptsOutbox.append((highestReceiptSeq, message))
      return AckFrame.Item(seq: seq, outcome: .accepted)
    }
    let highest = batch.seqs.max() ?? 0
    let through = numbers.inEpoch == batch.epoch ? max(numbers.inThrough, highest) : highest
    (numbers.inEpoch, numbers.inThrough) = (batch.epoch, through)
    return items
  }

  func settle(through: UInt64, _ items: [AckFrame.Item]) {
    for item in items {
      guard let index = outbox.firstIndex(where: { $0.seq == item.seq }) else { continue }
      let row = outbox.remove(at: index)
      if item.outcome == .later {
        enqueue(row.message, bytes: row.bytes)
      } else {
        acknowledged.insert(row.message)
      }
    }
    numbers.ackedThrough = max(numbers.ackedThrough, through)
  }

  func acceptReceipts(_ ticket: ReceiptsTicket, _ receipts: [[UInt8]]) {
    guard receiptsIn.epoch != ticket.epoch || ticket.seq > receiptsIn.through else { return }
    for receipt in receipts { receiptEffects[receipt.reduce(0) { $0 << 8 | UInt64($1) }, default: 0] += 1 }
    receiptsIn = (ticket.epoch, ticket.seq)
  }

  func settleReceipts(through: UInt64) { receiptsOutbox.removeAll { $0.seq <= through } }

  func redrawEpoch() {
    numbers.outEpoch += 1
    numbers.ackedThrough = 0
  }
}

func kid(_ number: UInt64) -> Kid { Kid(bigEndianBytes(UInt64(0)) + bigEndianBytes(number)) ?? .zero }
