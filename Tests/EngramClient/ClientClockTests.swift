import EngramClientStore
import EngramCore
import Synchronization
import Testing

@testable import EngramClient

@Suite("The client's clock")
struct ClientClockTests {
  private static let yearMs: UInt64 = 365 * 86_400_000
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    world = try TestWorld()
    alice = try await world.register("alice", at: world.acme)
    bob = try await world.register("bob", at: world.globex)
  }

  @Test("a running client's time goes on as it was, whatever is done to the machine's clock")
  func steady() {
    let wall = Mutex<UInt64>(1_000_000)
    let monotonic = Mutex<UInt64>(50)
    let clock = ClientClock(wall: { wall.withLock { $0 } }, monotonic: { monotonic.withLock { $0 } })
    #expect(clock.nowMs() == 1_000_000)
    for jumped in [Self.yearMs, 3] {
      wall.withLock { $0 = jumped }
      monotonic.withLock { $0 += 7 }
      #expect(clock.wallMs() == jumped, "control")
    }
    #expect(clock.nowMs() == 1_000_014)
    clock.adopt()
    #expect(clock.nowMs() == 3)
  }

  /// bob's home under a clock that is wrong.
  private func bob(aheadBy ms: UInt64) throws -> EngramClient {
    let (store, account, keys) = try EngramClient.openHome(world.folder + "/bob", nil)
    return EngramClient(
      core: ClientCore(
        store: store, account: account, keys: keys, transport: world.globex.transport,
        nowMs: { [clock = world.clock] in clock.nowMs &+ ms }))
  }

  @Test("under a clock that the node does not confirm nothing is forgotten, erased or made")
  func wrongClock() async throws {
    _ = try await alice.send(to: [bob.address], body: [1])
    for message in try await bob.receive() { try await bob.acknowledge([message.envelopeID]) }
    let own = try await bob.send(to: [alice.address], body: [2])
    _ = try await alice.send(to: [bob.address], body: [3], options: .short)
    await bob.close()

    for ahead in [Self.yearMs, 0 &- Self.yearMs, 3_600_000] {
      let wrong = try bob(aheadBy: ahead)
      await #expect(throws: EngramError.self) { try await wrong.core.maintain() }
      await #expect(throws: EngramError.self) { try await wrong.receive() }
      #expect(try await wrong.history().bodies == 2)
      #expect(try await !wrong.receipts(of: own.messageID).isEmpty)
      await wrong.close()
    }
    let right = try world.reopen("bob", at: world.globex)
    #expect(try await right.receive().map(\.body) == [[3]])

    // The control: that purge would have left nothing.
    try await right.core.commit { [now = world.clock.nowMs] in try $0.purge(nowMs: now + Self.yearMs) }
    #expect(try await right.history().bodies < 3)
    _ = try await alice.send(to: [bob.address], body: [4], options: .short)
    #expect(try await right.receive().isEmpty, "its prekey is gone")
  }

  @Test("a message that waits for keys is not given up by a wrong clock")
  func queued() async throws {
    world.acme.set { $0.isReachable = false }
    let waits = try await bob.send(to: [alice.address], body: [1], options: .short)
    guard case .queued = waits.state else {
      Issue.record("it should wait: \(waits.state)")
      return
    }
    await bob.close()
    let wrong = try bob(aheadBy: Self.yearMs)
    _ = try? await wrong.resendOutbox()
    await wrong.close()
    world.acme.set { $0.isReachable = true }
    let right = try world.reopen("bob", at: world.globex)
    _ = try await right.resendOutbox()
    #expect(try await alice.receive().map(\.body) == [[1]])

    // The control: in its own time it is given up.
    let carol = try await world.register("carol", at: world.acme)
    world.acme.set { $0.isReachable = false }
    let late = try await right.send(to: [carol.address], body: [2], options: .short)
    world.clock.advance(ms: 7_200_000)
    world.acme.set { $0.isReachable = true }
    _ = try await right.resendOutbox()
    #expect(try await carol.receive().isEmpty)
    #expect(try await right.outbox().first { $0.messageID == late.messageID }?.state == .refused)
  }

  @Test("a prekey that was dated by a wrong clock is replaced")
  func prekeyFromTheFuture() async throws {
    let (core, now) = (bob.core, world.clock.nowMs)
    try await core.commit { rows in
      _ = try rows.makeSignedPrekey(
        core.account.address, device: core.device, acceptedTTLMs: core.account.acceptedTTLMs,
        nowMs: now + Self.yearMs)
    }
    #expect(try await core.read { try $0.newestSignedPrekey()?.notBeforeMs } == now + Self.yearMs, "control")
    world.clock.advance(ms: ClientStoreLimits.prekeyRotationMs)
    try await core.maintain()
    let current = try await core.read { [later = world.clock.nowMs] in
      try $0.newestSignedPrekey(startedBy: later)
    }
    #expect(current?.notBeforeMs == world.clock.nowMs && current?.isPublished == true)
    _ = try await alice.send(to: [bob.address], body: [1])
    #expect(try await bob.receive().map(\.body) == [[1]])
  }

  @Test("who is told that a prekey is gone asks for another before the next message")
  func prekeyGone() async throws {
    _ = try await alice.send(to: [bob.address], body: [0])
    _ = try await bob.receive()
    let core = bob.core
    try await core.commit { [now = world.clock.nowMs] in _ = try $0.erasePrekeys(nowMs: now + Self.yearMs) }
    try await core.maintain()
    let lost = try await alice.send(to: [bob.address], body: [1])
    #expect(try await bob.receive().isEmpty)
    _ = try await alice.receive()
    #expect(try await alice.status(of: lost.messageID).state == .failed, "control")
    _ = try await alice.send(to: [bob.address], body: [2])
    #expect(try await bob.receive().map(\.body).last == [2])
  }
}

extension SendOptions {
  fileprivate static var short: SendOptions {
    var options = SendOptions()
    options.ttlSeconds = 3_600
    return options
  }
}
