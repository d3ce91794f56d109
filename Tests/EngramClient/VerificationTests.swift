import EngramClientStore
import EngramCore
import EngramCrypto
import Testing

@testable import EngramClient

@Suite("Offline verification of receipts")
struct VerificationTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient
  private let sent: SentMessage

  init() async throws {
    (world, alice, bob) = try await correspondents()
    sent = try await alice.send(to: [bob.address], body: [1])
  }

  private func body(
    _ state: ReceiptState, _ role: ReceiptRole, by key: SigningKey, name: String, at ms: UInt64? = nil
  ) throws -> ReceiptBody {
    let account = bob.core.account
    return ReceiptBody(
      role: role, issuerName: name, issuerKey: key.publicKey,
      envelope: try #require(sent.envelopeID.flatMap { bytes(hex: $0) }.flatMap { EnvelopeID($0) }),
      sender: alice.core.account.address, senderKid: alice.core.account.kid,
      messageID: try #require(bytes(hex: sent.messageID).flatMap { MessageID($0) }),
      recipient: account.address, recipientKid: account.kid, state: state, atMs: ms ?? world.clock.nowMs)
  }

  private func deposit(_ receipts: [[UInt8]]) async throws {
    world.acme.deposit(.receipt, receiptRow(receipts), nil, for: alice.core.account.kid)
    _ = try await alice.receive()
  }

  /// accepted by acme, admitted by globex in a batch of seven, processed by bob's device.
  private func wholeChain() async throws {
    let key = world.globex.key
    let admitted = try body(.admitted, .recipientNode, by: key, name: world.globex.name.text)
    var batch = Array(repeating: admitted, count: 7)
    for index in batch.indices where index != 3 { batch[index].attempt = 90 + UInt32(index) }
    try await deposit([signReceipts(batch, with: key)[3]])
    try await bob.acknowledge(try await bob.receive().map(\.envelopeID))
    _ = try await alice.receive()
  }

  @Test("a whole chain proves who took, admitted and processed, and by which pinned keys")
  func whole() async throws {
    try await wholeChain()
    world.acme.set { $0.isReachable = false }
    let verification = try await alice.verify(sent.messageID)
    #expect(verification.holds && verification.isOurEnvelope && verification.findings.isEmpty)
    let words = verification.statements.map { "\($0.state ?? "") \($0.role ?? "") \($0.pin?.rawValue ?? "")" }
    #expect(
      words.sorted() == [
        "accepted home-node own-node", "admitted recipient-node first-use", "processed device first-use",
      ])
    let admitted = try #require(verification.statements.first { $0.state == "admitted" })
    #expect(admitted.index == 3 && admitted.count == 7)
    #expect(admitted.key == hex(world.globex.key.publicKey.bytes))
    let processed = try #require(verification.statements.first { $0.state == "processed" })
    #expect(processed.key == hex(bob.core.device.publicKey.bytes))
    #expect(processed.recipientDevice == bob.whoami().device)

    _ = try await alice.approve(bob.address)
    let approved = try await alice.verify(sent.messageID)
    #expect(approved.statements.first { $0.state == "processed" }?.pin == .approved)
  }

  @Test("what is not signed is said to be open, and holds")
  func unproven() async throws {
    #expect(
      try await alice.verify(sent.messageID).findings.isEmpty, "control: accepted needs nothing before it")
    try await bob.acknowledge(try await bob.receive().map(\.envelopeID))
    _ = try await alice.receive()
    let verification = try await alice.verify(sent.messageID)
    #expect(verification.holds)
    #expect(
      verification.findings.map(\.kind) == [.unproven] && verification.findings[0].states == ["admitted"])
  }

  @Test("a proof with any flipped bit in a receipt is refused")
  func flippedReceipts() async throws {
    try await wholeChain()
    let row = try await alice.core.read { [sent] in try $0.sent(sent.messageID) }
    let receipts = try await alice.core.read { try $0.receiptBytes(of: row.envelopeID) }
    let envelope = try UnverifiedEnvelope(parsing: row.envelope)
    let account = alice.core.account
    func holds(_ receipts: [[UInt8]]) async throws -> Bool {
      try await alice.core.read { rows in
        try verifyProof(
          ProofSubject(envelope: envelope, id: row.envelopeID, receipts: receipts), account: account,
          credentials: CredentialCache(), in: rows
        ).holds
      }
    }
    #expect(try await holds(receipts), "control")
    #expect(receipts.count == 3)
    for (index, receipt) in receipts.enumerated() {
      for bit in 0..<(receipt.count * 8) where bit % 8 == (bit / 8) % 8 {
        var changed = receipts
        changed[index][bit / 8] ^= 1 << UInt8(bit % 8)
        #expect(try await !holds(changed), "receipt \(index), bit \(bit)")
      }
      for cut in [0, 1, receipt.count / 2, receipt.count - 1] {
        var changed = receipts
        changed[index] = Array(receipt.prefix(cut))
        #expect(try await !holds(changed))
      }
    }
  }

  @Test("an exported proof verifies, and one with any flipped byte does not")
  func proofFile() async throws {
    try await wholeChain()
    let proof = try await alice.exportProof(of: sent.messageID)
    #expect(try await alice.verify(proof: proof).holds, "control")
    for offset in proof.indices {
      var changed = proof
      changed[offset] ^= 0x10
      do {
        #expect(try await !alice.verify(proof: changed).holds, "offset \(offset)")
      } catch let error as EngramError { #expect(error.name == "not-a-proof") }
    }
  }

  @Test("a proof about somebody else's message, or under keys that are not pinned here, does not hold")
  func foreignProof() async throws {
    try await wholeChain()
    let proof = try await alice.exportProof(of: sent.messageID)
    let elsewhere = try await bob.verify(proof: proof)
    #expect(!elsewhere.isOurEnvelope && !elsewhere.holds)
    // Another node of the same name, known to alice from before: its receipts prove nothing for this home.
    let stranger = SigningKey()
    let forged = signReceipts(
      [try body(.admitted, .recipientNode, by: stranger, name: world.globex.name.text)], with: stranger)
    let row = try await alice.core.read { [sent] in try $0.sent(sent.messageID) }
    let file = ProofFile.encode(stub: row.envelope, receipts: forged)
    let verification = try await alice.verify(proof: file)
    #expect(verification.isOurEnvelope && verification.statements.map(\.isProven) == [false])
  }

  @Test("ends that exclude each other, and times that run backwards, are named")
  func findings() throws {
    let (device, node) = (bob.core.device, world.globex.key)
    let (address, kid) = (bob.core.account.address, bob.core.account.kid)
    let now = world.clock.nowMs
    let admitted = try body(.admitted, .recipientNode, by: node, name: "globex.example")
    let processed = try body(.processed, .device, by: device, name: bob.address, at: now + 10)
    var accepted = admitted
    (accepted.role, accepted.state, accepted.issuerName) = (.homeNode, .accepted, "acme.example")
    func kinds(_ bodies: [ReceiptBody]) -> [Verification.Finding.Kind] {
      custodyFindings(bodies, for: address, kid).map(\.kind)
    }
    #expect(kinds([accepted, admitted, processed]).isEmpty, "control")
    var late = accepted
    late.atMs = now + Limits.clockSkewMs
    #expect(kinds([late, admitted, processed]).isEmpty, "clocks may differ by that much")
    late.atMs += 1
    #expect(kinds([late, admitted, processed]) == [.reversed])
    let expired = try body(.expired, .recipientNode, by: node, name: "globex.example")
    #expect(kinds([accepted, admitted, processed, expired]) == [.contradiction])
    #expect(kinds([accepted, admitted, expired]).isEmpty)
    #expect(kinds([processed]) == [.unproven, .unproven])
    #expect(custodyFindings([processed], for: address, .zero).isEmpty, "about another device")
  }
}
