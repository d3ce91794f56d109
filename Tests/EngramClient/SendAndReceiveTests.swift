import EngramClientStore
import EngramCore
import EngramCrypto
import Synchronization
import Testing

@testable import EngramClient

@Suite("Sending and receiving")
struct SendAndReceiveTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  private func text(_ message: ReceivedMessage) -> String { String(decoding: message.body, as: UTF8.self) }

  @Test("a message crosses two nodes, is opened, and its receipts come back verified")
  func roundTrip() async throws {
    var options = SendOptions()
    (options.type, options.priority) = ("TASK_REQUEST", "HIGH")
    let sent = try await alice.send(to: ["bob@globex.example"], body: Array("do it".utf8), options: options)
    #expect(sent.state == .accepted && sent.receipts.map(\.state) == ["accepted"])
    let received = try await bob.receive()
    let message = try #require(received.first)
    #expect(
      text(message) == "do it" && message.from == "alice@acme.example" && message.type == "TASK_REQUEST")
    #expect(message.priority == "HIGH" && !message.isAfterGap && message.envelopeID == sent.envelopeID)
    try await bob.acknowledge([message.envelopeID])
    #expect(try await alice.waitUntilProcessed(sent.messageID, timeoutSeconds: 5))
    let states = try await alice.receipts(of: sent.messageID).map { "\($0.state) \($0.role)" }
    #expect(states.sorted() == ["accepted home-node", "processed device"])
    #expect(try await alice.alarms().isEmpty)
    #expect(try await bob.alarms().isEmpty)
  }

  private func send(_ text: String, _ priority: String = "NORMAL") async throws {
    var options = SendOptions()
    options.priority = priority
    _ = try await alice.send(to: [bob.address], body: Array(text.utf8), options: options)
  }

  @Test("what waits is handed out by priority and worked through in order of arrival")
  func priorities() async throws {
    for priority in Priority.allCases { try await send(priority.name, priority.name) }
    try await send("second", "HIGH")
    let first = try await bob.receive(max: 2)
    #expect(first.map(text) == ["CRITICAL", "URGENT"])
    // What comes while a round is handed out is in the next one: LOW does not wait for ever.
    try await send("later", "CRITICAL")
    let rest = try await bob.receive(max: 3)
    #expect(rest.map(text) == ["HIGH", "second", "NORMAL"])
    #expect(try await bob.receive().map(text) == ["LOW"])
    #expect(try await bob.receive().map(text) == ["later"])
    #expect(try await bob.receive().isEmpty)
    #expect((first + rest).allSatisfy { !$0.isAfterGap })
    #expect(try await bob.alarms().isEmpty, "the chain was judged as it came")
  }

  @Test("what was not acknowledged and what is new are handed out together; a live reader gets it as it came")
  func leftOvers() async throws {
    for number in 0..<300 { try await send("old \(number)", "LOW") }
    #expect(try await bob.receive(max: 1_000, among: 1_000).count == 300)
    await bob.close()
    try await send("new", "CRITICAL")
    let again = try world.reopen("bob", at: world.globex)
    #expect(try await again.receive(max: 2, among: 1_000).map(text) == ["new", "old 0"])
    var stream = again.follow().makeAsyncIterator()
    #expect(try await stream.next().map(text) == "old 1", "control: nothing is handed out twice")
  }

  @Test("what is here can be read while the node is away; then the caller learns that it is")
  func away() async throws {
    try await send("kept")
    #expect(try await bob.receive().count == 1)
    await bob.close()
    let again = try world.reopen("bob", at: world.globex)
    world.globex.set { $0.isReachable = false }
    #expect(try await again.receive().map(text) == ["kept"])
    await #expect(throws: EngramError.self) { try await again.receive() }
    await again.close()
  }

  @Test("whoever acknowledges what the node has ended is told, and nobody else")
  func lateWord() async throws {
    for text in ["ended", "in time"] { try await send(text) }
    let received = try await bob.receive()
    let kid = bob.core.account.kid
    world.globex.set { state in state.boxes[kid]?.removeAll { $0.kind == .envelope && $0.seq == 1 } }
    let late = try await bob.acknowledge(received.map(\.envelopeID))
    #expect(late.map(\.envelopeID) == [received[0].envelopeID])
    #expect(late.map(\.error.name) == ["delivery-gone"])
    #expect(try await bob.acknowledge(received.map(\.envelopeID)).isEmpty, "said once")
    for (code, name) in [
      (ErrorCode.expired, "expired"), (.none, "delivery-gone"), (.leaseLost, "lease-lost"),
    ] {
      #expect(EngramError(lateWord: code).name == name)
    }
  }

  @Test("several recipients and a batch keep their chains in order")
  func batch() async throws {
    let carol = try await world.register("carol", at: world.acme)
    let messages = (0..<50).map {
      OutgoingMessage(to: ["bob@globex.example", "carol@acme.example"], body: Array("\($0)".utf8))
    }
    let sent = try await alice.sendBatch(messages)
    #expect(sent.allSatisfy { $0.state == .accepted })
    for receiver in [bob, carol] {
      let received = try await receiver.receive()
      #expect(received.map(text) == (0..<50).map { "\($0)" })
      #expect(received.allSatisfy { !$0.isAfterGap })
    }
  }

  @Test("a message that was acknowledged is never handed out again; one that was not is, after a restart")
  func exactlyOnce() async throws {
    for body in ["kept", "taken"] { _ = try await alice.send(to: [bob.address], body: Array(body.utf8)) }
    let received = try await bob.receive()
    #expect(received.map(text) == ["kept", "taken"])
    #expect(try await bob.receive().isEmpty, "the same process is not given it twice")
    let taken = try #require(received.last)
    // The acknowledgement is signed and durable, but the node never hears of it.
    world.globex.set { $0.isReachable = false }
    try await bob.acknowledge([taken.envelopeID])
    world.globex.set { $0.isReachable = true }
    await bob.close()

    let again = try world.reopen("bob", at: world.globex)
    #expect(try await again.receive().map(text) == ["kept"], "control: what was not acknowledged comes again")
    let left = world.globex.waiting(for: again.core.account.kid)
    #expect(left.count == 1, "the node was told on the next occasion")
  }

  @Test("a lost answer leads to the same bytes again, and the recipient sees the message once")
  func retry() async throws {
    _ = try await alice.send(to: [bob.address], body: Array("first".utf8))
    world.acme.set { $0.answersToLose = 1 }
    let sent = try await alice.sendBatch([OutgoingMessage(to: [bob.address], body: Array("second".utf8))])[0]
    guard case .waiting(let error) = sent.state else {
      Issue.record("the answer was lost, so the message has to wait: \(sent.state)")
      return
    }
    #expect(error.kind == .unreachable)
    #expect(try await alice.resendOutbox() == 1)
    let posted = world.acme.state.withLock { $0.posted }
    #expect(posted.count == 3 && posted[1] == posted[2])
    #expect(try await bob.receive().map(text) == ["first", "second"])
    #expect(try await alice.outbox().allSatisfy { $0.state == .accepted })
  }

  @Test("without the recipient's keys the message waits, encrypted, and goes out when they can be had")
  func queued() async throws {
    world.globex.set { $0.isReachable = false }
    let sent = try await alice.send(to: [bob.address], body: Array("later".utf8))
    guard case .queued = sent.state else {
      Issue.record("no keys: \(sent.state)")
      return
    }
    #expect(try await alice.outbox().map(\.state) == [.queued])
    world.globex.set { $0.isReachable = true }
    #expect(try await alice.resendOutbox() == 1)
    let received = try await bob.receive()
    #expect(received.map(text) == ["later"] && received.first?.messageID == sent.messageID)
  }

  @Test("a message that waits for keys longer than it lives is given up, visibly and without its body")
  func queuedTooLong() async throws {
    world.globex.set { $0.isReachable = false }
    var options = SendOptions()
    options.ttlSeconds = 60
    _ = try await alice.send(to: [bob.address], body: Array("too late".utf8), options: options)
    #expect(
      try await alice.core.read { try $0.queued(limit: 9) }.map(\.draft.body) == [Array("too late".utf8)],
      "control")
    world.clock.advance(ms: 61_000)
    world.globex.set { $0.isReachable = true }
    #expect(try await alice.resendOutbox() == 0)
    #expect(try await alice.outbox().map(\.state) == [.refused])
    #expect(try await alice.core.read { try $0.queued(limit: 9) }.map(\.draft.body) == [[]])
    #expect(try await bob.receive().isEmpty)
  }

  @Test("a known recipient whose node is away is sealed for with the last known prekey, while it lasts")
  func lastKnownPrekey() async throws {
    _ = try await alice.send(to: [bob.address], body: [1])
    world.clock.advance(ms: 2 * 3_600_000)
    world.globex.set { $0.isReachable = false }
    #expect(try await alice.send(to: [bob.address], body: [2]).state == .accepted)
    world.clock.advance(ms: 8 * 24 * 3_600_000)
    guard case .queued = try await alice.send(to: [bob.address], body: [3]).state else {
      Issue.record("a prekey that has run out was used")
      return
    }
  }

  @Test("mistakes of the caller are refused before anything is kept")
  func badInput() async throws {
    var options = SendOptions()
    options.type = "SHOUT"
    for (to, options) in [
      (["Bob@globex.example"], SendOptions()), ([], SendOptions()), ([bob.address], options),
    ] {
      await #expect(throws: EngramError.self) { try await alice.send(to: to, body: [], options: options) }
    }
    await #expect(throws: EngramError.self) { try await alice.send(to: ["nobody@globex.example"], body: []) }
    #expect(try await alice.outbox().isEmpty)
    _ = try await alice.send(to: [bob.address], body: [])
    #expect(try await alice.outbox().count == 1, "control")
  }

  @Test("a signed prekey is replaced after a day, and messages to the old one still open")
  func rotation() async throws {
    let kid = bob.core.account.kid
    func published() -> [UInt8]? {
      world.globex.state.withLock { $0.members.values.first { $0.certificate.kid == kid }?.prekey }
    }
    let first = published()
    _ = try await alice.send(to: [bob.address], body: Array("to the old key".utf8))
    _ = try? await bob.core.maintain()
    #expect(published() == first, "control: not before its time")
    world.clock.advance(ms: 25 * 3_600_000)
    try await bob.core.maintain()
    #expect(published() != first)
    #expect(try await bob.receive().map(text) == ["to the old key"])
  }

  @Test("a device list is signed anew long before it runs out")
  func deviceListRenewal() async throws {
    let day: UInt64 = 24 * 3_600_000
    func published() throws -> DeviceList {
      let list = world.globex.state.withLock { $0.members[bob.core.account.address]?.list }
      return try DeviceList(verifying: try #require(list))
    }
    func own() async throws -> [UInt8] { try await bob.core.read { try $0.account().deviceList } }
    let first = try published()
    world.clock.advance(ms: 9 * day)
    try await bob.core.maintain()
    #expect(try published().bytes == first.bytes, "control: not before its time")
    world.clock.advance(ms: day)
    await bob.core.maintainIfDue()
    let second = try published()
    #expect(second.body.version == 2 && second.body.identity == first.body.identity)
    #expect(second.body.validUntilMs == world.clock.nowMs + 30 * day)
    #expect(second.body.entries == first.body.entries)
    #expect(try await own() == second.bytes)
    world.clock.advance(ms: 25 * day)
    _ = try await bob.receive()
    #expect(try published().body.version == 3, "every reception looks after it")
    // 35 days after the first lists: nobody would believe those any more.
    _ = try await alice.send(to: [bob.address], body: [1])
    #expect(try await bob.receive().map(\.body) == [[1]])
  }

  @Test("a renewed device list whose answer got lost is found out from the node")
  func deviceListAnswerLost() async throws {
    let account = bob.core.account
    func published() -> [UInt8]? { world.globex.state.withLock { $0.members[account.address]?.list } }
    world.clock.advance(ms: 11 * 24 * 3_600_000)
    _ = try await bob.core.api.bearer()
    // Of the new prekey and of the list.
    world.globex.set { $0.answersToLose = 2 }
    await #expect(throws: EngramError.self) { try await bob.core.maintain() }
    #expect(published() != account.deviceList)
    #expect(try await bob.core.read { try $0.account().deviceList } == account.deviceList, "control")
    world.clock.advance(ms: 1_000)
    try await bob.core.maintain()
    #expect(try await bob.core.read { try $0.account().deviceList } == published())
    // A node that calls the newest list stale is not believed.
    world.clock.advance(ms: 11 * 24 * 3_600_000)
    world.globex.set { $0.refusesLists = true }
    await #expect(throws: EngramError.self) { try await bob.core.maintain() }
    #expect(try await bob.core.read { try $0.account().deviceList } == published())
  }

  @Test("following hands out what waits and what comes, over dropped connections, once each")
  func follow() async throws {
    for index in 0..<3 { _ = try await alice.send(to: [bob.address], body: [UInt8(index)]) }
    var iterator = bob.follow().makeAsyncIterator()
    for index in 0..<3 {
      let message = try #require(try await iterator.next())
      #expect(message.body == [UInt8(index)])
      try await bob.acknowledge([message.envelopeID])
    }
    world.globex.dropConnections()
    for index in 3..<6 { _ = try await alice.send(to: [bob.address], body: [UInt8(index)]) }
    for index in 3..<6 {
      let message = try #require(try await iterator.next())
      #expect(message.body == [UInt8(index)])
      try await bob.acknowledge([message.envelopeID])
    }
    #expect(world.globex.waiting(for: bob.core.account.kid).isEmpty)
  }

  @Test("more messages than the window holds arrive while they are read")
  func window() async throws {
    let count = ClientLimits.liveCredit * 2 + 10
    let messages = (0..<count).map { OutgoingMessage(to: [bob.address], body: Array("\($0)".utf8)) }
    #expect(try await alice.sendBatch(messages).allSatisfy { $0.state == .accepted })
    var iterator = bob.follow().makeAsyncIterator()
    for index in 0..<count { #expect(try await iterator.next().map(text) == "\(index)") }
  }

  @Test("a second receiver of one home is told so, and a sender is not in its way")
  func oneReceiver() async throws {
    _ = try await bob.receive()
    let other = try world.reopen("bob", at: world.globex)
    #expect(await other.mailbox.tryBegin() == false)
    #expect(try await other.send(to: [alice.address], body: [1]).state == .accepted)
    await bob.mailbox.end()
    #expect(await other.mailbox.tryBegin(), "control")
  }
}
