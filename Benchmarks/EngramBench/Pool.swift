import Dispatch
import EngramCore
import EngramCrypto
import EngramSealing
import NIOCore
import Synchronization

/// Envelopes sealed before anything is timed, message number = position. All claim the first place in the
/// chain between the two devices: nobody opens them, and nodes cannot see it.
struct Pool: Sendable {
  let sender: Device
  let recipient: Device
  let envelopes: [[UInt8]]
  /// What the recipient's receipts say, for runs in which it acknowledges; empty otherwise.
  let receipts: [ReceiptBody]
  /// Mean CPU-side cost of sealing one, in wall-clock µs of one thread.
  let sealMicros: Double

  /// Seals on all cores.
  static func seal(
    count: Int, bodyBytes: Int, from sender: Device, to recipient: Device, withReceipts: Bool
  ) throws -> Pool {
    let lanes = 2
    let share = (count + lanes - 1) / lanes
    let body = randomBytes(bodyBytes)
    let parts = Mutex([Part](repeating: Part(), count: lanes))
    DispatchQueue.concurrentPerform(iterations: lanes) { lane in
      let range = min(lane * share, count)..<min((lane + 1) * share, count)
      let part = Part(range, body, sender, recipient, withReceipts)
      parts.withLock { $0[lane] = part }
    }
    let done = parts.withLock { $0 }
    if let failure = done.compactMap(\.failure).first { throw failure }
    return Pool(
      sender: sender, recipient: recipient, envelopes: done.flatMap(\.envelopes),
      receipts: done.flatMap(\.receipts),
      sealMicros: done.reduce(0) { $0 + $1.micros } / Double(max(count, 1)))
  }

  private struct Part: Sendable {
    var envelopes: [[UInt8]] = []
    var receipts: [ReceiptBody] = []
    var failure: SealError?
    var micros = 0.0

    init() {}

    init(_ range: Range<Int>, _ body: [UInt8], _ sender: Device, _ recipient: Device, _ withReceipts: Bool) {
      let start = monotonicNs()
      for index in range {
        do {
          let sealed = try sender.seal(body, index: index, to: recipient)
          envelopes.append(sealed.bytes)
          guard withReceipts else { continue }
          receipts.append(
            recipient.processed(sealed.id, message: MessageIndex.messageID(index), from: sender))
        } catch {
          failure = error as? SealError ?? .header
          return
        }
      }
      micros = Double(monotonicNs() - start) / 1_000
    }
  }

  /// `RealtimeFrame.send` messages of `batch` envelopes each, ready to be written; the request is the frame's
  /// position.
  func sendFrames(_ range: Range<Int>, batch: Int) -> [ByteBuffer] {
    stride(from: range.lowerBound, to: range.upperBound, by: batch).enumerated().map { position, first in
      let part = envelopes[first..<min(first + batch, range.upperBound)]
      return ByteBuffer(
        bytes: RealtimeFrame.send(request: UInt32(position), envelopes: part.map { $0[...] }).encoded())
    }
  }

  /// Bodies of `POST …/messages`.
  func postBodies(batch: Int) -> [[UInt8]] {
    stride(from: 0, to: envelopes.count, by: batch).map { first in
      fields { w in
        for envelope in envelopes[first..<min(first + batch, envelopes.count)] { w.field(envelope) }
      }
    }
  }
}
