import EngramCore
import EngramCrypto
import EngramSealing
import Foundation
import TestSupport
import Testing

@Suite("two organisations exchange sealed messages", .serialized, .timeLimit(.minutes(5)))
struct FederationScenarios {
  @Test("a message arrives, is opened and verified, and its sender ends with every signed receipt")
  func bothWays() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let analyst = try await globex.member("analyst")
    try await exchange(from: planner, to: analyst)
    try await exchange(from: analyst, to: planner)
    #expect(try await acme.status().openDeliveries == 0)
    #expect(try await globex.status().openDeliveries == 0)
  }

  /// One message, and everything that both sides may demand to see about it.
  private func exchange(from sender: Member, to recipient: Member) async throws {
    let (home, away) = (sender.organisation, recipient.organisation)
    let entry = try await sender.lookup(recipient.address, signedBy: away.nodeID)
    #expect(entry.bundles.map(\.signedPrekey) == [recipient.device.prekey.bytes])

    let text = "the report of \(sender.address) is due on Friday"
    let sealed = try sender.seal(text, to: [recipient])
    let outcome = try await sender.send(sealed.bytes)
    #expect(outcome.outcome == .accepted)
    let accepted = try verifiedReceipt(outcome.receipt, by: home.nodeID.key)
    #expect(accepted.state == .accepted && accepted.envelope == sealed.id && accepted.role == .homeNode)

    let received = try await recipient.drain { !$0.envelopes.isEmpty }
    let envelope = try #require(received.envelopes.first)
    #expect(received.certificates.contains(sender.device.certificateItem))
    let opened = try recipient.device.open(envelope, from: sender.device)
    #expect(opened.body == Array(text.utf8) && opened.id == sealed.id)

    let told = try await sender.drain { $0.receipts.count >= 2 }
    let admitted = try #require(told.receipts(by: away.nodeID.key).first)
    #expect(admitted.state == .admitted && admitted.envelope == sealed.id)
    let processed = try #require(told.receipts(by: recipient.device.key.publicKey).first)
    #expect(processed.state == .processed && processed.recipient == recipient.address)
    // The control: a key that signed nothing verifies nothing.
    #expect(told.receipts(by: signingKey(named: "somebody else").publicKey).isEmpty)
  }

  @Test("one message reaches recipients on both nodes, and each node gets its own wraps only")
  func oneToMany() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let near = try await acme.member("near")
    let far = [try await globex.member("far-1"), try await globex.member("far-2")]
    let sealed = try planner.seal("to all of you", to: [near] + far)
    #expect(try await planner.send(sealed.bytes).outcome == .accepted)

    for member in [near] + far {
      let received = try await member.drain { !$0.envelopes.isEmpty }
      let bytes = try #require(received.envelopes.first)
      let opened = try member.device.open(bytes, from: planner.device)
      #expect(opened.body == Array("to all of you".utf8) && opened.id == sealed.id)
      if member.organisation === globex {
        let envelope = try UnverifiedEnvelope(parsing: bytes)
        #expect(envelope.hasPattern { $0.address.node == globex.name }, "a wrap of acme reached globex")
      }
    }
    let told = try await planner.drain { $0.receipts.count >= 4 }
    let processed = told.receipts.compactMap { try? UnverifiedReceipt(parsing: $0[...]).body }
      .filter { $0.state == .processed }.compactMap(\.recipient)
    #expect(Set(processed) == Set(([near] + far).map(\.address)))
  }

  @Test("an envelope of 5 MiB crosses in parts and does not hold up a small one")
  func largeBody() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let analyst = try await globex.member("analyst")
    var generator = SeededGenerator(seed: 5)
    let text = String(decoding: generator.bytes(5 << 20).map { 97 + $0 % 26 }, as: UTF8.self)
    let large = try planner.seal(text, to: [analyst])
    let small = try planner.seal("small", to: [analyst])
    #expect(try await planner.send([large.bytes, small.bytes]).map(\.outcome) == [.accepted, .accepted])
    let received = try await analyst.drain { $0.envelopes.count >= 2 }
    #expect(Set(received.ids) == [large.id, small.id] && received.ids.count == 2)
    let index = try #require(received.ids.firstIndex(of: large.id))
    #expect(try analyst.device.open(received.envelopes[index], from: planner.device).body == Array(text.utf8))
  }

  @Test("what is sent while the other organisation is down waits, and arrives once it is back")
  func offline() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let analyst = try await globex.member("analyst")
    #expect(try await globex.stop() == .code(0))
    let sealed = try (0..<20).map { try planner.seal("note \($0)", to: [analyst]) }
    #expect(try await planner.send(sealed.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    #expect(try await acme.peer(globex).queued == 20)
    try await globex.start()
    try await analyst.login()
    let received = try await analyst.drain { $0.envelopes.count >= 20 }
    #expect(received.ids == sealed.map(\.id), "in the order of sending")
  }
}
