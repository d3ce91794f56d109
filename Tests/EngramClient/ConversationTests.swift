import EngramClientStore
import EngramCore
import EngramCrypto
import Synchronization
import Testing

@testable import EngramClient

@Suite("Conversations, replies and quotes")
struct ConversationTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  private func text(_ message: HistoryMessage) -> String {
    String(decoding: message.body ?? [], as: UTF8.self)
  }

  /// alice asks, bob answers, alice thanks; everything acknowledged.
  private func conversation() async throws -> (question: ReceivedMessage, answer: ReceivedMessage) {
    var options = SendOptions()
    options.type = "QUERY"
    _ = try await alice.send(to: [bob.address], body: Array("one\ntwo\nthree".utf8), options: options)
    let question = try #require(try await bob.receive().first)
    try await bob.acknowledge([question.envelopeID])
    options = SendOptions()
    options.quotes = [Quote(envelopeID: question.envelopeID, lines: 2...3)]
    _ = try await bob.reply(to: question.envelopeID, body: Array("yes".utf8), options: options)
    let answer = try #require(try await alice.receive().first)
    try await alice.acknowledge([answer.envelopeID])
    _ = try await alice.reply(to: answer.envelopeID, body: Array("thanks".utf8))
    return (question, answer)
  }

  @Test("a reply goes back in the thread, as the answering type, to the right people")
  func reply() async throws {
    let (question, answer) = try await conversation()
    #expect(answer.type == "RESPONSE" && answer.replyTo == question.envelopeID)
    #expect(answer.thread == question.thread && answer.from == bob.address && answer.to == [alice.address])
    let thanks = try #require(try await bob.receive().first)
    #expect(
      thanks.type == "DIRECT" && thanks.replyTo == answer.envelopeID && thanks.thread == question.thread)
  }

  @Test("both sides read the same conversation in the same order, their own words among it")
  func show() async throws {
    let (question, _) = try await conversation()
    _ = try await bob.receive()
    for reader in [alice, bob] {
      let thread = try await reader.thread(question.thread)
      #expect(thread.map { text($0.message) } == ["one\ntwo\nthree", "yes", "thanks"])
      #expect(thread.map(\.depth) == [0, 1, 2] && thread.allSatisfy { !$0.isParentMissing })
      #expect(try await reader.thread(question.envelopeID).count == 3, "by one of its messages")
    }
    await #expect(throws: EngramError.self) { try await alice.thread("00") }
  }

  @Test("a quote is looked up in the reader's own copy, and is no secret of the nodes")
  func quotes() async throws {
    let (question, answer) = try await conversation()
    #expect(answer.contentType == "text/plain; charset=utf-8")
    let quote = try #require(answer.quotes.first)
    #expect(quote == Quote(envelopeID: question.envelopeID, lines: 2...3))
    let passage = try #require(try await alice.passage(quote))
    #expect(passage.from == alice.address && passage.text == "two\nthree")
    let unknown = Quote(envelopeID: String(repeating: "0", count: 64))
    #expect(try await alice.passage(unknown) == nil)
    let posted = world.globex.state.withLock { $0.posted }.joined()
    #expect(!String(decoding: posted, as: UTF8.self).contains("quote="))
  }

  @Test("threads are listed by their newest message, page by page, while others grow")
  func list() async throws {
    var threads: [String] = []
    for index in 0..<6 {
      _ = try await alice.send(to: [bob.address], body: [UInt8(index)])
      threads.append(try #require(try await bob.receive().first).thread)
    }
    let first = try await bob.threads(limit: 4)
    #expect(first.items.map(\.thread) == threads[2...].reversed())
    #expect(first.items.allSatisfy { $0.messages == 1 && $0.open == 1 && $0.senders == [alice.address] })
    // A thread of the second page grows, and a new one begins.
    var options = SendOptions()
    options.thread = threads[0]
    _ = try await alice.send(to: [bob.address], body: [9], options: options)
    _ = try await alice.send(to: [bob.address], body: [9])
    #expect(try await bob.receive().count == 2)
    let second = try await bob.threads(limit: 4, cursor: first.next)
    #expect(second.items.map(\.thread) == [threads[1], threads[0]] && second.next == nil)
    #expect(try await bob.threads(limit: 4).items[1].thread == threads[0], "control: it is near the top now")
    await #expect(throws: EngramError.self) { try await bob.threads(cursor: "AAAA") }
  }

  @Test("a parent in another thread is refused before anything is kept, and by the receiver too")
  func foreignParent() async throws {
    let (question, _) = try await conversation()
    _ = try await bob.receive()
    let before = try await alice.outbox().count
    var options = SendOptions()
    options.replyTo = question.envelopeID
    options.thread = String(repeating: "ab", count: 16)
    let asked = options
    let error = await #expect(throws: EngramError.self) {
      try await alice.send(to: [bob.address], body: [], options: asked)
    }
    #expect(error?.code == ErrorCode.parentInvalid.rawValue && error?.kind == .badInput)
    #expect(try await alice.outbox().count == before)

    // A sender that does not keep to it: the same draft without the check.
    let outgoing = OutgoingMessage(to: [bob.address], body: [7], options: options)
    let draft = try Draft(outgoing, nowMs: world.clock.nowMs)
    _ = try await alice.core.submit([draft])
    options.thread = question.thread
    let good = try await alice.send(to: [bob.address], body: [8], options: options)
    let received = try await bob.receive()
    #expect(received.map(\.body) == [[8]], "control: the right thread is taken")
    #expect(received.allSatisfy { !$0.isAfterGap }, "the refused one has its place in the chain")
    #expect(good.state == .accepted)
    let status = try await alice.status(of: draft.messageID.description, fetching: true)
    #expect(status.state == .failed && status.recipients[0].devices[0].codeName == "parent-invalid")
  }

  @Test("a message that is no longer kept is answered with its thread and a recipient")
  func expiredParent() async throws {
    let (question, _) = try await conversation()
    try await bob.acknowledge(try await bob.receive().map(\.envelopeID))
    #expect(try await bob.thread(question.thread).allSatisfy { $0.message.hasBody }, "control")
    try await bob.setHistoryRetention(seconds: 0)
    let shown = try await bob.thread(question.thread)
    #expect(!shown.isEmpty && shown.allSatisfy { !$0.message.hasBody })
    #expect(try await bob.message(question.envelopeID).from == alice.address, "control: its header is there")

    let gone = String(repeating: "12", count: 32)
    await #expect(throws: EngramError.self) { try await bob.reply(to: gone, body: [1]) }
    var options = SendOptions()
    options.thread = question.thread
    let sent = try await bob.reply(to: gone, body: [1], recipients: [alice.address], options: options)
    let status = try await bob.status(of: sent.messageID)
    #expect(status.thread == question.thread)
    let orphans = try await bob.thread(question.thread).filter(\.isParentMissing)
    #expect(orphans.map(\.message.messageID) == [sent.messageID])
  }

  @Test("reply to all reaches everybody but oneself; a reply to one's own message goes to its recipients")
  func audiences() async throws {
    let carol = try await world.register("carol", at: world.acme)
    let sent = try await alice.send(to: [bob.address, carol.address, alice.address], body: [1])
    let received = try #require(try await bob.receive().first)
    _ = try await bob.reply(to: received.envelopeID, body: [2], toAll: true)
    #expect(try await carol.receive().map(\.body) == [[1], [2]])
    #expect(try await alice.receive().map(\.body) == [[1], [2]])
    let own = try await alice.reply(to: try #require(sent.envelopeID), body: [3])
    #expect(
      Set(try await alice.status(of: own.messageID).recipients.map(\.address)).isSuperset(of: [bob.address]))
  }

  @Test(
    "labels, times and quotes that cannot be used are refused before anything is kept",
    arguments: [
      "bad-label", "bad-ttl", "bad-not-before", "bad-quote", "bad-type", "bad-priority", "bad-thread",
    ])
  func badInput(_ name: String) async throws {
    var options = SendOptions()
    switch name {
    case "bad-label": options.labels = ["Upper": "case"]
    case "bad-ttl": options.ttlSeconds = Limits.ttlMsMax / 1_000 + 1
    case "bad-not-before": options.notBeforeMs = world.clock.nowMs - 1
    case "bad-quote": options.quotes = [Quote(envelopeID: "0")]
    case "bad-type": options.type = "SHOUT"
    case "bad-priority": options.priority = "HIGHEST"
    default: options.thread = "0"
    }
    let asked = options
    let error = await #expect(throws: EngramError.self) {
      try await alice.send(to: [bob.address], body: [], options: asked)
    }
    #expect(error?.name == name && error?.kind == .badInput)
    #expect(try await alice.outbox().isEmpty)
    #expect(try await alice.threads().items.isEmpty)
  }
}
