import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import TestSupport
import Testing

@Suite("bad input at the API", .serialized, .timeLimit(.minutes(5)))
struct BadRequestScenarios {
  @Test("an envelope that is spoiled in any way is refused by its code, and nothing of it is stored")
  func spoiledEnvelopes() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let planner = try await acme.member("planner")
    let before = try await bystanders.stored()
    for tampering in Tampering.ofBytes {
      let sealed = try planner.seal("spoiled", to: [bystanders.recipient])
      let outcome = try await planner.send(try tampering.apply(sealed.bytes, planner.device))
      #expect(outcome.outcome == .refused, "\(tampering)")
      #expect(tampering.codes.contains(outcome.code), "\(tampering): \(outcome.code)")
    }
    #expect(try await bystanders.stored() == before)
    try await bystanders.expectUnharmed(after: "spoiled envelopes")
    // The control: the same steps without a spoil are accepted.
    let sealed = try planner.seal("not spoiled", to: [bystanders.recipient])
    let honest = try resigned(sealed.bytes, by: planner.device) { _ in }
    #expect(try await planner.send(honest).outcome == .accepted)
  }

  @Test("an envelope whose addresses are wrong is refused by its code")
  func wrongAddresses() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let planner = try await acme.member("planner")
    let nobody = try TestDevice("nobody@acme.example", nowMs: nowMs())
    let elsewhere = try TestDevice("analyst@unknown.example", nowMs: nowMs())
    let before = try await bystanders.stored()

    let unknown = try await planner.send(try planner.seal("x", for: [nobody]).bytes)
    #expect(unknown.outcome == .refused && unknown.code == .unknownRecipient)
    let noRoute = try await planner.send(try planner.seal("x", for: [elsewhere]).bytes)
    #expect(noRoute.outcome == .refused && noRoute.code == .noRoute)
    let refusal = try verifiedReceipt(noRoute.receipt, by: acme.nodeID.key)
    #expect(refusal.state == .failed && refusal.code == .noRoute)
    let borrowed = try await planner.send(
      try bystanders.sender.seal("x", to: [bystanders.recipient]).bytes)
    #expect(borrowed.outcome == .refused && borrowed.code == .wrongHome)
    #expect(try await bystanders.stored() == before)
  }

  @Test("a message sent twice is stored once, and its id cannot be used for other bytes")
  func duplicates() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let planner = try await acme.member("planner")
    let sealed = try planner.seal("once", to: [bystanders.recipient])
    #expect(try await planner.send([sealed.bytes, sealed.bytes]).map(\.outcome) == [.accepted, .duplicate])
    let again = try await planner.send(sealed.bytes)
    #expect(again.outcome == .duplicate)
    #expect(try verifiedReceipt(again.receipt, by: acme.nodeID.key).envelope == sealed.id)
    let other = try await planner.send(
      try resigned(sealed.bytes, by: planner.device) { $0.priority = .critical })
    #expect(other.outcome == .refused && other.code == .messageIDReused)
    let received = try await bystanders.recipient.drain { !$0.ids.isEmpty }
    #expect(received.ids == [sealed.id])
    try await bystanders.expectUnharmed(after: "duplicates")
  }

  @Test("a body that is not a batch of envelopes is refused as a whole")
  func wrongBodies() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let planner = try await acme.member("planner")
    let before = try await bystanders.stored()
    let text = Array("{\"text\": \"hello\"}".utf8)
    for type in ["application/json", "text/plain", "application/octet-stream"] {
      let answer = try await planner.post(text, type: type)
      #expect(answer.status == 415 && answer.code == ErrorCode.unsupportedMedia.rawValue, "\(type)")
    }
    let unsealed = try await planner.send(text)
    #expect(unsealed.outcome == .refused && unsealed.code.fault == .sender)
    let empty = try await planner.post([])
    #expect(empty.status == 400 && empty.code == ErrorCode.malformed.rawValue)
    let cut = try await planner.post([0, 0, 0, 9, 1])
    #expect(cut.status == 400 && cut.code == ErrorCode.malformed.rawValue)
    let many = try await planner.post([UInt8](repeating: 0, count: 4 * 1_001))
    #expect(many.status == 413 && many.code == ErrorCode.tooLarge.rawValue)
    #expect(try await bystanders.stored() == before)
    try await bystanders.expectUnharmed(after: "wrong bodies")
  }

  @Test("what is too large is refused before it is held in memory")
  func oversized() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let planner = try await acme.member("planner")
    func batch(_ count: Int) -> [UInt8] {
      fields(capacity: count + 4) { $0.field([UInt8](repeating: 1, count: count)) }
    }
    // The control: what is just as large as allowed is read, and refused for what it holds.
    let largest = try await planner.send([UInt8](repeating: 1, count: Limits.envelopeBytesMax))
    #expect(largest.outcome == .refused)
    let envelope = try await planner.post(batch(Limits.envelopeBytesMax + 1))
    #expect(envelope.status == 413 && envelope.code == ErrorCode.tooLarge.rawValue, "\(envelope.summary)")
    let body = try await planner.post([UInt8](repeating: 1, count: 25 << 20))
    #expect(body.status == 413 && body.code == ErrorCode.tooLarge.rawValue, "\(body.summary)")
    try await bystanders.expectUnharmed(after: "oversized bodies")
  }

  @Test("without a valid session of one's own nothing is answered")
  func sessions() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let planner = try await acme.member("planner")

    let guessed = try await planner.call(
      "GET", planner.path + "/messages", session: String(repeating: "0", count: 64))
    #expect(guessed.status == 401)
    let another = try await planner.call("GET", bystanders.sender.path + "/messages")
    #expect(another.status == 401 || another.status == 403 || another.status == 404, "\(another.summary)")
    let token = planner.device.token(node: acme.nodeID, nowMs: nowMs())
    #expect(try await planner.openSession(token).status == 201)
    let replayed = try await planner.openSession(token)
    #expect(replayed.status == 401 && replayed.code == ErrorCode.tokenReplayed.rawValue)
    let elsewhere = try TestNode("globex.example")
    let foreign = try await planner.openSession(planner.device.token(node: elsewhere.id, nowMs: nowMs()))
    #expect(foreign.status == 401 && foreign.code == ErrorCode.tokenInvalid.rawValue)
    let stranger = try TestDevice("stranger@acme.example", nowMs: nowMs())
    let unknown = try await planner.openSession(stranger.token(node: acme.nodeID, nowMs: nowMs()))
    #expect(unknown.status == 401 && unknown.code == ErrorCode.tokenInvalid.rawValue)
    try await bystanders.expectUnharmed(after: "guessed sessions")
  }

  @Test("an invite works once, for the name it was made for")
  func invites() async throws {
    let acme = try await Organisation.running("acme.example")
    struct Invite: Decodable { let token: String }
    let invite: Invite = try await acme.admin("--json", "client", "invite", "planner").json()
    let thief = try Member(TestDevice("thief@acme.example", nowMs: nowMs()), of: acme)
    await #expect(throws: Unexpected.self) { try await thief.register(invite: invite.token) }
    let planner = try Member(TestDevice("planner@acme.example", nowMs: nowMs()), of: acme)
    try await planner.register(invite: invite.token)
    let again = try Member(TestDevice("planner@acme.example", device: "second", nowMs: nowMs()), of: acme)
    await #expect(throws: Unexpected.self) { try await again.register(invite: invite.token) }
  }
}
