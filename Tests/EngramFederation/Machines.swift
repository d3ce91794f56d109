import EngramCore
import EngramCrypto
import EngramFederation
import EngramNode
import TestSupport

/// Two organisations that know each other, and hellos that one would send the other.
struct TwoNodes {
  let acme: TestNode
  let globex: TestNode
  let exporter = [UInt8](repeating: 7, count: 32)

  init() throws { (acme, globex) = (try TestNode("acme.example"), try TestNode("globex.example")) }

  /// A machine of acme's towards globex.
  func machine(
    _ role: LinkRole, settings: LinkSettings = LinkSettings(), features: LinkFeatures = .supported
  ) -> LinkStateMachine {
    LinkStateMachine(
      LinkConfiguration(
        role: role, identity: NodeIdentity(name: acme.name, key: acme.key),
        peer: Peer(name: globex.name, id: globex.id), exporter: exporter, settings: settings,
        features: features),
      nowMs: TestTime.startMs)
  }

  /// What an honest globex says in this role.
  func hello(_ role: LinkRole, adjust: (inout HelloBody) -> Void = { _ in }) -> HelloBody {
    var body = HelloBody(
      role: role, name: globex.name, nodeID: globex.id, peerName: acme.name, peerNodeID: acme.id,
      nowMs: TestTime.startMs, epoch: globexEpoch, throughEpoch: acmeEpoch, through: 0, window: 1_024)
    adjust(&body)
    return body
  }

  func signed(_ body: HelloBody) -> [UInt8] { signHello(body, exporter: exporter, key: globex.key) }
}

let acmeEpoch: UInt64 = 11
let globexEpoch: UInt64 = 22

/// A link of acme's whose far side a test plays by hand.
struct TestLink {
  let nodes: TwoNodes
  var machine: LinkStateMachine
  var nowMs = TestTime.startMs
  private var readThrough = OutboxCursor.start
  /// Everything the machine asked for since the last `take`.
  private var actions: [LinkAction] = []

  init(
    _ role: LinkRole = .listener, settings: LinkSettings = LinkSettings(), features: LinkFeatures = .supported
  ) throws {
    nodes = try TwoNodes()
    machine = nodes.machine(role, settings: settings, features: features)
  }

  /// A link on which both hellos are through.
  static func established(
    _ role: LinkRole = .listener, settings: LinkSettings = LinkSettings(),
    features: LinkFeatures = .supported,
    numbers: LinkNumbers = LinkNumbers(outEpoch: acmeEpoch, highestAssigned: 1 << 40),
    hello adjust: (inout HelloBody) -> Void = { _ in }
  ) throws -> TestLink {
    var link = try TestLink(role, settings: settings, features: features)
    link.tell(.opened)
    if role == .dialler { link.tell(.numbersLoaded(numbers)) }
    link.receive(.hello, link.nodes.signed(link.nodes.hello(role.opposite, adjust: adjust)))
    link.tell(.claimed(.granted(replacedOther: false)))
    link.tell(.numbersLoaded(numbers))
    return link
  }

  mutating func tell(_ event: LinkEvent) { actions += machine.handle(event, nowMs: nowMs) }

  mutating func receive(_ type: FrameType, _ payload: [UInt8] = []) {
    tell(.received(LinkFrame(type: type.rawValue, payload: payload[...])))
  }

  mutating func tick(ms: UInt64) {
    nowMs += ms
    tell(.ticked)
  }

  mutating func take() -> [LinkAction] {
    defer { actions = [] }
    return actions
  }

  // MARK: - What was asked for

  var sent: [(FrameType, [UInt8])] {
    actions.compactMap { if case .send(let type, let payload) = $0 { (type, payload) } else { nil } }
  }
  var sentTypes: [FrameType] { sent.map(\.0) }

  func frames(_ type: FrameType) -> [ArraySlice<UInt8>] {
    sent.filter { $0.0 == type }.map { $0.1[...] }
  }

  var delivered: [DeliverFrame] { frames(.deliver).compactMap { try? DeliverFrame(parsing: $0) } }
  var deliveredSeqs: [UInt64] {
    delivered.flatMap { frame in frame.envelopes.indices.map { frame.firstSeq + UInt64($0) } }
  }
  var acks: [AckFrame] { frames(.ack).compactMap { try? AckFrame(parsing: $0) } }
  var goodbye: ErrorCode? { frames(.goodbye).first.flatMap { try? GoodbyeFrame(parsing: $0).code } }

  var end: LinkEnd? {
    for case .close(let end) in actions { return end }
    return nil
  }

  var accepted: [InboundBatch] {
    actions.compactMap { if case .acceptEnvelopes(let batch) = $0 { batch } else { nil } }
  }
  var reads: [(after: OutboxCursor, maxCount: Int, maxBytes: Int)] {
    actions.compactMap {
      if case .readEnvelopes(let after, let maxCount, let maxBytes) = $0 {
        (after, maxCount, maxBytes)
      } else {
        nil
      }
    }
  }
  var largeReads: [UInt64] {
    actions.compactMap { if case .readLarge(let seq) = $0 { seq } else { nil } }
  }
  var settled: [(through: UInt64, items: [AckFrame.Item])] {
    actions.compactMap { if case .settle(let through, let items) = $0 { (through, items) } else { nil } }
  }
  var isEstablished: Bool {
    actions.contains { if case .established = $0 { true } else { false } }
  }

  // MARK: - The far side

  /// globex delivers.
  mutating func deliver(_ firstSeq: UInt64, _ envelopes: [[UInt8]], epoch: UInt64 = globexEpoch) {
    receive(.deliver, deliverFrame(firstSeq, envelopes, epoch: epoch).encoded())
  }

  func deliverFrame(_ firstSeq: UInt64, _ envelopes: [[UInt8]], epoch: UInt64 = globexEpoch) -> DeliverFrame {
    DeliverFrame(
      origin: nodes.globex.id, destination: nodes.acme.id, epoch: epoch, firstSeq: firstSeq,
      envelopes: envelopes.map { $0[...] })
  }

  /// globex acknowledges.
  mutating func acknowledge(
    _ seqs: [UInt64], through: UInt64, outcome: DeliveryOutcome = .accepted, epoch: UInt64 = acmeEpoch
  ) {
    receive(
      .ack,
      AckFrame(
        origin: nodes.acme.id, destination: nodes.globex.id, epoch: epoch, through: through,
        items: seqs.map { AckFrame.Item(seq: $0, outcome: outcome) }
      ).encoded())
  }

  /// acme's store answers a commit.
  mutating func commit(_ batch: InboundBatch, receiptBytes: Int = 0) {
    tell(.batchVerified)
    let items = batch.envelopes.indices.map {
      AckFrame.Item(
        seq: batch.seqs[$0], outcome: .accepted,
        receipt: [UInt8](repeating: 1, count: receiptBytes))
    }
    tell(.batchCommitted(batch, items))
  }

  /// acme's store answers a read.
  mutating func rows(_ seqs: some Sequence<UInt64>, bytes: Int = 100, kid: Kid = .zero, rank: UInt64 = 0) {
    rows(
      seqs.map {
        OutboundRow(seq: $0, rank: rank, bytes: [UInt8](repeating: 9, count: bytes), senderKid: kid)
      })
  }

  mutating func rows(_ rows: [OutboundRow]) {
    if let highest = rows.map(\.seq).max() { readThrough = OutboxCursor(through: highest) }
    tell(.envelopesRead(rows, through: readThrough, certificates: []))
  }
}
