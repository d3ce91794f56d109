import EngramCore
import EngramCrypto
import EngramTLS
import TestSupport
import Testing

/// An organisation that another one has pinned in good faith, and that then speaks the protocol by hand:
/// right certificate, right key, any frame.
final class RoguePeer: Sendable {
  let own: Organisation
  let victim: Organisation
  /// A client of the rogue, known to nobody yet.
  let mole: TestDevice
  /// Names the numbering of our deliveries; every link of a test starts one.
  let epoch: UInt64

  /// `own` is set up and pinned, and never run.
  init(against victim: Organisation, name: String = "rogue.example") async throws {
    own = try await Organisation(name)
    self.victim = victim
    mole = try TestDevice("mole@\(name)", nowMs: nowMs())
    epoch = UInt64.random(in: 1..<(1 << 62))
    try await victim.pin(own)
  }

  func connect(as identity: TLSConfiguration.Identity? = nil) async throws -> RawLink {
    try await RawLink.connect(to: victim, as: identity ?? own.certificate)
  }

  /// What an honest dialler says; `change` makes it something else before it is signed.
  func hello(
    on link: RawLink, epoch: UInt64? = nil, key: SigningKey? = nil,
    change: (inout HelloBody) -> Void = { _ in }
  ) throws -> [UInt8] {
    var body = HelloBody(
      role: .dialler, name: own.name, nodeID: own.nodeID, peerName: victim.name, peerNodeID: victim.nodeID,
      nowMs: nowMs(), epoch: epoch ?? self.epoch, throughEpoch: 0, through: 0, window: 1_024)
    change(&body)
    return signHello(body, exporter: try #require(link.exporter), key: key ?? own.identityKey)
  }

  /// A link on which both sides have proved themselves, with a numbering of its own.
  func established() async throws -> RogueLink {
    let link = try await connect()
    let epoch = UInt64.random(in: 1..<(1 << 62))
    try await link.send(.hello, try hello(on: link, epoch: epoch))
    guard let answer = await link.next(.hello), let exporter = link.exporter else {
      throw Unexpected("no hello came back: \(String(describing: await link.goodbye()))")
    }
    let body = try verifyHello(answer[...], exporter: exporter, pinned: victim.nodeID)
    return RogueLink(link: link, rogue: self, epoch: epoch, victimEpoch: body.epoch)
  }
}

/// An established link of a rogue, with what its frames have to name.
struct RogueLink {
  let link: RawLink
  let rogue: RoguePeer
  let epoch: UInt64
  let victimEpoch: UInt64

  func deliver(_ envelopes: [[UInt8]], seq: UInt64, change: (inout DeliverFrame) -> Void = { _ in })
    -> [UInt8]
  {
    var frame = DeliverFrame(
      origin: rogue.own.nodeID, destination: rogue.victim.nodeID, epoch: epoch, firstSeq: seq,
      envelopes: envelopes.map { $0[...] })
    change(&frame)
    return frame.encoded()
  }

  func introduce(_ device: TestDevice) async throws {
    try await link.send(.certificate, device.certificateItem.encoded())
  }

  /// Delivers one envelope and waits for the node's word about it.
  func outcome(of envelope: [UInt8], seq: UInt64) async throws -> AckFrame.Item {
    try await link.send(.deliver, deliver([envelope], seq: seq))
    while let payload = await link.next(.ack) {
      let items = try AckFrame(parsing: payload[...]).items
      if let item = items.first(where: { $0.seq == seq }) { return item }
    }
    throw Unexpected("the link ended: \(String(describing: await link.goodbye()))")
  }
}
