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

  func rows(after seq: UInt64, maxCount: Int, maxBytes: Int) -> [OutboundRow] {
    var bytes = 0
    var rows: [OutboundRow] = []
    for row in outbox where row.seq > seq && rows.count < maxCount {
      if !rows.isEmpty, bytes + row.bytes > maxBytes { break }
      bytes += row.bytes
      let content = bigEndianBytes(row.message) + [UInt8](repeating: 0, count: row.bytes)
      // Every tenth sender is another device, whose certificate travels first.
      rows.append(OutboundRow(seq: row.seq, bytes: content, senderKid: kid(row.message % 10)))
    }
    return rows
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
      let seq = batch.firstSeq + UInt64(index)
      if later(message) { return AckFrame.Item(seq: seq, outcome: .later, code: .overloaded) }
      guard seen.insert(message).inserted || !deduplicates else {
        return AckFrame.Item(seq: seq, outcome: .duplicate)
      }
      effects[message, default: 0] += 1
      highestReceiptSeq += 1
      receiptsOutbox.append((highestReceiptSeq, message))
      return AckFrame.Item(seq: seq, outcome: .accepted)
    }
    let through = numbers.inEpoch == batch.epoch ? max(numbers.inThrough, batch.through) : batch.through
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
