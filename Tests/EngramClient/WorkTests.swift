import EngramClientStore
import EngramCore
import Synchronization
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

  @Test("a message that is missing is missing to a consumer too", arguments: ["one", "each"])
  func gaps(_ mode: String) async throws {
    #expect(try await bob.setQueueMode(mode).mode == mode)
    let kid = bob.core.account.kid
    for text in ["first", "second", "third"] { _ = try await send(text) }
    world.globex.set { state in
      guard let box = state.boxes[kid] else { return }
      state.boxes[kid] = box.filter { $0.kind == .certificate || $0.seq != 2 }
    }
    for item in try await bob.lease(max: 3) { try await item.ack() }
    #expect(try await bob.alarms().count == 1, "nobody else could have it: this is the only device")
    #expect(try await bob.gaps().map(\.state) == [.waiting])
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

  /// So many tasks, and a stream that has handed all of them out.
  private func inHand(_ count: Int) async throws -> (WorkStream, [WorkItem]) {
    let tasks = (0..<count).map { OutgoingMessage(to: [bob.address], body: Array("\($0)".utf8)) }
    #expect(try await alice.sendBatch(tasks).count == count)
    let work = try bob.consume(prefetch: count)
    var items = work.makeAsyncIterator()
    var taken: [WorkItem] = []
    while taken.count < count { taken.append(try #require(try await items.next())) }
    return (work, taken)
  }

  private var frames: [Int] { world.globex.state.withLock { $0.work.frames } }

  @Test("words that are said while others are on their way travel together")
  func batches() async throws {
    let (work, items) = try await inHand(200)
    world.globex.set { $0.work.holdsFrames = true }
    for item in items { await item.ackSoon() }
    let core = bob.core
    while try await core.read({ try $0.unsettled(limit: 1_000).count }) < 200 { await Task.yield() }
    world.globex.releaseFrames()
    #expect(await work.flush().isEmpty)
    #expect(frames.reduce(0, +) == 200 && frames.count < 20, "\(frames)")
    #expect(world.globex.waiting(for: bob.core.account.kid).isEmpty)
    await work.close()
    // The control: whoever waits for each answer pays for each.
    let (again, others) = try await inHand(20)
    let before = frames.count
    for item in others { try await item.ack() }
    #expect(frames.count == before + 20)
    await again.close()
  }

  @Test("many messages are acknowledged together, and what was refused among them is told")
  func together() async throws {
    for index in 0..<30 { _ = try await send("\(index)") }
    let items = try await bob.lease(max: 30)
    try #require(items.count == 30)
    try await items[7].ack()
    let before = frames.count
    let failures = await bob.acknowledge(items)
    #expect(failures.map(\.envelopeID) == [items[7].message.envelopeID])
    #expect(failures.first?.error.name == ErrorCode.notLeased.name)
    #expect(frames.count - before < 10, "\(frames)")
    #expect(world.globex.waiting(for: bob.core.account.kid).isEmpty)
  }

  @Test("a word that nobody waits for is not lost with its lease: it is told when asked for")
  func unheard() async throws {
    let sent = try await send("task")
    let work = try bob.consume(prefetch: 2)
    var items = work.makeAsyncIterator()
    let item = try #require(try await items.next())
    world.globex.set { $0.work.leases = [:] }
    await item.ackSoon()
    #expect(await work.flush().map(\.error.name) == [ErrorCode.leaseLost.name])
    #expect(await work.flush().isEmpty, "told once")
    #expect(try await !states(sent).contains("processed"))
    await work.close()
  }

  @Test("a stream that is to end when nothing is left works off what fails on the way too")
  func untilEmpty() async throws {
    for text in ["one", "two", "three"] { _ = try await send(text) }
    var seen: [String] = []
    for try await item in try bob.consume(prefetch: 2, untilEmpty: true) {
      seen.append(text(item))
      if seen.count == 1 { try await item.nack(delaySeconds: 0) } else { await item.ackSoon() }
    }
    #expect(seen.sorted() == ["one", "one", "three", "two"])
    #expect(world.globex.waiting(for: bob.core.account.kid).isEmpty)
    // The control: without work it ends at once.
    for try await item in try bob.consume(untilEmpty: true) { Issue.record("\(text(item)) came") }
  }

  @Test("what a consumer had in hand when it ended is known to have been handed out, by the same id")
  func redelivered() async throws {
    _ = try await send("task")
    let work = try bob.consume()
    var items = work.makeAsyncIterator()
    let first = try #require(try await items.next())
    #expect(!first.isRedelivered, "the control: the first time it is new")
    await work.close()
    world.globex.dropConnections()
    let second = try #require(try await bob.lease().first)
    #expect(second.isRedelivered && second.message.envelopeID == first.message.envelopeID)
    #expect(second.token > first.token)
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
