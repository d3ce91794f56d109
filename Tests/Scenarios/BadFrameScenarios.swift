import EngramCore
import EngramCrypto
import EngramSealing
import Foundation
import TestSupport
import Testing

/// Something that a peer says on an established link, and the code with which the link ends.
private struct FrameAttack: Sendable {
  let name: String
  let code: ErrorCode
  let perform: @Sendable (RogueLink, Bystanders) async throws -> Void

  init(
    _ name: String, _ code: ErrorCode,
    perform: @escaping @Sendable (RogueLink, Bystanders) async throws -> Void
  ) {
    (self.name, self.code, self.perform) = (name, code, perform)
  }

  static let ofFrames: [FrameAttack] = [
    FrameAttack("a frame larger than 1 MiB", .tooLarge) { link, _ in
      await link.link.send(raw: [0x00, 0x10, 0x00, 0x01, 2])
    },
    FrameAttack("a frame of 4 GiB", .tooLarge) { link, _ in
      await link.link.send(raw: [0xff, 0xff, 0xff, 0xff, 2])
    },
    FrameAttack("a frame without a type", .malformed) { link, _ in await link.link.send(raw: [0, 0, 0, 0]) },
    FrameAttack("an unknown frame type", .unknownFrame) { link, _ in try await link.link.send(200, []) },
    FrameAttack("a second hello", .unexpectedFrame) { link, _ in
      try await link.link.send(.hello, try link.rogue.hello(on: link.link, epoch: link.epoch))
    },
    FrameAttack("a ping with bytes after it", .trailingBytes) { link, _ in
      try await link.link.send(.ping, [0])
    },
    FrameAttack("an empty delivery", .malformed) { link, _ in try await link.link.send(.deliver) },
    FrameAttack("a goodbye that is cut", .malformed) { link, _ in
      try await link.link.send(.goodbye, fields { w in w.field(ErrorCode.shuttingDown.rawValue) })
    },
    FrameAttack("an answer to a question that nobody asked", .unexpectedFrame) { link, _ in
      let answer = DirectoryAnswerFrame(request: 77, code: .none, answer: [])
      try await link.link.send(.directoryAnswer, answer.encoded())
    },
    FrameAttack("an acknowledgement of what was never sent", .nonCanonical) { link, _ in
      let ack = AckFrame(
        origin: link.rogue.victim.nodeID, destination: link.rogue.own.nodeID, epoch: link.victimEpoch,
        through: 9,
        items: [AckFrame.Item(seq: 9, outcome: .accepted)])
      try await link.link.send(.ack, ack.encoded())
    },
  ]

  /// Each of these hides a good envelope in a bad frame.
  static let ofDeliveries: [FrameAttack] = [
    FrameAttack("a delivery cut short", .malformed) { link, bystanders in
      try await link.link.send(.deliver, link.deliver([try link.note(to: bystanders)], seq: 1).dropLast(7))
    },
    FrameAttack("a delivery with a byte too many", .trailingBytes) { link, bystanders in
      try await link.link.send(.deliver, link.deliver([try link.note(to: bystanders)], seq: 1) + [0])
    },
    FrameAttack("a delivery in the name of another origin", .wrongPeer) { link, bystanders in
      let elsewhere = try TestNode("globex.example").id
      try await link.link.send(
        .deliver, link.deliver([try link.note(to: bystanders)], seq: 1) { $0.origin = elsewhere })
    },
    FrameAttack("a delivery meant for another node", .wrongPeer) { link, bystanders in
      let elsewhere = try TestNode("globex.example").id
      try await link.link.send(
        .deliver, link.deliver([try link.note(to: bystanders)], seq: 1) { $0.destination = elsewhere })
    },
    FrameAttack("a delivery of another epoch", .nonCanonical) { link, bystanders in
      try await link.link.send(
        .deliver, link.deliver([try link.note(to: bystanders)], seq: 1) { $0.epoch += 1 })
    },
    FrameAttack("a delivery numbered 0", .nonCanonical) { link, bystanders in
      try await link.link.send(.deliver, link.deliver([try link.note(to: bystanders)], seq: 0))
    },
    FrameAttack("a part with a hole before it", .nonCanonical) { link, _ in
      for offset in [0, 200_000] as [UInt32] {
        let part = PartFrame(
          stream: 1, firstSeq: 1, total: 400_000, offset: offset,
          bytes: [UInt8](repeating: 0, count: 100_000)[...])
        try await link.link.send(.part, part.encoded())
      }
    },
    FrameAttack("more half-sent envelopes than may be open", .windowExceeded) { link, _ in
      for stream in 1...8 as ClosedRange<UInt32> {
        let part = PartFrame(
          stream: stream, firstSeq: UInt64(stream), total: 400_000, offset: 0, bytes: [1, 2, 3])
        try await link.link.send(.part, part.encoded())
      }
    },
    FrameAttack("parts that add up to something else than a delivery", .malformed) { link, _ in
      let part = PartFrame(stream: 1, firstSeq: 1, total: 3, offset: 0, bytes: [1, 2, 3])
      try await link.link.send(.part, part.encoded())
    },
  ]
}

@Suite("bad frames on a federation link", .serialized, .timeLimit(.minutes(5)))
struct BadFrameScenarios {
  @Test("a frame that breaks the protocol ends its link with a code, and nothing of it is stored")
  func badFrames() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    let before = try await bystanders.stored()
    for attack in FrameAttack.ofFrames + FrameAttack.ofDeliveries {
      let link = try await rogue.established()
      try await attack.perform(link, bystanders)
      let code = await link.link.goodbye()
      #expect(code == attack.code, "\(attack.name): \(String(describing: code))")
    }
    #expect(try await bystanders.stored() == before)
    try await bystanders.expectUnharmed(after: "bad frames")
    // The control: the same envelope in a good frame is taken.
    let link = try await rogue.established()
    try await link.introduce(rogue.mole)
    let outcome = try await link.outcome(of: try link.note(to: bystanders), seq: 1)
    #expect(outcome.outcome == .accepted, "\(outcome.code)")
  }

  @Test("a frame that the end of the connection cuts is no frame")
  func truncatedByTheEnd() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    let before = try await bystanders.stored()
    let link = try await rogue.established()
    try await link.introduce(rogue.mole)
    let payload = link.deliver([try link.note(to: bystanders)], seq: 1)
    let whole = fields { w in
      w.raw(UInt32(payload.count + 1))
      w.raw(FrameType.deliver.rawValue)
      w.raw(payload)
    }
    await link.link.send(raw: whole.dropLast(1))
    await link.link.close()
    try await bystanders.expectUnharmed(after: "a truncated frame")
    #expect(try await bystanders.stored() == before + 1)
  }

  @Test("what is delivered again is stored once, in whatever order its numbers come")
  func repeated() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    let first = try await rogue.established()
    try await first.introduce(rogue.mole)
    let envelope = try first.note(to: bystanders)
    let admitted = try await first.outcome(of: envelope, seq: 5)
    #expect(admitted.outcome == .accepted)
    #expect(try verifiedReceipt(admitted.receipt, by: acme.nodeID.key).state == .admitted)
    // Once more under the next number: the same answer, no second copy.
    let again = try await first.outcome(of: envelope, seq: 6)
    #expect(again.outcome == .duplicate)
    #expect(
      try verifiedReceipt(again.receipt, by: acme.nodeID.key).envelope
        == EnvelopeDigests(of: UnverifiedEnvelope(parsing: envelope)).id)
    // A lower number is as good as a higher one, since an outbox goes by priority; and it may come again.
    let lower = try first.note(to: bystanders)
    #expect(try await first.outcome(of: lower, seq: 3).outcome == .accepted)
    #expect(try await first.outcome(of: lower, seq: 3).outcome == .duplicate)
    await first.link.close()
    // On a new link, where honest peers repeat what was not acknowledged.
    let second = try await rogue.established()
    #expect(try await second.outcome(of: envelope, seq: 1).outcome == .duplicate)
    let received = try await bystanders.recipient.drain { $0.ids.count >= 2 }
    #expect(received.ids.count == 2 && Set(received.ids).count == 2)
    try await bystanders.expectUnharmed(after: "repeated deliveries")
  }

  @Test("a peer's spoiled envelope is refused by its code while the link goes on")
  func spoiledEnvelopes() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    let before = try await bystanders.stored()
    let link = try await rogue.established()
    try await link.introduce(rogue.mole)
    for (index, tampering) in Tampering.ofBytes.enumerated() {
      let spoiled = try tampering.apply(try link.note(to: bystanders), rogue.mole)
      let item = try await link.outcome(of: spoiled, seq: UInt64(index + 1))
      #expect(item.outcome == .refused, "\(tampering)")
      #expect(tampering.codes.contains(item.code), "\(tampering): \(item.code)")
    }
    #expect(try await bystanders.stored() == before)
    try await bystanders.expectUnharmed(after: "a peer's spoiled envelopes")
  }

  @Test("a peer delivers for its own clients only, to ours only, and vouches for its own only")
  func foreignClients() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let rogue = try await RoguePeer(against: acme)
    let before = try await bystanders.stored()
    let link = try await rogue.established()
    try await link.introduce(rogue.mole)

    // Somebody else's client, with a certificate that is genuine in itself.
    let analyst = try TestDevice("analyst@globex.example", nowMs: nowMs())
    try await link.introduce(analyst)
    let forged = try sealText("hi", from: analyst, to: [bystanders.recipient.device], nowMs: nowMs())
    #expect(try await link.outcome(of: forged.bytes, seq: 1).code == .wrongHome)
    // Our own client, as if the message had been outside.
    let own = try bystanders.sender.seal("hi", to: [bystanders.recipient])
    #expect(try await link.outcome(of: own.bytes, seq: 2).code == .wrongHome)
    // A device that nobody has introduced: the peer may do so and try again.
    let unknown = try TestDevice("ghost@rogue.example", nowMs: nowMs())
    let early = try sealText("hi", from: unknown, to: [bystanders.recipient.device], nowMs: nowMs())
    let item = try await link.outcome(of: early.bytes, seq: 3)
    #expect(item.outcome == .later && item.code == .unknownDevice)
    // For a client of a third organisation: this node relays for nobody.
    let relayed = try sealText("hi", from: rogue.mole, to: [analyst], nowMs: nowMs())
    let pruned = pruneEnvelope(try UnverifiedEnvelope(parsing: relayed.bytes)) { _ in false }
    #expect(try await link.outcome(of: pruned, seq: 4).code == .unknownRecipient)
    let nobody = try TestDevice("nobody@acme.example", nowMs: nowMs())
    let lost = try sealText("hi", from: rogue.mole, to: [nobody], nowMs: nowMs())
    #expect(try await link.outcome(of: lost.bytes, seq: 5).code == .unknownRecipient)
    // Wraps of a third organisation's clients were none of our business, so they must not come.
    let shared = try sealText(
      "hi", from: rogue.mole, to: [bystanders.recipient.device, analyst], nowMs: nowMs())
    #expect(try await link.outcome(of: shared.bytes, seq: 6).code == .slotPattern)

    #expect(try await bystanders.stored() == before)
    try await bystanders.expectUnharmed(after: "deliveries for others")
    // The control: pruned as it must be, the last one is taken.
    let right = pruneEnvelope(try UnverifiedEnvelope(parsing: shared.bytes)) { $0.address.node == acme.name }
    #expect(try await link.outcome(of: right, seq: 7).outcome == .accepted)
  }
}

extension RogueLink {
  /// A good message of the rogue's client to a bystander.
  fileprivate func note(to bystanders: Bystanders) throws -> [UInt8] {
    try sealText("hello", from: rogue.mole, to: [bystanders.recipient.device], nowMs: nowMs()).bytes
  }
}
