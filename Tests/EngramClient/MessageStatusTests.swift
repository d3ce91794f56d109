import EngramClientStore
import EngramCore
import EngramCrypto
import Synchronization
import Testing

@testable import EngramClient

private let bob: Address = {
  guard let address = try? Address("bob@globex.example") else { preconditionFailure("an address") }
  return address
}()
private let phone = Kid([UInt8](repeating: 7, count: 16)) ?? .zero

@Suite("The state that receipts add up to")
struct MessageStatusTests {
  /// `state` as the node or device that signs it would say it; `about` nil is everybody.
  private func said(
    _ state: ReceiptState, by role: ReceiptRole = .recipientNode, issuer: String? = nil,
    about kid: Kid? = phone, attempt: UInt32 = 0, at ms: UInt64 = 10
  ) -> ReceiptRow {
    let name =
      switch role {
      case .device: bob.text
      case .homeNode: "acme.example"
      case .recipientNode: bob.node.text
      }
    return ReceiptRow(
      recipient: kid == nil ? nil : bob, recipientKid: kid, role: role, issuer: issuer ?? name, state: state,
      code: .none, attempt: attempt, atMs: ms)
  }

  private func state(_ receipts: [ReceiptRow]) -> DeliveryStatus {
    let state = messageState(of: receipts, for: bob, phone).state
    #expect(messageState(of: receipts.reversed(), for: bob, phone).state == state, "their order matters")
    return state
  }

  @Test("each receipt has its state, and nothing said is pending")
  func single() {
    #expect(state([]) == .pending)
    let expected: [ReceiptState: DeliveryStatus] = [
      .accepted: .pending, .admitted: .pending, .delivered: .delivered, .processed: .processed,
      .failed: .failed, .expired: .expired, .deadLettered: .deadLettered, .cancelled: .cancelled,
    ]
    for receipt in ReceiptState.allCases { #expect(state([said(receipt)]) == expected[receipt]) }
    #expect(Set(expected.values) == Set(DeliveryStatus.allCases), "every state is somebody's word")
  }

  @Test("a delivery goes forward whatever order its receipts come in")
  func forward() {
    let accepted = said(.accepted, by: .homeNode, about: nil, at: 1)
    let admitted = said(.admitted, about: nil, at: 9)
    let delivered = said(.delivered, at: 3)
    #expect(state([accepted, admitted]) == .pending)
    #expect(state([accepted, delivered, admitted]) == .delivered, "whatever the clocks say")
    #expect(state([accepted, admitted, delivered, said(.processed, by: .device, at: 2)]) == .processed)
  }

  @Test("the device's own word that it processed stands against every node")
  func processedStands() {
    for end in [ReceiptState.expired, .cancelled, .deadLettered, .failed] {
      #expect(state([said(.processed, by: .device, at: 1), said(end, at: 99)]) == .processed)
      #expect(state([said(end, at: 99)]) != .processed, "control")
    }
  }

  @Test("of several ends the last one counts: a dead letter that was put back may still expire")
  func lastEnd() {
    #expect(state([said(.deadLettered, attempt: 20, at: 5), said(.expired, at: 9)]) == .expired)
    #expect(state([said(.expired, at: 5), said(.deadLettered, attempt: 20, at: 9)]) == .deadLettered)
    #expect(state([said(.failed, by: .device, at: 5), said(.delivered, at: 9)]) == .failed)
  }

  @Test("a statement about everybody reaches those that its signer may speak about")
  func aboutEverybody() {
    #expect(state([said(.expired, by: .homeNode, about: nil)]) == .expired)
    #expect(state([said(.expired, by: .recipientNode, about: nil)]) == .expired)
    #expect(state([said(.expired, by: .recipientNode, issuer: "other.example", about: nil)]) == .pending)
    #expect(state([said(.processed, by: .device, about: Kid([UInt8](repeating: 8, count: 16)))]) == .pending)
  }

  @Test(
    "several recipients have one state together: open while one is, processed when all are",
    arguments: [
      ([.processed, .processed], .processed), ([.processed, .pending], .pending),
      ([.delivered, .processed], .delivered), ([.failed, .pending], .pending),
      ([.failed, .processed], .failed), ([.cancelled, .processed], .cancelled), ([], .pending),
      ([.expired, .deadLettered], .deadLettered),
    ] as [([DeliveryStatus], DeliveryStatus)])
  func combined(_ states: [DeliveryStatus], _ expected: DeliveryStatus) {
    #expect(combinedState(states) == expected)
  }

  @Test(
    "an address is as far as the furthest of its devices",
    arguments: [
      ([.processed, .pending], .processed), ([.failed, .pending], .pending), ([.failed, .expired], .failed),
      ([.delivered, .failed], .delivered), ([.cancelled, .cancelled], .cancelled),
    ] as [([DeliveryStatus], DeliveryStatus)])
  func address(_ states: [DeliveryStatus], _ expected: DeliveryStatus) {
    #expect(addressState(states) == expected)
  }
}

@Suite("Status and cancellation")
struct CancellationTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient
  private let carol: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
    carol = try await world.register("carol", at: world.acme)
  }

  @Test("the status follows a message from here to its recipients' devices")
  func life() async throws {
    var options = SendOptions()
    options.labels = ["project": "apollo"]
    let sent = try await alice.send(to: [bob.address, carol.address], body: [1], options: options)
    let before = try await alice.status(of: sent.messageID)
    #expect(before.state == .pending && before.outbox == .accepted && before.labels == ["project": "apollo"])
    #expect(Set(before.recipients.map(\.address)) == [bob.address, carol.address])
    #expect(before.recipients.flatMap(\.devices).allSatisfy { $0.role == "home-node" })

    try await bob.acknowledge(try await bob.receive().map(\.envelopeID))
    let between = try await alice.status(of: sent.messageID, fetching: true)
    #expect(between.state == .pending)
    #expect(between.recipients.first { $0.address == bob.address }?.state == .processed)
    #expect(between.recipients.first { $0.address == carol.address }?.state == .pending)
    try await carol.acknowledge(try await carol.receive().map(\.envelopeID))
    let envelope = try #require(sent.envelopeID)
    #expect(try await alice.status(of: envelope, fetching: true).state == .processed)
  }

  @Test("a message that waits for keys can be called back, and never goes out")
  func queued() async throws {
    world.globex.set { $0.isReachable = false }
    let sent = try await alice.send(to: [bob.address], body: [1])
    #expect(try await alice.status(of: sent.messageID).outbox == .queued)
    #expect(try await alice.cancel(sent.messageID).status.state == .cancelled)
    world.globex.set { $0.isReachable = true }
    #expect(try await alice.resendOutbox() == 0)
    #expect(try await bob.receive().isEmpty)
  }

  @Test("a sealed message that has not left is called back, keeps its place, and its successor closes no gap")
  func waiting() async throws {
    _ = try await alice.send(to: [bob.address], body: [0])
    world.acme.set { $0.isReachable = false }
    let sent = try await alice.sendBatch([OutgoingMessage(to: [bob.address], body: [1])])[0]
    let cancelled = try await alice.cancel(sent.messageID)
    #expect(cancelled.status.state == .cancelled && cancelled.status.outbox == .cancelled)
    #expect(cancelled.notice == nil)
    world.acme.set { $0.isReachable = true }
    _ = try await alice.send(to: [bob.address], body: [2])
    let received = try await bob.receive()
    #expect(received.map(\.body) == [[0], [2]] && received.map(\.isAfterGap) == [false, true])
    let error = await #expect(throws: EngramError.self) { try await alice.cancel(sent.messageID) }
    #expect(error?.name == "not-cancellable")
  }

  @Test("what the home node still holds is dropped there, signed, without telling anybody")
  func atHomeNode() async throws {
    let sent = try await alice.send(to: [carol.address], body: [1])
    let cancelled = try await alice.cancel(sent.messageID)
    #expect(cancelled.status.state == .cancelled && cancelled.notice == nil)
    #expect(try await alice.receipts(of: sent.messageID).map(\.state).sorted() == ["accepted", "cancelled"])
    #expect(try await carol.receive().isEmpty)
  }

  @Test("what has left is called back by a TASK_CANCEL on the same way")
  func atPeer() async throws {
    let sent = try await alice.send(to: [bob.address], body: [1])
    let quiet = try await alice.cancel(sent.messageID, tellRecipients: false)
    #expect(quiet.status.state == .pending && quiet.notice == nil, "control: the home node has nothing of it")
    let cancelled = try await alice.cancel(sent.messageID)
    #expect(cancelled.notice?.state == .accepted)
    #expect(try await alice.status(of: sent.messageID, fetching: true).state == .cancelled)
    let received = try await bob.receive()
    #expect(received.map(\.type) == ["TASK_CANCEL"] && received[0].replyTo == sent.envelopeID)
    #expect(received[0].labels["cancels"] == sent.messageID)
  }

  @Test("what a device has processed is not called back")
  func tooLate() async throws {
    let sent = try await alice.send(to: [bob.address], body: [1])
    try await bob.acknowledge(try await bob.receive().map(\.envelopeID))
    _ = try await alice.status(of: sent.messageID, fetching: true)
    let posted = world.acme.state.withLock { $0.posted.count }
    let error = await #expect(throws: EngramError.self) { try await alice.cancel(sent.messageID) }
    #expect(error?.name == "not-cancellable" && error?.kind == .refused)
    #expect(world.acme.state.withLock { $0.posted.count } == posted, "nothing was sent")
  }
}
