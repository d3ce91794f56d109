import EngramCore
import EngramCrypto
import EngramWire
import NIOCore

/// What a run of leases has seen so far. All counts grow only.
struct WorkCounters: Sendable {
  /// Envelopes whose outcome said accepted.
  var accepted = 0
  /// Leased envelopes that came to a consumer.
  var delivered = 0
  /// Settlements that the node took.
  var settled = 0
  /// Receipts of the recipients' devices that reached the sender.
  var processed = 0
  /// Sends and settlements that were answered otherwise, with the last code.
  var refused = 0
  var lastCode: UInt16 = 0
  var malformedFrames = 0
  /// Deliveries of what had been settled, or to the wrong consumer.
  var doubles = 0
  /// Deliveries out of the order of priority.
  var misordered = 0
}

/// Senders and consumers of one run, and what happened to each message by its number: sends frames that were
/// made beforehand, settles the leased messages of one frame with receipts signed together, and judges what
/// the node does: nothing twice, nothing out of order, nothing malformed. Lives on one event loop, which is
/// its only synchronisation.
final class WorkTraffic {
  enum Release: Sendable {
    case acceptance
    /// The last of its consumers has it.
    case delivery
    /// The recipient device's receipt reached the sender.
    case processing
  }

  struct Plan: Sendable {
    /// Numbers run below this.
    var messages = 0
    var frames: [ByteBuffer] = []
    var perFrame = 1
    /// Messages on their way, in a closed loop.
    var window = 0
    var release = Release.acceptance
    /// When frame n was due, for latencies; nil takes the time when it was written.
    var due: (startNs: UInt64, intervalNs: UInt64)?
    /// Deliveries that each message should have.
    var copies = 1
    /// Priority of message n is that at n modulo the count.
    var priorities: [UInt8] = [2]
    /// Numbers below this wait together before anybody consumes: every consumer gets its share in order.
    var orderedEnd = 0
    var books: [ReceiptBook] = []
  }

  private struct Consumer {
    let link: WebSocketConnection
    let book: Int
    /// (5 − priority, seq) of what came last.
    var last: (step: UInt8, seq: UInt64) = (0, 0)
    var delivered = 0
  }

  private(set) var plan: Plan
  private var senders: [WebSocketConnection] = []
  private var senderCredit: [Int] = []
  private var consumers: [Consumer] = []
  private(set) var counters = WorkCounters()
  private var sentNs: [UInt64]
  private var copies: [UInt16]
  private var arrivedNs: [UInt64]
  private var processedNs: [UInt64]
  private var nextFrame = 0
  private var goal = 0
  private var outstanding = 0
  private var answers: UInt32 = 0
  private(set) var lastOutcomes = ByteBuffer()
  private(set) var lastItems = ByteBuffer()
  /// When the first leased message came.
  private(set) var firstArrivalNs: UInt64?

  /// Requests from here on are acknowledgements, those below sends.
  private static let acks: UInt32 = 1 << 31
  private static let settlements: UInt32 = 3 << 30
  private static let creditStep = 1_024
  private static let creditFirst: UInt32 = 1 << 16

  init(_ plan: Plan) {
    self.plan = plan
    sentNs = [UInt64](repeating: 0, count: plan.frames.count)
    copies = [UInt16](repeating: 0, count: plan.messages)
    arrivedNs = [UInt64](repeating: 0, count: plan.messages)
    processedNs = [UInt64](repeating: 0, count: plan.messages)
  }

  // MARK: - Connections

  /// - Parameter takesReceipts: whether it has its device's receipts pushed and acknowledges them. Every
  ///   connection of a device would get the same ones, so one takes them for all.
  func add(sender: WebSocketConnection, takesReceipts: Bool) {
    senders.append(sender)
    senderCredit.append(0)
    if takesReceipts { grant(Self.creditFirst, sender) }
  }

  func add(consumer: WebSocketConnection, book: Int, prefetch: Int) {
    consumers.append(Consumer(link: consumer, book: book))
    let consume = RealtimeFrame.consume(ConsumeRequest(prefetch: UInt32(prefetch)))
    consumer.post(binary: ByteBuffer(bytes: consume.encoded()))
  }

  func setBook(_ number: Int, _ book: ReceiptBook) { plan.books[number] = book }

  func setDue(startNs: UInt64, intervalNs: UInt64) { plan.due = (startNs, intervalNs) }

  /// Everything sent so far is answered: from now on something else makes room.
  func beginWindow(release: Release) {
    plan.release = release
    plan.due = nil
    outstanding = 0
  }

  var consumerShares: [Int] { consumers.map(\.delivered) }

  // MARK: - Out

  /// Sends on until `frames` frames are out, as fast as the window allows.
  func send(through frames: Int) {
    goal = min(frames, plan.frames.count)
    fill()
  }

  func sendOneMore() { send(through: goal + 1) }

  /// Frames before this were sent otherwise.
  func skip(frames: Int) { (nextFrame, goal) = (frames, frames) }

  /// - Returns: messages that were handed to the connections.
  @discardableResult
  func stop() -> Int {
    goal = nextFrame
    return sent
  }

  var sent: Int { min(nextFrame * plan.perFrame, plan.messages) }
  var isSent: Bool { nextFrame >= goal }

  private func fill() {
    while nextFrame < goal, outstanding + plan.perFrame <= plan.window {
      sentNs[nextFrame] = monotonicNs()
      senders[nextFrame % senders.count].post(binary: plan.frames[nextFrame])
      outstanding += plan.perFrame
      nextFrame += 1
    }
  }

  private func release(_ count: Int) {
    guard plan.due == nil else { return }
    outstanding -= count
    fill()
  }

  private func grant(_ count: UInt32, _ link: WebSocketConnection) {
    link.post(binary: ByteBuffer(bytes: RealtimeFrame.credit(count).encoded()))
  }

  // MARK: - In

  /// A frame on a connection that is the sender or the consumer of these numbers, or both.
  func received(_ frame: ByteBuffer, sender: Int? = nil, consumer: Int? = nil) {
    frame.withUnsafeReadableBytes { bytes in
      switch bytes.first {
      case FrameScan.outcomes:
        let count = outcomes(bytes)
        guard FrameScan.request(of: bytes) < Self.acks else {
          if FrameScan.request(of: bytes) >= Self.settlements { counters.settled += count }
          return
        }
        counters.accepted += count
        lastOutcomes = frame
        if case .acceptance = plan.release { release(count) }
      case FrameScan.items:
        if let sender { receipts(bytes, sender) }
        if let consumer { leases(bytes, consumer, frame) }
      default: malformed(bytes)
      }
    }
  }

  private func malformed(_ bytes: UnsafeRawBufferPointer) {
    counters.malformedFrames += 1
    if bytes.first == FrameScan.problem, bytes.count >= 7 {
      counters.lastCode = bytes.bigEndian(5, UInt16.self)
    }
  }

  private func outcomes(_ bytes: UnsafeRawBufferPointer) -> Int {
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
    return accepted
  }

  // MARK: - Leases

  private func leases(_ bytes: UnsafeRawBufferPointer, _ consumer: Int, _ frame: ByteBuffer) {
    let now = monotonicNs()
    let before = consumers[consumer].delivered
    var complete = 0
    var taken: [(seq: UInt64, token: UInt64, word: ReceiptBody)] = []
    let isWhole = FrameScan.eachItem(in: bytes) { item in
      guard item.kind == 4, item.payload.count >= LeaseScan.number + 8 else { return }
      let number = Int(item.payload.bigEndian(LeaseScan.number, UInt64.self))
      guard arrivedNs.indices.contains(number) else { return counters.malformedFrames += 1 }
      counters.delivered += 1
      consumers[consumer].delivered += 1
      if firstArrivalNs == nil { firstArrivalNs = now }
      judgeOrder(number, item.seq, consumer)
      switch plan.books[consumers[consumer].book].take(number) {
      case .word(let word):
        copies[number] += 1
        arrivedNs[number] = now
        if Int(copies[number]) == plan.copies { complete += 1 }
        taken.append((item.seq, item.payload.bigEndian(LeaseScan.token, UInt64.self), word))
      case .again: counters.doubles += 1
      case .none: break
      }
    }
    if !isWhole { counters.malformedFrames += 1 }
    if consumers[consumer].delivered > before { lastItems = frame }
    if case .delivery = plan.release { release(complete) }
    if !taken.isEmpty { settle(taken, consumer) }
  }

  /// Signs what came in one frame together, as a client does.
  private func settle(_ taken: [(seq: UInt64, token: UInt64, word: ReceiptBody)], _ consumer: Int) {
    var settlements = FieldWriter(capacity: taken.count * 1_024)
    let receipts = signDeviceReceipts(taken.map(\.word), with: plan.books[consumers[consumer].book].key)
    for (entry, receipt) in zip(taken, receipts) {
      LeaseScan.appendAck(entry.seq, token: entry.token, receipt, to: &settlements)
    }
    post(5, settlements, on: consumers[consumer].link)
  }

  private func judgeOrder(_ number: Int, _ seq: UInt64, _ consumer: Int) {
    guard number < plan.orderedEnd else { return }
    let step = 5 - plan.priorities[number % plan.priorities.count]
    if (step, seq) < consumers[consumer].last { counters.misordered += 1 }
    consumers[consumer].last = (step, seq)
  }

  // MARK: - Receipts

  private func receipts(_ bytes: UnsafeRawBufferPointer, _ sender: Int) {
    let now = monotonicNs()
    var count = 0
    let processedBefore = counters.processed
    var acks = FieldWriter(capacity: 256)
    let isWhole = FrameScan.eachItem(in: bytes) { item in
      guard item.kind == 3 else { return }
      count += 1
      let isWhole = ReceiptScan.each(in: item.payload) { role, number in
        guard role == 3, processedNs.indices.contains(number) else { return }
        counters.processed += 1
        processedNs[number] = now
      }
      if !isWhole { counters.malformedFrames += 1 }
      acks.raw(UInt32(16))
      acks.field(item.seq)
      acks.field([UInt8]())
    }
    if !isWhole { counters.malformedFrames += 1 }
    guard count > 0 else { return }
    senderCredit[sender] += count
    if senderCredit[sender] >= Self.creditStep {
      grant(UInt32(senderCredit[sender]), senders[sender])
      senderCredit[sender] = 0
    }
    post(2, acks, on: senders[sender])
    if case .processing = plan.release { release(counters.processed - processedBefore) }
  }

  private func post(_ type: UInt8, _ entries: FieldWriter, on link: WebSocketConnection) {
    var frame = ByteBuffer()
    frame.reserveCapacity(9 + entries.bytes.count)
    frame.writeInteger(type)
    frame.writeInteger(UInt32(4))
    answers = (answers + 1) % (1 << 30)
    frame.writeInteger((type == 2 ? Self.acks : Self.settlements) + answers)
    frame.writeBytes(entries.bytes)
    link.post(binary: frame)
  }

  // MARK: - Judgement

  /// Messages of a range that have not had all their deliveries.
  func incomplete(_ numbers: Range<Int>) -> Int {
    numbers.count { Int(copies[$0]) != plan.copies }
  }

  /// µs from when a message was due, or written, to its last delivery; those without one are left out.
  func deliveryMicros(_ numbers: Range<Int>, where isAsked: (Int) -> Bool = { _ in true }) -> [UInt32] {
    numbers.compactMap { isAsked($0) ? micros(arrivedNs[$0], $0) : nil }
  }

  /// The same to the device's receipt at the sender.
  func processingMicros(_ numbers: Range<Int>) -> [UInt32] {
    numbers.compactMap { micros(processedNs[$0], $0) }
  }

  /// µs to the last delivery of any message of a frame.
  func completionMicros(_ frames: Range<Int>) -> [UInt32] {
    frames.compactMap { frame in
      let numbers = (frame * plan.perFrame)..<((frame + 1) * plan.perFrame)
      return numbers.map { micros(arrivedNs[$0], $0) ?? .max }.max()
    }
  }

  private func dueNs(_ number: Int) -> UInt64 {
    let frame = number / plan.perFrame
    guard let due = plan.due else { return sentNs[frame] }
    return due.startNs + UInt64(frame) * due.intervalNs
  }

  private func micros(_ ns: UInt64, _ number: Int) -> UInt32? {
    let due = dueNs(number)
    return ns == 0 ? nil : UInt32(clamping: max(1, (ns - min(ns, due)) / 1_000))
  }
}
