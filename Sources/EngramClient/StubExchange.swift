internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import EngramSealing
internal import Synchronization

/// Control messages about gaps in the chain from one device to another. Sealed like any message, but for that
/// one device, and never shown to the application.
///
/// - `application/vnd.engram.stub-request`: `(low u64 | high u64)…`, the missing places of the chain from the
///   device that is asked to the device that asks; at most 64 ranges, ascending.
/// - `application/vnd.engram.stubs`: `lp(ranges unknown to the sender) | lp(lp(stub)…) | lp(lp(receipt)…)`;
///   with the receipts other devices of the same address signed for these messages.
enum StubControl {
  case request([ClosedRange<UInt64>])
  case stubs(unknown: [ClosedRange<UInt64>], [ArraySlice<UInt8>], receipts: [ArraySlice<UInt8>])

  private static let requestType = "application/vnd.engram.stub-request"
  private static let stubsType = "application/vnd.engram.stubs"

  var contentType: String {
    switch self {
    case .request: Self.requestType
    case .stubs: Self.stubsType
    }
  }

  var body: [UInt8] {
    switch self {
    case .request(let ranges): encodeRanges(ranges)
    case .stubs(let unknown, let stubs, let receipts):
      fields(capacity: 1_024 + (stubs + receipts).reduce(0) { $0 + $1.count + 4 }) { w in
        w.field(encodeRanges(unknown))
        for list in [stubs, receipts] { w.list { for item in list { $0.field(item) } } }
      }
    }
  }

  init(contentType: String, body: [UInt8]) throws(CodecError) {
    switch contentType {
    case Self.requestType: self = .request(try parseRanges(body[...]))
    case Self.stubsType:
      var r = FieldReader(body)
      let unknown = try parseRanges(try r.field(max: 64 * rangesMax))
      var (stubs, receipts): ([ArraySlice<UInt8>], [ArraySlice<UInt8>]) = ([], [])
      try r.list(maxCount: StubPolicy.stubsPerAnswer) { (r) throws(CodecError) in
        stubs.append(try r.field(max: Limits.headerBytesMax * 2))
      }
      try r.list(maxCount: StubPolicy.stubsPerAnswer) { (r) throws(CodecError) in
        receipts.append(try r.field(max: Limits.receiptBytesMax))
      }
      try r.finish()
      self = .stubs(unknown: unknown, stubs, receipts: receipts)
    default: throw .unknownValue
    }
  }
}

/// When gaps are asked about and answered. All of it bounds what one device can make another one do.
enum StubPolicy {
  /// A message of a higher priority overtakes, and the other one follows: not a gap yet.
  static let graceMs: UInt64 = 30_000
  /// Between the first question to a device and the second; doubled each time, up to a day.
  static let askAgainMs: UInt64 = 3_600_000
  static let askAgainMsMax: UInt64 = 24 * 3_600_000
  /// One device is answered this often: an answer costs more than its question.
  static let answerMs: UInt64 = 60_000
  static let stubsPerAnswer = 64
  /// A control message stays small beside what it is about.
  static let answerBytesMax = 512 << 10
  /// Places looked up for one answer.
  static let placesMax = 1_024
  /// Open gaps that are looked at.
  static let gapsMax = 1_000

  /// Whether its sender may still have something to say about a gap.
  static func isOpen(_ gap: GapRow) -> Bool { gap.code == .chainGap || gap.code == .sharedQueue }

  /// Whether the sender of a gap should be asked now. After the longest life of a message nobody has a stub
  /// left to send.
  static func isDue(_ gap: GapRow, nowMs: UInt64) -> Bool {
    guard isOpen(gap), nowMs >= gap.sinceMs + graceMs, nowMs < gap.sinceMs + Limits.ttlMsMax else {
      return false
    }
    // Whoever was asked about earlier gaps was not asked about this one.
    guard gap.isAsked, let asked = gap.askedMs else { return true }
    let wait = min(askAgainMs << UInt64(min(max(gap.asks, 1) - 1, 8)), askAgainMsMax)
    return nowMs >= asked + wait
  }
}

/// One exchange at a time in a process, and not all the time.
struct StubTurns: Sendable {
  private var isRunning = false
  private var lastMs: UInt64?

  /// - Parameter isUrgent: a control message came, or a person asks.
  mutating func begin(nowMs: UInt64, isUrgent: Bool) -> Bool {
    let isDue = lastMs.map { nowMs >= $0 + StubPolicy.graceMs || nowMs < $0 } ?? true
    guard !isRunning, isDue || isUrgent else { return false }
    (isRunning, lastMs) = (true, nowMs)
    return true
  }

  mutating func end() { isRunning = false }
}

extension ClientCore {
  /// `exchangeStubs` on the side of something else: what fails is tried again next time.
  func exchangeStubsIfDue(isUrgent: Bool = false) async {
    let now = nowMs()
    guard stubTurns.withLock({ $0.begin(nowMs: now, isUrgent: isUrgent) }) else { return }
    _ = try? await exchangeStubs()
    stubTurns.withLock { $0.end() }
  }

  /// Answers devices that asked us for stubs, and asks those whose messages are missing here.
  /// - Parameter askNow: ask about every open gap, whether it is time or not.
  /// - Returns: how many control messages were sealed.
  @discardableResult
  func exchangeStubs(askNow: Bool = false) async throws -> Int {
    let now = nowMs()
    let (debts, gaps) = try await read { rows in
      (try rows.stubDebts(), try rows.gaps(limit: StubPolicy.gapsMax))
    }
    var sealed = 0
    for debt in debts where try await answer(debt, nowMs: now) { sealed += 1 }
    let due = gaps.filter { askNow ? StubPolicy.isOpen($0) : StubPolicy.isDue($0, nowMs: now) }
    for (kid, gaps) in Dictionary(grouping: due, by: \.kid).sorted(by: { $0.key < $1.key }) {
      if try await ask(kid, about: gaps, nowMs: now) { sealed += 1 }
    }
    if sealed > 0 { try await transmitWaiting() }
    return sealed
  }

  /// One control message to one device, sealed together with what `settle` notes about it.
  /// - Returns: false when that device's keys cannot be had now; it is tried again later.
  private func seal(
    _ control: @escaping @Sendable (ClientTransaction) throws -> StubControl?, to address: Address,
    _ kid: Kid,
    nowMs: UInt64, settle: @escaping @Sendable (ClientTransaction) throws -> Void
  ) async throws -> Bool {
    guard let device = try? await sealableDevices(of: address).first(where: { $0.certificate.kid == kid })
    else { return false }
    let (own, key, ttl) = (account.address, self.device, account.acceptedTTLMs)
    return try await commit { rows in
      try settle(rows)
      guard let control = try control(rows), let id = MessageID(randomBytes(16)),
        let thread = ThreadID(randomBytes(16))
      else { return false }
      var draft = Draft(
        messageID: id, recipients: [address], type: .info, priority: .normal, thread: thread, parent: nil,
        createdMs: nowMs, expiresMs: nowMs + ttl, notBeforeMs: 0, contentType: control.contentType,
        body: control.body, mayCompress: false)
      draft.kind = .control
      var chains: [Kid: ChainPosition] = [:]
      try rows.sealAndKeep(draft, for: [device], from: own, device: key, &chains, nowMs: nowMs)
      for (kid, next) in chains { try rows.advanceChain(to: kid, next: next) }
      return true
    }
  }

  private func ask(_ kid: Kid, about gaps: [GapRow], nowMs: UInt64) async throws -> Bool {
    guard let address = gaps.first.flatMap({ try? Address($0.address) }) else { return false }
    return try await seal(
      { rows in
        var ranges: [ClosedRange<UInt64>] = []
        for gap in gaps.sorted(by: { $0.span.lowerBound < $1.span.lowerBound }) {
          ranges += try rows.missing(of: gap.span, from: kid, limit: rangesMax - ranges.count)
        }
        return ranges.isEmpty ? nil : .request(ranges)
      }, to: address, kid, nowMs: nowMs,
      settle: { [isFirst = !gaps.contains(where: \.isAsked)] in
        try $0.noteAsked(kid, address: address.text, isFirst: isFirst, nowMs: nowMs)
      })
  }

  private func answer(_ debt: StubDebt, nowMs: UInt64) async throws -> Bool {
    try await seal(
      { try $0.answer(debt) }, to: debt.address, debt.kid, nowMs: nowMs,
      settle: { try $0.settleStubDebt(to: debt.kid, nowMs: nowMs) })
  }
}

extension ClientSnapshot {
  /// What we can say about the places that a device misses: stubs with its wrap alone, and places that we
  /// know nothing of. What does not fit is asked for again.
  fileprivate func answer(_ debt: StubDebt) throws -> StubControl {
    let next = try nextPosition(to: debt.kid).seq
    var (stubs, receipts): ([ArraySlice<UInt8>], [ArraySlice<UInt8>]) = ([], [])
    var unknown: [ClosedRange<UInt64>] = []
    var (bytes, places) = (0, 0)
    scan: for range in debt.ranges {
      if range.lowerBound < next {
        for seq in range.lowerBound...min(range.upperBound, next - 1) {
          places += 1
          guard places <= StubPolicy.placesMax else { break scan }
          guard let (id, stub) = try stub(to: debt.kid, seq: seq) else {
            unknown.add(seq...seq)
            continue
          }
          bytes += stub.count
          guard stubs.count < StubPolicy.stubsPerAnswer, bytes <= StubPolicy.answerBytesMax else {
            break scan
          }
          stubs.append(stub[...])
          if let receipt = try siblingReceipt(id, debt) { receipts.append(receipt[...]) }
        }
      }
      // Places that this device never reached: it was restored from a backup, or the other side errs.
      if range.upperBound >= next { unknown.add(max(range.lowerBound, next)...range.upperBound) }
      if unknown.count >= rangesMax { break }
    }
    return .stubs(unknown: Array(unknown.prefix(rangesMax)), stubs, receipts: receipts)
  }

  private func stub(to kid: Kid, seq: UInt64) throws -> (id: EnvelopeID, bytes: [UInt8])? {
    guard let id = try sentEnvelope(to: kid, seq: seq), let row = try outbox(envelope: id) else { return nil }
    guard let stub = try? stubBytes(of: UnverifiedEnvelope(parsing: row.envelope), for: kid) else {
      return nil
    }
    return (id, stub)
  }

  /// The word of another device of the same address that it processed a message: why it never came to the one
  /// that asks, when they share a queue.
  private func siblingReceipt(_ id: EnvelopeID, _ debt: StubDebt) throws -> [UInt8]? {
    try receiptBytes(of: id).first { bytes in
      guard let body = try? UnverifiedReceipt(parsing: bytes[...]).body else { return false }
      return body.role == .device && body.state == .processed && body.recipient == debt.address
        && body.recipientKid != debt.kid
    }
  }
}

extension [ClosedRange<UInt64>] {
  /// Appends, joining what touches.
  fileprivate mutating func add(_ range: ClosedRange<UInt64>) {
    if let last, last.upperBound + 1 == range.lowerBound {
      self[count - 1] = last.lowerBound...range.upperBound
    } else {
      append(range)
    }
  }
}

extension Inbound {
  /// A control message that was opened and has its place in the chain.
  /// - Returns: `none`, or why it cannot be followed.
  func follow(_ message: OpenedMessage, in rows: ClientTransaction) throws -> ErrorCode {
    let control: StubControl
    do throws(CodecError) {
      control = try StubControl(contentType: message.contentType, body: message.body)
    } catch { return error.code }
    let (sender, kid) = (message.header.sender, message.header.senderKid)
    switch control {
    case .request(let ranges):
      try rows.oweStubs(
        StubDebt(kid: kid, address: sender, ranges: ranges), intervalMs: StubPolicy.answerMs, nowMs: nowMs)
    case .stubs(let unknown, let stubs, let receipts):
      for stub in stubs { try learn(stub: Array(stub), from: sender, kid, in: rows) }
      for receipt in receipts { try learnTaken(Array(receipt), from: kid, in: rows) }
      for gap in try rows.gaps(limit: StubPolicy.gapsMax) where gap.kid == kid {
        let missing = try rows.missing(of: gap.span, from: kid, limit: rangesMax)
        let isUnknown = missing.allSatisfy { part in
          unknown.contains { $0.lowerBound <= part.lowerBound && part.upperBound <= $0.upperBound }
        }
        if isUnknown { try rows.noteUnknown(gap.span, from: kid) }
      }
    }
    return .none
  }

  /// A receipt counts when another device of this client, by a certificate of its identity key, signed that
  /// it processed a message whose stub is here. Anything else is left out.
  private func learnTaken(_ bytes: [UInt8], from sender: Kid, in rows: ClientTransaction) throws {
    guard let taking = try provesTaking(bytes, in: rows) else { return }
    try rows.noteTaken(taking.envelope, from: sender, by: taking.kid)
  }

  func provesTaking(
    _ bytes: [UInt8], in rows: ClientTransaction
  ) throws -> (envelope: EnvelopeID, kid: Kid)? {
    guard let receipt = try? UnverifiedReceipt(parsing: bytes[...]), let kid = receipt.body.recipientKid,
      receipt.body.role == .device, receipt.body.state == .processed,
      receipt.body.recipient == account.address, kid != account.kid,
      let certified = try rows.certificate(of: kid),
      let certificate = try? credentials.certificate(certified),
      certificate.body.address == account.address, certificate.body.identity == account.identity,
      (try? VerifiedReceipt(receipt, bytes: bytes, key: certificate.key, roots: credentials.roots)) != nil
    else { return nil }
    return (receipt.body.envelope, kid)
  }

  /// A stub counts when the device that sent it signed that envelope, its wrap for us says which place it
  /// has, and the place is free and fits its neighbours. Anything else is left out.
  private func learn(
    stub bytes: [UInt8], from sender: Address, _ kid: Kid, in rows: ClientTransaction
  ) throws {
    guard let envelope = try? UnverifiedEnvelope(parsing: bytes), envelope.isStub,
      envelope.header.sender == sender, envelope.header.senderKid == kid,
      let certified = try rows.certificate(of: kid),
      let certificate = try? credentials.certificate(certified),
      let verified = try? VerifiedEnvelope(envelope, sender: certificate)
    else { return }
    let position: ChainPosition
    do {
      position = try openStub(verified, as: account.address, kid: account.kid, prekey: rows.prekeySecret)
    } catch is OpenError { return }
    // Beyond what came so far nothing is missing.
    guard try position.seq < rows.highestPosition(from: kid) else { return }
    switch try rows.judge(position, id: verified.id, from: kid) {
    case .inOrder:
      guard try rows.recorded(from: kid, seq: position.seq) == nil else { return }
      try rows.record(
        position, id: verified.id, from: kid, expiresMs: verified.header.expiresMs, isStub: true)
      try rows.closeGaps(from: kid, around: position, nowMs: nowMs)
    case .fork:
      try rows.raise(
        .fork, .chainFork, address: sender.text, kid: kid, envelope: verified.id, nowMs: nowMs)
    case .duplicate, .gap: break
    }
  }
}
