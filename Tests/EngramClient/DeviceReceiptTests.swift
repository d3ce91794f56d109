import EngramClientStore
import EngramCore
import EngramCrypto
import Testing

@testable import EngramClient

@Suite("Receipts signed together, in the client", .timeLimit(.minutes(2)))
struct DeviceReceiptTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  private func places(_ sent: [SentMessage]) async throws -> [(index: UInt32?, count: UInt32?)] {
    _ = try await alice.receive()
    var places: [(index: UInt32?, count: UInt32?)] = []
    for message in sent {
      let verification = try await alice.verify(message.messageID)
      #expect(verification.isOurEnvelope && verification.statements.allSatisfy(\.isProven))
      let words = verification.statements.filter { $0.state == "processed" }
      #expect(words.count == 1)
      places += words.map { ($0.index, $0.count) }
    }
    return places
  }

  private func sendFive() async throws -> [SentMessage] {
    try await alice.sendBatch((0..<5).map { OutgoingMessage(to: [bob.address], body: [UInt8($0)]) })
  }

  @Test("messages that are acknowledged together share a signature, and each is proven offline")
  func acknowledged() async throws {
    let sent = try await sendFive()
    let ids = try await bob.receive().map(\.envelopeID)
    // One of them twice: it is one message.
    try await bob.acknowledge(ids + [ids[0]])
    let places = try await places(sent)
    #expect(places.map(\.index) == [0, 1, 2, 3, 4] && places.allSatisfy { $0.count == 5 })
    #expect(try await alice.alarms().isEmpty)
    world.acme.set { $0.isReachable = false }
    let proof = try await alice.exportProof(of: sent[3].messageID)
    #expect(try await alice.verify(proof: proof).statements.allSatisfy(\.isProven))
    var forged = proof
    forged[forged.count - 70] ^= 1
    let verification = try await alice.verify(proof: forged)
    #expect(!verification.holds, "control: a changed path")
  }

  @Test("senders have signatures of their own, and a message alone is signed alone")
  func senders() async throws {
    let carol = try await world.register("carol", at: world.acme)
    let first = try await alice.send(to: [bob.address], body: [1])
    _ = try await carol.send(to: [bob.address], body: [2])
    try await bob.acknowledge(try await bob.receive().map(\.envelopeID))
    let places = try await places([first])
    #expect(places.map(\.count) == [1], "nothing tells alice that carol wrote too")
  }

  @Test("leased messages that are done at the same time share signatures, and each is proven")
  func leased() async throws {
    let sent = try await sendFive()
    let work = try await bob.lease(max: 5)
    try #require(work.count == 5)
    #expect(await bob.acknowledge(work).isEmpty)
    let places = try await places(sent)
    #expect(places.count == 5)
    #expect(try await alice.alarms().isEmpty)
  }

  @Test("words of one transaction: signed together, each as if it had been alone")
  func words() async throws {
    _ = try await sendFive()
    let ids = try await bob.receive().compactMap { bytes(hex: $0.envelopeID).flatMap { EnvelopeID($0) } }
    let core = bob.core
    let steps = ids.map { WordStep.sign($0, .processed, .none) }
    let words = try await core.write(steps + [steps[0], .sign(.zero, .processed, .none)])
    let receipts = try words.compactMap { $0 }.map { try UnverifiedReceipt(parsing: $0.receipt[...]) }
    #expect(receipts.prefix(5).map(\.count) == [5, 5, 5, 5, 5] && receipts.count == 6)
    #expect(words[5]?.receipt == words[0]?.receipt, "a word that is there already is not said again")
    #expect(words.map { $0?.isOurs } == [true, true, true, true, true, false, nil])
    let old = try #require(words[1]?.receipt)
    let again = try await core.write([
      .revoked(ids[1], receipt: old), .sign(ids[1], .failed, .tooLarge), .settled(ids[1], receipt: old),
    ])
    let word = try #require(again[1])
    #expect(word.isOurs && word.receipt != old)
    let kept = try await core.read { [id = ids[1]] in try $0.inboxState(id)?.receipt }
    #expect(kept == word.receipt, "what was signed stands before what is said about it next")
  }
}
