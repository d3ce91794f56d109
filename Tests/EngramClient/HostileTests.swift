import EngramClientStore
import EngramCore
import EngramCrypto
import EngramSealing
import Synchronization
import Testing

@testable import EngramClient

@Suite("What others may try")
struct HostileTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  /// Whoever registers under bob's address at a globex that forgot him.
  private func impostor() async throws -> EngramClient {
    world.globex.set { $0.members = [:] }
    return try await world.register("bob", at: world.globex, home: "impostor")
  }

  private func kinds(_ client: EngramClient) async throws -> [String] {
    try await client.alarms().map(\.kind)
  }

  @Test("a changed identity is refused until it is approved")
  func changedIdentity() async throws {
    #expect(try await alice.send(to: [bob.address], body: [1]).state == .accepted, "control: first use pins")
    let other = try await impostor()
    world.clock.advance(ms: 2 * 3_600_000)
    let error = await #expect(throws: EngramError.self) { try await alice.send(to: [bob.address], body: [2]) }
    #expect(error?.kind == .untrusted && error?.code == ErrorCode.identityChanged.rawValue)
    #expect(try await kinds(alice) == ["identity-changed"])
    let report = try await alice.trust(bob.address)
    #expect(report.state == .changed && report.identityKey == bob.whoami().identityKey)
    #expect(report.offeredIdentityKey == other.whoami().identityKey)

    let approved = try await alice.approve(bob.address, safetyNumber: report.offeredSafetyNumber)
    #expect(approved.state == .approved && approved.identityKey == other.whoami().identityKey)
    #expect(try await alice.send(to: [bob.address], body: [3]).state == .accepted)
    #expect(try await other.receive().map(\.body) == [[3]])
    #expect(try await alice.alarms().allSatisfy(\.isResolved))
  }

  @Test("approval is refused when another number was compared")
  func approvalOfAnotherNumber() async throws {
    _ = try await alice.trust(bob.address)
    await #expect(throws: EngramError.self) { try await alice.approve(bob.address, safetyNumber: "00000") }
    let report = try await alice.trust(bob.address)
    #expect(report.state == .firstUse)
    #expect(
      try await alice.approve(bob.address, safetyNumber: report.safetyNumber).state == .approved, "control")
  }

  @Test("both sides compute the same safety number")
  func safetyNumbers() async throws {
    #expect(try await alice.trust(bob.address).safetyNumber == bob.trust(alice.address).safetyNumber)
  }

  @Test("messages of a changed identity are held, not lost, and open after approval")
  func messagesOfChangedIdentity() async throws {
    _ = try await bob.send(to: [alice.address], body: [1])
    #expect(try await alice.receive().map(\.body) == [[1]], "control: first use pins")
    let other = try await impostor()
    _ = try await other.send(to: [alice.address], body: [2])
    #expect(try await alice.receive().isEmpty)
    #expect(try await kinds(alice).contains("identity-changed"))
    #expect(world.acme.waiting(for: alice.core.account.kid).count == 2)
    _ = try await alice.approve(bob.address)
    await alice.close()
    let again = try world.reopen("alice", at: world.acme)
    #expect(try await again.receive().map(\.body) == [[1], [2]], "what is here already comes first")
  }

  @Test("a directory answer signed by another node is refused, and the node id stays pinned")
  func changedNode() async throws {
    #expect(try await alice.send(to: [bob.address], body: [1]).state == .accepted, "control")
    let fake = try FakeNode("globex.example", clock: world.clock)
    let members = world.globex.state.withLock { $0.members }
    fake.set { $0.members = members }
    world.acme.set { $0.peers[fake.name] = fake }
    world.clock.advance(ms: 2 * 3_600_000)
    let error = await #expect(throws: EngramError.self) { try await alice.send(to: [bob.address], body: [2]) }
    #expect(error?.code == ErrorCode.wrongPeer.rawValue && error?.kind == .untrusted)
  }

  @Test(
    "an answer that contradicts itself or an older one is refused",
    arguments: [ErrorCode.wrongPeer, .staleDeviceList, .badSignature, .futureDated, .badCertificate])
  func twistedAnswer(_ expected: ErrorCode) async throws {
    #expect(try await alice.directory(bob.address).address == bob.address, "control")
    let other = try Address("mallory@globex.example")
    let (list, stranger) = (bob.core.account.deviceList, alice.core.account.certificate)
    let ahead = world.clock.nowMs + Limits.clockSkewMs + 1
    world.globex.set { state in
      state.twist = { body in
        switch expected {
        case .wrongPeer: body.address = other
        case .staleDeviceList:
          body.bundles.append(PrekeyBundle(deviceList: [1], certificate: [], signedPrekey: []))
        case .badSignature:
          var changed = list
          changed[changed.count - 1] ^= 1
          body.bundles[0].deviceList = changed
        case .futureDated: body.issuedMs = ahead
        default: body.bundles[0].certificate = stranger
        }
      }
    }
    let error = await #expect(throws: EngramError.self) { try await alice.directory(bob.address) }
    #expect(error?.code == expected.rawValue && error?.kind == .untrusted)
  }

  @Test("an outcome without the node's own receipt is no acknowledgement")
  func forgedAcceptance() async throws {
    world.acme.set { $0.receiptSigner = SigningKey() }
    let sent = try await alice.send(to: [bob.address], body: [1])
    guard case .waiting(let error) = sent.state else {
      Issue.record("a stranger's signature was taken for the node's: \(sent.state)")
      return
    }
    #expect(error.kind == .untrusted)
    #expect(try await kinds(alice) == ["receipt-refused"])
    let key = world.acme.key
    world.acme.set { $0.receiptSigner = key }
    #expect(try await alice.resendOutbox() == 1, "control")
  }

  private enum Forgery: CaseIterable {
    case none, anotherDevice, anotherEnvelope, anotherRecipient, nodeForDevice, wrongNode
  }

  @Test(
    "a receipt counts only when it is signed by whom it names, about a message of ours",
    arguments: [0, 1, 2, 3, 4, 5])
  private func forgedReceipts(_ index: Int) async throws {
    let forgery = Forgery.allCases[index]
    let sent = try await alice.send(to: [bob.address], body: [1])
    let (sender, recipient) = (alice.core.account, bob.core.account)
    let id = try #require(sent.envelopeID.flatMap { bytes(hex: $0) }.flatMap { EnvelopeID($0) })
    let message = try #require(bytes(hex: sent.messageID).flatMap { MessageID($0) })
    var body = ReceiptBody(
      role: .device, issuerName: recipient.address.text, issuerKey: bob.core.device.publicKey, envelope: id,
      sender: sender.address, senderKid: sender.kid, messageID: message, recipient: recipient.address,
      recipientKid: recipient.kid, state: .processed, atMs: world.clock.nowMs)
    var signer = bob.core.device
    switch forgery {
    case .none: break
    case .anotherDevice:
      signer = SigningKey()
      body.issuerKey = signer.publicKey
    case .anotherEnvelope: body.messageID = try #require(MessageID(randomBytes(16)))
    case .anotherRecipient: body.recipientKid = Kid(randomBytes(16))
    case .nodeForDevice:
      signer = world.globex.key
      body.issuerKey = signer.publicKey
    case .wrongNode:
      signer = world.acme.key
      (body.role, body.state, body.issuerName) = (.recipientNode, .delivered, world.globex.name.text)
      body.issuerKey = signer.publicKey
    }
    world.acme.deposit(.receipt, receiptRow([signReceipts([body], with: signer)[0]]), nil, for: sender.kid)
    _ = try await alice.receive()
    let states = try await alice.receipts(of: sent.messageID).map(\.state)
    if forgery == .none {
      #expect(states == ["accepted", "processed"], "control")
    } else {
      #expect(states == ["accepted"])
      #expect(try await kinds(alice) == ["receipt-refused"])
    }
    #expect(world.acme.waiting(for: sender.kid).isEmpty)
  }

  @Test("the recipient's node may say delivered, under its pinned id")
  func deliveredByNode() async throws {
    let sent = try await alice.send(to: [bob.address], body: [1])
    let (sender, recipient) = (alice.core.account, bob.core.account)
    let body = ReceiptBody(
      role: .recipientNode, issuerName: world.globex.name.text, issuerKey: world.globex.key.publicKey,
      envelope: try #require(sent.envelopeID.flatMap { bytes(hex: $0) }.flatMap { EnvelopeID($0) }),
      sender: sender.address, senderKid: sender.kid,
      messageID: try #require(bytes(hex: sent.messageID).flatMap { MessageID($0) }),
      recipient: recipient.address,
      recipientKid: recipient.kid, state: .delivered, atMs: world.clock.nowMs)
    world.acme.deposit(
      .receipt, receiptRow([signReceipts([body], with: world.globex.key)[0]]), nil, for: sender.kid)
    _ = try await alice.receive()
    #expect(try await alice.receipts(of: sent.messageID).map(\.state) == ["accepted", "delivered"])
  }

  @Test("a node may end a message for all of its clients, and nobody else's node may")
  func endedByNode() async throws {
    let carol = try await world.register("carol", at: world.acme)
    let sent = try await alice.send(to: [bob.address, carol.address], body: [1])
    let sender = alice.core.account
    let id = try #require(sent.envelopeID.flatMap { bytes(hex: $0) }.flatMap { EnvelopeID($0) })
    let message = try #require(bytes(hex: sent.messageID).flatMap { MessageID($0) })
    func expired(by node: FakeNode, named name: NodeName) -> [UInt8] {
      let body = ReceiptBody(
        role: .recipientNode, issuerName: name.text, issuerKey: node.key.publicKey, envelope: id,
        sender: sender.address, senderKid: sender.kid, messageID: message, state: .expired, code: .expired,
        atMs: world.clock.nowMs)
      return receiptRow(signReceipts([body], with: node.key))
    }
    let stranger = try FakeNode("initech.example", clock: world.clock)
    for name in [stranger.name, world.globex.name] {
      world.acme.deposit(.receipt, expired(by: stranger, named: name), nil, for: sender.kid)
    }
    _ = try await alice.receive()
    #expect(try await alice.receipts(of: sent.messageID).map(\.state) == ["accepted"])
    #expect(try await alice.core.read { try $0.processed(sent.messageID) } == nil)
    let own = expired(by: world.globex, named: world.globex.name)
    world.acme.deposit(.receipt, own, nil, for: sender.kid)
    #expect(try await alice.waitUntilProcessed(sent.messageID, timeoutSeconds: 5) == false, "control")
    #expect(try await alice.receipts(of: sent.messageID).map(\.state) == ["accepted", "expired"], "control")
  }

  @Test("a dropped message shows as a gap, which closes when it arrives after all")
  func gap() async throws {
    for index in 0..<3 { _ = try await alice.send(to: [bob.address], body: [UInt8(index)]) }
    let kid = bob.core.account.kid
    let stolen = try #require(world.globex.waiting(for: kid).dropFirst().first)
    world.globex.set { $0.boxes[kid]?.removeAll { $0.seq == stolen.seq && $0.kind == .envelope } }
    let received = try await bob.receive()
    #expect(received.map(\.isAfterGap) == [false, true])
    let alarm = try #require(try await bob.alarms().first)
    #expect(alarm.kind == "gap" && alarm.missing == 2...2 && !alarm.isResolved)
    world.globex.deposit(.envelope, stolen.payload, nil, for: kid)
    #expect(try await bob.receive().map(\.body) == [[1]])
    #expect(try await bob.alarms().map(\.isResolved) == [true])
  }

  @Test("an envelope with a flipped bit is answered with a failed receipt and shown to nobody")
  func tamperedEnvelope() async throws {
    let sent = try await alice.send(to: [bob.address], body: [1])
    let kid = bob.core.account.kid
    let item = try #require(world.globex.waiting(for: kid).first)
    var changed = item.payload
    changed[changed.count - 100] ^= 1
    world.globex.deposit(.envelope, changed, nil, for: kid)
    let received = try await bob.receive()
    #expect(
      received.map(\.envelopeID) == [try #require(sent.envelopeID)], "control: the untouched copy opens")
    #expect(try await kinds(bob) == ["unopened"])
  }

  @Test("a message whose prekey is gone fails with that reason, which its sender sees")
  func prekeyGone() async throws {
    let sent = try await alice.send(to: [bob.address], body: [1])
    _ = try await bob.core.commit { try $0.erasePrekeys(nowMs: .max) }
    #expect(try await bob.receive().isEmpty)
    #expect(try await alice.waitUntilProcessed(sent.messageID, timeoutSeconds: 5) == false)
    let receipts = try await alice.receipts(of: sent.messageID)
    #expect(receipts.contains { $0.state == "failed" && $0.codeName == "prekey-gone" && $0.role == "device" })
  }

  @Test("a message without its sender's certificate is held until the certificate comes")
  func missingCertificate() async throws {
    world.globex.set { $0.isWithoutCertificates = true }
    _ = try await alice.send(to: [bob.address], body: [1])
    #expect(try await bob.receive().isEmpty)
    let account = alice.core.account
    let certificate = CertificateItem(certificate: account.certificate, deviceList: account.deviceList)
      .encoded()
    let kid = bob.core.account.kid
    world.globex.set {
      $0.boxes[kid]?.insert(MailboxItem(kind: .certificate, seq: 0, payload: certificate), at: 0)
    }
    await bob.close()
    let again = try world.reopen("bob", at: world.globex)
    #expect(try await again.receive().map(\.body) == [[1]])
  }

  @Test("an expired message is refused with that code; one in time is not")
  func expired() async throws {
    var options = SendOptions()
    options.ttlSeconds = 60
    for _ in 0..<2 { _ = try await alice.send(to: [bob.address], body: [1], options: options) }
    let kid = bob.core.account.kid
    let late = world.globex.waiting(for: kid)[1]
    world.globex.set { $0.boxes[kid]?.removeAll { $0.seq == late.seq && $0.kind == .envelope } }
    #expect(try await bob.receive().count == 1, "control")
    world.clock.advance(ms: 61_000)
    world.globex.deposit(.envelope, late.payload, nil, for: kid)
    #expect(try await bob.receive().isEmpty)
  }
}
