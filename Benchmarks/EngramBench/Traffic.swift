import EngramCore
import EngramCrypto
import EngramWire
import NIOCore

/// What one run has seen so far. All counts grow only.
struct Counters: Sendable {
  /// Envelopes whose outcome said accepted: they are on the home node's disk.
  var accepted = 0
  /// Envelopes handed to the recipient's device.
  var delivered = 0
  /// Receipts of the recipient's node that reached the sender's device.
  var admitted = 0
  /// Receipts of the recipient's device that reached the sender's device.
  var processed = 0
  /// Acknowledgements of envelopes that the recipient's node took.
  var acknowledged = 0
  /// Anything else than accepted, with the last code.
  var refused = 0
  var lastCode: UInt16 = 0
  var malformedFrames = 0
  var latencies = 0
}

/// Both devices' traffic of one run: sends frames that were made beforehand, counts what comes back. Lives on
/// one event loop, which is its only synchronisation.
final class Traffic {
  /// When message `index` was sent, for its latency.
  enum Schedule: Sendable {
    /// As fast as the window allows: the time of its frame's write.
    case closed
    /// At `startNs` + position · `intervalNs`, whatever the answers do; measured from the time that was due,
    /// so that a stalled sender does not hide a delay.
    case open(startNs: UInt64, intervalNs: UInt64)
  }

  /// What makes room in the window.
  enum Release: Sendable {
    case acceptance
    case delivery
    /// The recipient device's receipt reached the sender.
    case processing
  }

  struct Plan: Sendable {
    var frames: [ByteBuffer] = []
    var messagesPerFrame = 1
    /// Number of the first message in `frames`.
    var firstIndex = 0
    var messages = 0
    var window = 0
    var release = Release.acceptance
    var schedule = Schedule.closed
    /// What the receipts say, by message number; empty: the recipient does not acknowledge.
    var receipts: [ReceiptBody] = []
    /// Signs them, those of one frame together.
    var recipientKey: SigningKey?
  }

  private let plan: Plan
  private let senders: [WebSocketConnection]
  private let recipient: WebSocketConnection
  private(set) var counters = Counters()
  /// µs from send to delivery, by position; 0: not delivered.
  private(set) var latencies: [UInt32]
  private var sentNs: [UInt64]
  private var nextFrame = 0
  private var outstanding = 0
  private var isStopped = false
  private var senderCredit = 0
  private var recipientCredit = 0
  private var ackRequest: UInt32 = Traffic.acks
  /// Kept for a closer look after the run.
  private(set) var lastOutcomes = ByteBuffer()
  private(set) var lastItems = ByteBuffer()

  /// Requests from here on are acknowledgements, those below sends.
  private static let acks: UInt32 = 1 << 31
  /// Credit is renewed when this much of it is used.
  private static let creditStep = 1_024
  private static let creditFirst: UInt32 = 4_096

  init(_ plan: Plan, senders: [WebSocketConnection], recipient: WebSocketConnection) {
    (self.plan, self.senders, self.recipient) = (plan, senders, recipient)
    latencies = [UInt32](repeating: 0, count: plan.messages)
    sentNs = [UInt64](repeating: 0, count: plan.frames.count)
  }

  var isExhausted: Bool { nextFrame == plan.frames.count }

  /// Messages handed to the connections; an open loop counts them elsewhere.
  var sent: Int { min(nextFrame * plan.messagesPerFrame, plan.messages) }

  /// Whether everything that was sent is answered, delivered and, where that is asked for, acknowledged.
  var isSettled: Bool {
    let expected =
      switch plan.schedule {
      case .closed: sent
      case .open: plan.messages
      }
    return counters.accepted + counters.refused >= expected && counters.delivered >= counters.accepted
      && (plan.receipts.isEmpty || counters.processed >= counters.delivered)
  }

  func start() {
    grant(Self.creditFirst, senders[0])
    grant(Self.creditFirst, recipient)
    if case .closed = plan.schedule { fill() }
  }

  func stop() { isStopped = true }

  // MARK: - Out

  private func fill() {
    while !isStopped, nextFrame < plan.frames.count, outstanding + plan.messagesPerFrame <= plan.window {
      sentNs[nextFrame] = monotonicNs()
      senders[nextFrame % senders.count].post(binary: plan.frames[nextFrame])
      outstanding += plan.messagesPerFrame
      nextFrame += 1
    }
  }

  private func release(_ count: Int) {
    guard case .closed = plan.schedule else { return }
    outstanding -= count
    fill()
  }

  private func grant(_ count: UInt32, _ link: WebSocketConnection) {
    link.post(binary: ByteBuffer(bytes: RealtimeFrame.credit(count).encoded()))
  }

  // MARK: - In

  /// A frame on any of the sender's connections: outcomes of sends, receipts.
  func senderReceived(_ frame: ByteBuffer) {
    frame.withUnsafeReadableBytes { bytes in
      switch bytes.first {
      case FrameScan.outcomes: outcomes(bytes, isRecipient: false)
      case FrameScan.items: receipts(bytes)
      default: counters.malformedFrames += 1
      }
      if bytes.first == FrameScan.outcomes, FrameScan.request(of: bytes) < Self.acks { lastOutcomes = frame }
    }
  }

  /// A frame on the recipient's connection: envelopes, outcomes of acknowledgements.
  func recipientReceived(_ frame: ByteBuffer) {
    frame.withUnsafeReadableBytes { bytes in
      switch bytes.first {
      case FrameScan.outcomes: outcomes(bytes, isRecipient: true)
      case FrameScan.items: envelopes(bytes)
      default: counters.malformedFrames += 1
      }
    }
    if frame.getInteger(at: frame.readerIndex, as: UInt8.self) == FrameScan.items { lastItems = frame }
  }

  private func outcomes(_ bytes: UnsafeRawBufferPointer, isRecipient: Bool) {
    let isSend = FrameScan.request(of: bytes) < Self.acks
    var accepted = 0
    let isWhole = FrameScan.eachOutcome(in: bytes) { outcome, code in
      if outcome == 1 {
        accepted += 1
      } else {
        counters.refused += 1
        counters.lastCode = code
      }
    }
    if !isWhole { counters.malformedFrames += 1 }
    if isRecipient { counters.acknowledged += accepted }
    guard isSend, !isRecipient else { return }
    counters.accepted += accepted
    if case .acceptance = plan.release { release(accepted) }
  }

  private func envelopes(_ bytes: UnsafeRawBufferPointer) {
    let now = monotonicNs()
    var count = 0
    var taken: [(seq: UInt64, word: ReceiptBody)] = []
    let isWhole = FrameScan.eachItem(in: bytes) { item in
      guard item.kind == 2, item.payload.count >= MessageIndex.offsetInEnvelope + 8 else { return }
      count += 1
      let index = Int(item.payload.bigEndian(MessageIndex.offsetInEnvelope, UInt64.self))
      note(delivered: index - plan.firstIndex, at: now)
      guard !plan.receipts.isEmpty, plan.receipts.indices.contains(index) else { return }
      taken.append((item.seq, plan.receipts[index]))
    }
    if !isWhole { counters.malformedFrames += 1 }
    counters.delivered += count
    renewCredit(&recipientCredit, count, recipient)
    if !taken.isEmpty { acknowledge(taken) }
    if case .delivery = plan.release { release(count) }
  }

  private func acknowledge(_ taken: [(seq: UInt64, word: ReceiptBody)]) {
    guard let key = plan.recipientKey else { return }
    var acks = FieldWriter(capacity: taken.count * 1_024)
    for (entry, receipt) in zip(taken, signDeviceReceipts(taken.map(\.word), with: key)) {
      appendAck(entry.seq, receipt, to: &acks)
    }
    send(acks, on: recipient)
  }

  private func note(delivered position: Int, at now: UInt64) {
    guard latencies.indices.contains(position) else { return }
    let sent =
      switch plan.schedule {
      case .closed: sentNs[position / plan.messagesPerFrame]
      case .open(let startNs, let intervalNs): startNs + UInt64(position) * intervalNs
      }
    latencies[position] = UInt32(clamping: max(1, (now - min(now, sent)) / 1_000))
    counters.latencies += 1
  }

  private func receipts(_ bytes: UnsafeRawBufferPointer) {
    var count = 0
    let processedBefore = counters.processed
    var acks = FieldWriter(capacity: 256)
    let isWhole = FrameScan.eachItem(in: bytes) { item in
      guard item.kind == 3 else { return }
      count += 1
      let isWhole = FrameScan.eachReceiptRole(in: item.payload) { role in
        if role == 3 { counters.processed += 1 } else { counters.admitted += 1 }
      }
      if !isWhole { counters.malformedFrames += 1 }
      appendAck(item.seq, [], to: &acks)
    }
    if !isWhole { counters.malformedFrames += 1 }
    renewCredit(&senderCredit, count, senders[0])
    if !acks.bytes.isEmpty { send(acks, on: senders[0]) }
    if case .processing = plan.release { release(counters.processed - processedBefore) }
  }

  private func renewCredit(_ used: inout Int, _ count: Int, _ link: WebSocketConnection) {
    used += count
    guard used >= Self.creditStep else { return }
    grant(UInt32(used), link)
    used = 0
  }

  /// One element of a `MailboxAck` list: lp(lp(seq) | lp(receipt)).
  private func appendAck(_ seq: UInt64, _ receipt: [UInt8], to acks: inout FieldWriter) {
    acks.raw(UInt32(12 + 4 + receipt.count))
    acks.field(seq)
    acks.field(receipt)
  }

  private func send(_ acks: FieldWriter, on link: WebSocketConnection) {
    // RealtimeFrame.ack: type 2, lp(request), acks
    var frame = ByteBuffer()
    frame.reserveCapacity(9 + acks.bytes.count)
    frame.writeInteger(UInt8(2))
    frame.writeInteger(UInt32(4))
    frame.writeInteger(ackRequest)
    frame.writeBytes(acks.bytes)
    ackRequest = ackRequest == .max ? Self.acks : ackRequest + 1
    link.post(binary: frame)
  }
}
