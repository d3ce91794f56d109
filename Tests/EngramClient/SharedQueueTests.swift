import EngramClientStore
import EngramCore
import EngramCrypto
import Testing

@testable import EngramClient

@Suite("Missing messages of devices that share a queue")
struct SharedQueueTests {
  private let world: TestWorld
  private let bob: EngramClient
  private let alice: EngramClient

  init() async throws {
    world = try TestWorld()
    alice = try await world.register("alice", at: world.acme)
    bob = try await world.register("bob", at: world.globex)
  }

  /// What the other device takes never comes to bob, as in a shared queue.
  private func takeFromBob(_ message: SentMessage) {
    let kid = bob.core.account.kid
    world.globex.set { state in
      state.boxes[kid]?.removeAll { item in
        let header = try? UnverifiedEnvelope(parsing: item.payload).header
        return item.kind == .envelope && header?.messageID.description == message.messageID
      }
    }
  }

  @Test("a message that another device took from a shared queue is no loss, and its signed word proves it")
  func sharedQueue() async throws {
    let phone = try await world.enrolDevice("phone", of: bob, at: world.globex)
    _ = try await alice.send(to: [bob.address], body: [1])
    let taken = try await alice.send(to: [bob.address], body: [2])
    _ = try await alice.send(to: [bob.address], body: [3])
    takeFromBob(taken)
    world.globex.set { $0.work.mode = .one }
    let received = try await bob.receive()
    #expect(received.map(\.body) == [[1], [3]] && received.allSatisfy { !$0.isAfterGap })
    #expect(try await bob.gaps().map(\.state) == [.shared])
    #expect(try await bob.alarms().map(\.codeName) == ["shared-queue"], "said, with its name")

    // The sender has the other device's receipt, and hands it on with the stub.
    try await phone.acknowledge(phone.receive().map(\.envelopeID))
    #expect(try await bob.askAboutGaps() == 1)
    #expect(try await alice.receive().isEmpty)
    #expect(try await bob.receive().isEmpty)
    #expect(try await bob.gaps().isEmpty)
    let announced = try await bob.announced()
    #expect(announced.map(\.envelopeID) == [taken.envelopeID])
    #expect(announced.map(\.takenBy) == [phone.whoami().device])
    #expect(try await bob.alarms().allSatisfy(\.isResolved))
  }

  @Test("what another device took is no loss to a consumer either, and stays on the list until it is proven")
  func consumer() async throws {
    _ = try await world.enrolDevice("phone", of: bob, at: world.globex)
    _ = try await alice.send(to: [bob.address], body: [1])
    takeFromBob(try await alice.send(to: [bob.address], body: [2]))
    _ = try await alice.send(to: [bob.address], body: [3])
    world.globex.set { $0.work.mode = .one }
    let work = try await bob.lease(max: 3)
    #expect(work.map(\.message.body) == [[1], [3]] && work.allSatisfy { !$0.message.isAfterGap })
    #expect(try await bob.gaps().map(\.state) == [.shared])
    for item in work { try await item.ack() }
  }

  @Test("without a shared queue a missing message is missing, however many devices there are")
  func missing() async throws {
    _ = try await world.enrolDevice("phone", of: bob, at: world.globex)
    _ = try await alice.send(to: [bob.address], body: [1])
    takeFromBob(try await alice.send(to: [bob.address], body: [2]))
    _ = try await alice.send(to: [bob.address], body: [3])
    // So long ago that nothing from then could still come.
    world.globex.set { [now = world.clock.nowMs] in
      ($0.work.mode, $0.work.changedMs) = (.each, now - Limits.ttlMsMax)
    }
    #expect(try await bob.receive().map(\.isAfterGap) == [false, true])
    #expect(try await bob.gaps().map(\.state) == [.waiting])
    world.clock.advance(ms: 1)
    takeFromBob(try await alice.send(to: [bob.address], body: [4]))
    _ = try await alice.send(to: [bob.address], body: [5])
    world.globex.set { [now = world.clock.nowMs] in
      ($0.work.mode, $0.work.changedMs) = (.each, now - Limits.ttlMsMax + 1)
    }
    #expect(try await bob.receive().map(\.isAfterGap) == [false], "control: lately they shared")
    #expect(try await bob.gaps().map(\.state) == [.waiting, .shared])
  }

  @Test("a receipt that is not another device's own word about the message proves nothing")
  func forgedTaking() async throws {
    let phone = try await world.enrolDevice("phone", of: bob, at: world.globex)
    let taken = try await alice.send(to: [bob.address], body: [1])
    takeFromBob(taken)
    _ = try await alice.send(to: [bob.address], body: [2])
    _ = try await bob.receive()
    try await phone.acknowledge(phone.receive().map(\.envelopeID))
    #expect(try await bob.askAboutGaps() == 1)
    #expect(try await alice.receive().isEmpty)
    let id = try #require(taken.envelopeID.flatMap { bytes(hex: $0) }.flatMap { EnvelopeID($0) })
    let stranger = SigningKey()
    let account = bob.core.account
    let body = ReceiptBody(
      role: .device, issuerName: account.address.text, issuerKey: stranger.publicKey, envelope: id,
      sender: alice.core.account.address, senderKid: alice.core.account.kid,
      messageID: try #require(bytes(hex: taken.messageID).flatMap { MessageID($0) }),
      recipient: account.address, recipientKid: phone.core.account.kid, state: .processed,
      atMs: world.clock.nowMs)
    _ = try await bob.receive()
    #expect(try await bob.announced().map(\.takenBy) == [phone.whoami().device], "control")
    let forged = signReceipts([body], with: stranger)[0]
    let isBelieved = try await bob.core.commit { [core = bob.core] rows in
      let inbound = Inbound(
        account: core.account, device: core.device, credentials: core.credentials, nowMs: core.nowMs())
      return try inbound.provesTaking(forged, in: rows) != nil
    }
    #expect(!isBelieved)
  }
}
