import EngramClientStore
import EngramCore
import Testing

@testable import EngramClient

@Suite("Consumers of a work queue", .timeLimit(.minutes(2)))
struct WorkTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    world = try TestWorld()
    alice = try await world.register("alice", at: world.acme)
    bob = try await world.register("bob", at: world.globex)
  }

  private func send(_ text: String) async throws -> SentMessage {
    try await alice.send(to: [bob.address], body: Array(text.utf8))
  }

  private func text(_ item: WorkItem) -> String { String(decoding: item.message.body, as: UTF8.self) }

  private func heard() -> [Settlement] { world.globex.state.withLock { $0.work.heard } }

  private func states(_ message: SentMessage) async throws -> [String] {
    _ = try await alice.receive()
    return try await alice.receipts(of: message.messageID).map(\.state)
  }

  @Test("what is acknowledged is processed: the sender has the receipt, and nobody is given it again")
  func acknowledged() async throws {
    let sent = try await send("task")
    let work = try bob.consume(prefetch: 4)
    var items = work.makeAsyncIterator()
    let item = try #require(try await items.next())
    #expect(text(item) == "task" && item.attempt == 1 && item.token > 0 && item.deadline == nil)
    #expect(try await bob.receive().isEmpty, "what is leased is not shown to readers")
    try await item.ack()
    #expect(try await states(sent).contains("processed"))
    #expect(world.globex.waiting(for: bob.core.account.kid).isEmpty)
    await #expect(throws: EngramError.self) { try await item.ack() }
    await work.close()
    #expect(try await bob.lease().isEmpty)
  }

  @Test("a failed attempt comes again, counted, under a greater token, with the same content")
  func again() async throws {
    _ = try await send("task")
    let work = try bob.consume()
    var items = work.makeAsyncIterator()
    let first = try #require(try await items.next())
    try await first.nack(delaySeconds: 1.5)
    let second = try #require(try await items.next())
    #expect(second.attempt == 2 && second.token > first.token && text(second) == "task")
    try await second.nack()
    _ = try #require(try await items.next())
    #expect(
      heard().map(\.verb) == [.nack(delayMs: 1_500, code: .none), .nack(delayMs: nil, code: .none)])
    await #expect(throws: EngramError.self) { try await second.nack(delaySeconds: -1) }
    await work.close()
  }

  @Test("a rejected message is a dead letter; one that fails for good has this device's receipt")
  func rejected() async throws {
    _ = try await send("one")
    let failing = try await send("two")
    let items = try await bob.lease(max: 2)
    try #require(items.map(text) == ["one", "two"])
    await #expect(throws: EngramError.self) { try await items[0].reject(code: 9) }
    try await items[0].reject()
    try await items[1].reject(code: ErrorCode.tooLarge.rawValue, failing: true)
    #expect(world.globex.state.withLock { $0.work.deadLetters.count } == 1)
    #expect(try await states(failing).contains("failed"))
    #expect(try await bob.receive().isEmpty, "a dead letter is not a reader's")
  }

  @Test("a connection that breaks under a running item costs nothing: the word is said on the next one")
  func reconnected() async throws {
    let sent = try await send("task")
    let work = try bob.consume(prefetch: 2)
    var items = work.makeAsyncIterator()
    let item = try #require(try await items.next())
    world.globex.dropConnections()
    // Offered again on the next connection, and not handed out twice: the next item is another message.
    _ = try await send("other")
    let other = try #require(try await items.next())
    #expect(text(other) == "other")
    try await item.ack()
    try await other.ack()
    #expect(try await states(sent).contains("processed"))
    #expect(world.globex.waiting(for: bob.core.account.kid).isEmpty)
    // The control: without an item in hand the same message is handed out after a break.
    _ = try await send("third")
    let third = try #require(try await items.next())
    await work.close()
    world.globex.dropConnections()
    let again = try #require(try await bob.lease().first)
    #expect(again.message.envelopeID == third.message.envelopeID && again.token > third.token)
  }

  @Test("a word that is lost with its connection is said again, and the work is not done twice")
  func lostWord() async throws {
    let sent = try await send("task")
    let work = try bob.consume()
    var items = work.makeAsyncIterator()
    let item = try #require(try await items.next())
    world.globex.set { $0.work.settlementsToLose = 1 }
    try await item.ack()
    _ = try await send("next")
    #expect(text(try #require(try await items.next())) == "next")
    #expect(try await states(sent).contains("processed"))
    await work.close()
  }

  @Test("whoever lost the lease is told so, and the message is another's")
  func stale() async throws {
    let sent = try await send("task")
    let slow = try #require(try await bob.lease().first)
    world.globex.endLeases()
    let quick = try #require(try await bob.lease().first)
    #expect(quick.attempt == 2 && quick.token > slow.token)
    do {
      try await slow.ack()
      Issue.record("a stale token was taken")
    } catch { #expect((error as? EngramError)?.name == ErrorCode.leaseLost.name) }
    #expect(try await !states(sent).contains("processed"))
    // The control: the live lease settles it.
    try await quick.renew()
    try await quick.ack()
    #expect(try await states(sent).contains("processed"))
  }

  @Test(
    "what other devices took is no gap in a shared queue; where every device has its copy it is one",
    arguments: [("one", 0), ("each", 1)])
  func gaps(_ mode: String, _ alarms: Int) async throws {
    #expect(try await bob.setQueueMode(mode).mode == mode)
    let kid = bob.core.account.kid
    for text in ["first", "second", "third"] { _ = try await send(text) }
    world.globex.set { state in
      guard let box = state.boxes[kid] else { return }
      state.boxes[kid] = box.filter { $0.kind == .certificate || $0.seq != 2 }
    }
    for item in try await bob.lease(max: 3) { try await item.ack() }
    #expect(try await bob.alarms().count == alarms)
  }

  @Test("a message that a reader saw can be worked on, and one given back can be read")
  func shared() async throws {
    _ = try await send("task")
    #expect(try await bob.receive().count == 1)
    let item = try #require(try await bob.lease().first)
    #expect(text(item) == "task")
    try await item.nack()
    let reader = try world.reopen("bob", at: world.globex)
    await bob.close()
    #expect(try await reader.receive().map(\.messageID) == [item.message.messageID])
    await reader.close()
  }

  @Test("what no node takes is refused before it is asked")
  func bounds() async throws {
    for prefetch in [0, 1_001] {
      #expect(throws: EngramError.self) { try bob.consume(prefetch: prefetch) }
    }
    for seconds in [0, 43_201] {
      await #expect(throws: EngramError.self) { try await bob.lease(visibilitySeconds: seconds) }
    }
    await #expect(throws: EngramError.self) { try await bob.setQueueMode("all") }
    #expect(
      try await bob.queueState()
        == QueueReport(mode: "each", waiting: 1, held: 2, leased: 3, consumers: 4))
  }
}
