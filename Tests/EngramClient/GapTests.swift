import EngramClientStore
import EngramCore
import EngramCrypto
import EngramSealing
import Synchronization
import Testing

@testable import EngramClient

@Suite("Missing messages and their stubs")
struct GapTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    world = try TestWorld()
    alice = try await world.register("alice", at: world.acme)
    bob = try await world.register("bob", at: world.globex)
  }

  private func send(_ count: Int, from first: UInt8 = 0) async throws -> [SentMessage] {
    var sent: [SentMessage] = []
    for index in 0..<count {
      sent.append(try await alice.send(to: [bob.address], body: [first + UInt8(index)]))
    }
    return sent
  }

  /// Takes messages out of bob's mailbox before he sees them.
  private func steal(_ messages: [SentMessage]) throws -> [MailboxItem] {
    let kid = bob.core.account.kid
    let ids = Set(messages.map(\.messageID))
    return world.globex.state.withLock { state in
      let stolen = (state.boxes[kid] ?? []).filter { item in
        let header = try? UnverifiedEnvelope(parsing: item.payload).header
        return item.kind == .envelope && header.map { ids.contains($0.messageID.description) } == true
      }
      state.boxes[kid]?.removeAll { item in stolen.contains { $0.seq == item.seq } && item.kind == .envelope }
      return stolen
    }
  }

  /// bob asks, alice answers, bob takes the answer; nobody is shown anything.
  private func exchange() async throws {
    #expect(try await bob.askAboutGaps() == 1)
    #expect(try await alice.receive().isEmpty)
    #expect(try await bob.receive().isEmpty)
  }

  @Test("a missing message's stub closes the gap, and the message is still taken when it comes after all")
  func closedByStub() async throws {
    let sent = try await send(4)
    let stolen = try steal([sent[1], sent[2]])
    #expect(try await bob.receive().map(\.body) == [[0], [3]])
    let gap = try #require(try await bob.gaps().first)
    #expect(gap.missing == [2...3] && gap.from == alice.address && gap.state == .waiting)
    #expect(gap.device == alice.whoami().device)

    try await exchange()
    #expect(try await bob.gaps().isEmpty)
    #expect(try await bob.alarms().allSatisfy(\.isResolved))
    let announced = try await bob.announced()
    #expect(Set(announced.map(\.envelopeID)) == Set([sent[1], sent[2]].compactMap(\.envelopeID)))
    #expect(try await bob.threads().items.count == 2, "nothing of the exchange is kept")
    #expect(try await alice.threads().items.count == 4)

    world.globex.deposit(.envelope, stolen[0].payload, nil, for: bob.core.account.kid)
    let late = try await bob.receive()
    #expect(late.map(\.body) == [[1]] && late.allSatisfy { !$0.isAfterGap })
    #expect(try await bob.announced().map(\.envelopeID) == [sent[2].envelopeID])
    // Once only, as ever.
    world.globex.deposit(.envelope, stolen[0].payload, nil, for: bob.core.account.kid)
    #expect(try await bob.receive().isEmpty)
    _ = try await send(1, from: 9)
    #expect(try await bob.receive().map(\.isAfterGap) == [false], "the chain goes on")
  }

  @Test("control: without the exchange the gap stays")
  func staysOpen() async throws {
    let sent = try await send(3)
    _ = try steal([sent[1]])
    _ = try await bob.receive()
    _ = try await alice.receive()
    _ = try await bob.receive()
    #expect(try await bob.gaps().count == 1)
    #expect(try await bob.announced().isEmpty)
  }

  @Test("a client asks by itself once a gap is old enough, and not again before its time")
  func asksByItself() async throws {
    let sent = try await send(3)
    _ = try steal([sent[1]])
    _ = try await bob.receive()
    func posted() -> Int { world.globex.state.withLock { $0.posted.count } }
    let before = posted()
    _ = try await bob.receive()
    #expect(posted() == before, "it may only have been overtaken")
    world.clock.advance(ms: StubPolicy.graceMs)
    _ = try await bob.receive()
    #expect(posted() == before + 1)
    #expect(try await bob.gaps().first?.state == .asked)
    world.clock.advance(ms: StubPolicy.askAgainMs - 1)
    _ = try await bob.receive()
    #expect(posted() == before + 1)
    world.clock.advance(ms: 1 + StubPolicy.graceMs)
    _ = try await bob.receive()
    #expect(posted() == before + 2)
    #expect(try await bob.gaps().first?.asks == 2)
  }

  @Test("a cancelled message leaves its stub")
  func cancelled() async throws {
    _ = try await send(1)
    world.acme.set { $0.isReachable = false }
    let sent = try await alice.sendBatch([OutgoingMessage(to: [bob.address], body: [1])])[0]
    _ = try await alice.cancel(sent.messageID)
    world.acme.set { $0.isReachable = true }
    _ = try await send(1, from: 2)
    #expect(try await bob.receive().count == 2)
    #expect(try await bob.gaps().count == 1, "control")
    try await exchange()
    #expect(try await bob.gaps().isEmpty)
    #expect(try await bob.announced().count == 1)
  }

  @Test("a sender that has no record says so; the alarm stays, and nobody is asked again")
  func unknown() async throws {
    let sent = try await send(3)
    _ = try steal([sent[1]])
    _ = try await bob.receive()
    // What alice remembers of what she sent goes a month after it expired; her chain goes on.
    for _ in 0..<8 {
      world.clock.advance(ms: 5 * 86_400_000)
      for client in [alice, bob] { try await client.core.maintain() }
    }
    try await exchange()
    #expect(try await bob.gaps().map(\.state) == [.unknown])
    #expect(try await bob.askAboutGaps() == 0)
    #expect(try await bob.alarms().filter { $0.kind == "gap" }.map(\.isResolved) == [false])
  }

  @Test("one device is answered once a minute, however often it asks")
  func rateLimit() async throws {
    let sent = try await send(4)
    _ = try steal([sent[1]])
    _ = try await bob.receive()
    try await exchange()
    func posted() -> Int { world.acme.state.withLock { $0.posted.count } }
    let before = posted()
    try await ask([2...2])
    #expect(try await alice.receive().isEmpty)
    #expect(posted() == before)
    world.clock.advance(ms: StubPolicy.answerMs)
    try await ask([2...2])
    #expect(try await alice.receive().isEmpty)
    #expect(posted() == before + 1, "control")
  }

  /// A stub request by hand.
  private func ask(_ ranges: [ClosedRange<UInt64>]) async throws {
    try await control(.request(ranges), from: bob, to: alice)
  }

  private func control(_ control: StubControl, from sender: EngramClient, to recipient: EngramClient)
    async throws
  {
    let account = sender.core.account
    let devices = try await sender.core.sealableDevices(of: recipient.core.account.address)
    let now = world.clock.nowMs
    try await sender.core.commit { rows in
      var draft = try Draft(
        OutgoingMessage(to: [recipient.address], body: control.body, contentType: control.contentType),
        nowMs: now)
      draft.kind = .control
      var chains: [Kid: ChainPosition] = [:]
      try rows.sealAndKeep(
        draft, for: devices, from: account.address, device: sender.core.device, &chains, nowMs: now)
      for (kid, next) in chains { try rows.advanceChain(to: kid, next: next) }
    }
    try await sender.core.transmitWaiting()
  }

  /// alice's stub of one of her messages, as she would send it to bob.
  private func stub(_ message: SentMessage, pruned: Bool = true) async throws -> [UInt8] {
    let row = try await alice.core.read { try $0.sent(message.messageID) }
    let envelope = try UnverifiedEnvelope(parsing: row.envelope)
    return pruned ? try stubBytes(of: envelope, for: bob.core.account.kid) : row.envelope
  }

  private enum Trick: Int, CaseIterable {
    case none, anotherSender, flippedBit, notAStub, notForBob, beyondTheEnd
  }

  @Test("a stub counts only from the device that signed it, for a place that is missing", arguments: 0..<6)
  private func hostileStubs(_ index: Int) async throws {
    let trick = Trick.allCases[index]
    let carol = try await world.register("carol", at: world.acme)
    let sent = try await send(3)
    let stolen = try steal([sent[1]] + (trick == .beyondTheEnd ? [sent[2]] : []))
    _ = try await bob.receive()
    if trick == .beyondTheEnd {
      // Only place 1 has come; places 2 and 3 are offered unasked, with the control message behind them.
      _ = try await alice.send(to: [carol.address], body: [])
    }
    let other = try await alice.send(to: [carol.address], body: [5])
    var bytes = try await stub(sent[1])
    switch trick {
    case .flippedBit: bytes[bytes.count - 3] ^= 1
    case .notAStub: bytes = stolen[0].payload
    case .notForBob: bytes = try await stub(other)
    case .none, .anotherSender, .beyondTheEnd: break
    }
    try await control(
      .stubs(unknown: [], [bytes[...]], receipts: []), from: trick == .anotherSender ? carol : alice, to: bob)
    #expect(try await bob.receive().isEmpty)
    let announced = try await bob.announced().map(\.envelopeID)
    if trick == .none || trick == .beyondTheEnd {
      #expect(announced == [sent[1].envelopeID], "control")
    } else {
      #expect(announced.isEmpty)
    }
    #expect(try await bob.gaps().isEmpty == (trick == .none))
  }

  @Test("a control message that nobody understands is refused, signed, and shown to nobody")
  func unknownControl() async throws {
    try await control(.request([1...1]), from: alice, to: bob)
    #expect(try await bob.receive().isEmpty)
    let devices = try await alice.core.sealableDevices(of: bob.core.account.address)
    var draft = try Draft(
      OutgoingMessage(to: [bob.address], body: [1], contentType: "application/vnd.engram.riddle"),
      nowMs: world.clock.nowMs)
    draft.kind = .control
    _ = try await alice.core.seal([(draft, devices)], wereQueued: false)
    try await alice.core.transmitWaiting()
    #expect(try await bob.receive().isEmpty)
    let status = try await alice.status(of: draft.messageID.description, fetching: true)
    #expect(status.state == .failed && status.recipients[0].devices[0].codeName == "unknown-value")
  }

  @Test("control bodies have one form; anything else is refused")
  func controlBodies() throws {
    let stubs = StubControl.stubs(unknown: [4...9], [[1, 2], [3]], receipts: [[5]])
    let parsed = try StubControl(contentType: stubs.contentType, body: stubs.body)
    guard case .stubs(let unknown, let list, receipts: [[5]]) = parsed else {
      Issue.record("another kind of control message")
      return
    }
    #expect(unknown == [4...9] && list.map { Array($0) } == [[1, 2], [3]])
    #expect(throws: CodecError.self) {
      try StubControl(contentType: stubs.contentType, body: Array(stubs.body.dropLast()))
    }
    #expect(throws: CodecError.unknownValue) { try StubControl(contentType: "text/plain", body: []) }
    let many = StubControl.stubs(
      unknown: [], Array(repeating: [0][...], count: StubPolicy.stubsPerAnswer + 1), receipts: [])
    #expect(throws: CodecError.tooLarge) { try StubControl(contentType: many.contentType, body: many.body) }
  }
}
