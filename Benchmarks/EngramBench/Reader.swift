import Dispatch
import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import NIOCore
import Synchronization

/// The receiving client of an end-to-end run. One queue does all its work: a chain has an order.
final class Reader: Sendable {
  private struct State {
    var link: WebSocketConnection?
    var sender: DeviceCertificate?
    var seen: [UInt64: (id: EnvelopeID, previous: EnvelopeID)] = [:]
    var highest: UInt64 = 0
    var request: UInt32 = 0
    var used: UInt32 = 0
  }

  private let stage: Stage
  private let progress: Progress
  private let queue = DispatchQueue(label: "bench.reader")
  private let state = Mutex(State())

  private static let creditFirst: UInt32 = 4_096
  private static let creditStep: UInt32 = 1_024

  init(stage: Stage, progress: Progress) { (self.stage, self.progress) = (stage, progress) }

  func start(on link: WebSocketConnection) {
    state.withLock { $0.link = link }
    link.post(binary: ByteBuffer(bytes: RealtimeFrame.credit(Self.creditFirst).encoded()))
  }

  func received(_ frame: ByteBuffer) {
    queue.async { [self] in
      do { try state.withLock { try take(frame, &$0) } } catch {
        progress.fail("the recipient could not open a message: \(error)")
      }
    }
  }

  private func take(_ frame: ByteBuffer, _ state: inout State) throws {
    switch try RealtimeFrame(parsing: Array(frame.readableBytesView)[...]) {
    case .items(let items): try take(items, &state)
    case .outcomes(_, let outcomes):
      guard let bad = outcomes.first(where: { $0.outcome != .accepted }) else { return }
      throw BenchError("an acknowledgement was refused: \(bad.code.name)")
    default: throw BenchError("an unexpected frame came")
    }
  }

  private func take(_ items: [MailboxItem], _ state: inout State) throws {
    var taken: [(seq: UInt64, word: ReceiptBody)] = []
    var latencies: [UInt32] = []
    for item in items {
      switch item.kind {
      case .certificate:
        state.sender = try DeviceCertificate(
          verifying: CertificateItem(parsing: item.payload[...]).certificate)
      case .envelope:
        let (word, sentNs) = try open(item.payload, &state)
        taken.append((item.seq, word))
        latencies.append(UInt32(clamping: (monotonicNs() - sentNs) / 1_000))
      case .receipt: throw BenchError("the recipient sent nothing and got a receipt")
      case .leased, .notice: throw BenchError("an unexpected item came")
      }
    }
    guard !taken.isEmpty else { return }
    let receipts = signDeviceReceipts(taken.map(\.word), with: stage.recipient.key)
    let acks = zip(taken, receipts).map { MailboxAck(seq: $0.seq, receipt: $1) }
    progress.opened(latenciesMicros: latencies)
    state.request &+= 1
    post(.ack(request: state.request, acks: acks), state)
    state.used += UInt32(acks.count)
    guard state.used >= Self.creditStep else { return }
    post(.credit(state.used), state)
    state.used = 0
  }

  private func post(_ frame: RealtimeFrame, _ state: State) {
    state.link?.post(binary: ByteBuffer(bytes: frame.encoded()))
  }

  /// Every check of a recipient, except those against its own database. Answers with what the receipt says
  /// and the time in the body.
  private func open(_ bytes: [UInt8], _ state: inout State) throws -> (word: ReceiptBody, sentNs: UInt64) {
    guard let sender = state.sender, sender.body.identity == stage.sender.identity.publicKey else {
      throw BenchError("no certificate of the pinned sender came before its envelope")
    }
    let verified = try VerifiedEnvelope(UnverifiedEnvelope(parsing: bytes), sender: sender)
    let code = checkTimes(verified.header, nowMs: wallClockMs())
    guard code == .none else { throw BenchError("times: \(code.name)") }
    let recipient = stage.recipient
    let message = try EngramSealing.open(verified, as: recipient.address, kid: recipient.kid) { id in
      id == recipient.prekeySecret.id ? recipient.prekeySecret : nil
    }
    let seen = state.seen
    let verdict = judgeChain(message.chain, id: message.id, highest: state.highest) { seen[$0] }
    guard verdict == .inOrder else { throw BenchError("chain: \(verdict)") }
    state.seen[message.chain.seq] = (message.id, message.chain.previous)
    // Only the predecessor is ever asked for while everything comes in order.
    state.seen[message.chain.seq - 1] = nil
    state.highest = message.chain.seq
    guard message.body.count >= 8 else { throw BenchError("a body is too short") }
    let sentNs = message.body.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return (recipient.processed(message.id, message: message.header.messageID, from: stage.sender), sentNs)
  }
}
