import Dispatch
import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import NIOCore
import Synchronization

/// The sending client of an end-to-end run: one thread seals, one queue verifies receipts.
final class Sealer: Sendable {
  private let stage: Stage
  private let progress: Progress
  private let bodyBytes: Int
  private let batch: Int
  private let receipts = DispatchQueue(label: "bench.receipts")
  /// One signature covers a whole batch of receipts: it is checked once.
  private let roots = ReceiptRoots()
  private let keys: (home: VerifyingKey, destination: VerifyingKey)
  private let link = Mutex<WebSocketConnection?>(nil)

  init(stage: Stage, progress: Progress, bodyBytes: Int, batch: Int) throws {
    keys = (try VerifyingKey(stage.home.nodeID.key), try VerifyingKey(stage.destination.nodeID.key))
    (self.stage, self.progress, self.bodyBytes, self.batch) = (stage, progress, bodyBytes, batch)
  }

  func start(on link: WebSocketConnection) {
    self.link.withLock { $0 = link }
    link.post(binary: ByteBuffer(bytes: RealtimeFrame.credit(1 << 20).encoded()))
    let thread = Thread { [self] in
      do { try sealUntilStopped(link) } catch { progress.fail("sealing failed: \(error)") }
    }
    thread.start()
  }

  // MARK: - Sealing

  private func sealUntilStopped(_ link: WebSocketConnection) throws {
    let filler = randomBytes(bodyBytes)
    var chain = ChainPosition.first
    var index = 0
    var request: UInt32 = 0
    while true {
      var envelopes: [ArraySlice<UInt8>] = []
      progress.takeRoom()
      repeat {
        guard !progress.isStopped else { return post(envelopes, request, link) }
        let sealed = try stage.sender.seal(
          Self.body(filler), index: index, to: stage.recipient, at: chain)
        envelopes.append(sealed.bytes[...])
        chain = ChainPosition(seq: chain.seq + 1, previous: sealed.id)
        index += 1
      } while envelopes.count < batch && progress.takeRoomNow()
      post(envelopes, request, link)
      request &+= 1
    }
  }

  private func post(_ envelopes: [ArraySlice<UInt8>], _ request: UInt32, _ link: WebSocketConnection) {
    guard !envelopes.isEmpty else { return }
    progress.update { $0.sealed += envelopes.count }
    link.post(
      binary: ByteBuffer(bytes: RealtimeFrame.send(request: request, envelopes: envelopes).encoded()))
  }

  /// The time first, so that the recipient knows how long it took.
  private static func body(_ filler: [UInt8]) -> [UInt8] {
    var body = filler
    body.replaceSubrange(0..<8, with: bigEndianBytes(monotonicNs()))
    return body
  }

  // MARK: - Receipts

  func received(_ frame: ByteBuffer) {
    receipts.async { [self] in
      do { try take(frame) } catch { progress.fail("the sender did not believe a receipt: \(error)") }
    }
  }

  private func take(_ frame: ByteBuffer) throws {
    switch try RealtimeFrame(parsing: Array(frame.readableBytesView)[...]) {
    case .outcomes(let request, let outcomes):
      guard request < Self.acks else { return }
      for outcome in outcomes {
        guard outcome.outcome == .accepted else {
          throw BenchError("a message was refused: \(outcome.code.name)")
        }
        try verify(outcome.receipt)
      }
    case .items(let items):
      for item in items where item.kind == .receipt {
        for receipt in try splitBatch(item.payload[...]) { try verify(Array(receipt)) }
      }
      let acks = items.filter { $0.kind == .receipt }.map { MailboxAck(seq: $0.seq) }
      let bytes = RealtimeFrame.ack(request: Self.acks, acks: acks).encoded()
      link.withLock { $0 }?.post(binary: ByteBuffer(bytes: bytes))
    default: throw BenchError("an unexpected frame came")
    }
  }

  /// Requests from here on are acknowledgements.
  private static let acks: UInt32 = 1 << 31

  private func verify(_ bytes: [UInt8]) throws {
    let receipt = try UnverifiedReceipt(parsing: bytes[...])
    let body = receipt.body
    guard body.senderKid == stage.sender.kid, MessageIndex.index(of: body.messageID) != nil else {
      throw BenchError("a receipt is about something else")
    }
    switch (body.role, body.state) {
    case (.homeNode, .accepted):
      _ = try VerifiedReceipt(receipt, bytes: bytes, key: keys.home, roots: roots)
      progress.update { $0.accepted += 1 }
    case (.recipientNode, .admitted):
      _ = try VerifiedReceipt(receipt, bytes: bytes, key: keys.destination, roots: roots)
      progress.update { $0.admitted += 1 }
    case (.device, .processed):
      _ = try VerifiedReceipt(receipt, bytes: bytes, key: stage.recipient.certificate.key, roots: roots)
      progress.update { $0.processed += 1 }
      progress.giveRoom(1)
    default: throw BenchError("a receipt says \(body.state.name) with code \(body.code.name)")
    }
  }
}
