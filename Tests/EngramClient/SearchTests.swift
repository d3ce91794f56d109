import EngramClientStore
import EngramCore
import Testing

@testable import EngramClient

@Suite("Search over what was opened and sent")
struct SearchTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  private func send(_ text: String, _ change: (inout SendOptions) -> Void = { _ in }) async throws
    -> SentMessage
  {
    var options = SendOptions()
    change(&options)
    return try await alice.send(to: [bob.address], body: Array(text.utf8), options: options)
  }

  private func find(_ client: EngramClient, _ change: (inout SearchQuery) -> Void) async throws -> [String] {
    var query = SearchQuery()
    change(&query)
    return try await client.search(query).items.map(\.messageID)
  }

  @Test(
    "sent and received messages are found by words, phrases and headers, before and after acknowledgement")
  func both() async throws {
    let one = try await send("The build failed on Linux") {
      ($0.type, $0.priority) = ("ERROR", "HIGH")
      $0.labels = ["project": "apollo"]
    }
    let two = try await send("failed to build trust")
    let received = try await bob.receive()
    for (client, word) in [(alice, "own"), (bob, "received")] {
      #expect(
        try await find(client) { $0.text = "failed BUILDS" } == [two.messageID, one.messageID], "\(word)")
      #expect(try await find(client) { $0.text = "\"build failed\"" } == [one.messageID])
      #expect(try await find(client) { ($0.text, $0.stems) = ("builds", false) }.isEmpty)
      #expect(try await find(client) { ($0.type, $0.priority) = ("ERROR", "HIGH") } == [one.messageID])
      #expect(try await find(client) { $0.labels = [("project", "apollo")] } == [one.messageID])
      #expect(try await find(client) { ($0.from, $0.to) = (alice.address, bob.address) }.count == 2)
      #expect(try await find(client) { $0.from = bob.address }.isEmpty)
      #expect(try await find(client) { $0.thread = received[1].thread } == [two.messageID])
    }
    try await bob.acknowledge(received.map(\.envelopeID))
    #expect(try await find(bob) { $0.text = "linux" } == [one.messageID])
  }

  @Test("states are the words of `status`, on both sides")
  func states() async throws {
    let one = try await send("first")
    let two = try await send("second")
    #expect(try await find(alice) { $0.state = .pending } == [two.messageID, one.messageID])
    let received = try await bob.receive()
    #expect(try await find(bob) { $0.state = .delivered }.count == 2)
    try await bob.acknowledge([received[0].envelopeID])
    #expect(try await find(bob) { $0.state = .delivered } == [two.messageID])
    #expect(try await find(bob) { $0.state = .processed } == [one.messageID])
    _ = try await alice.status(of: one.messageID, fetching: true)
    #expect(try await find(alice) { $0.state = .processed } == [one.messageID])
    #expect(try await find(alice) { $0.state = .failed }.isEmpty)
  }

  @Test("pages follow each other without gap or repetition while messages arrive")
  func pages() async throws {
    var sent: [String] = []
    for index in 0..<7 { sent.append(try await send("note \(index)").messageID) }
    _ = try await bob.receive()
    var query = SearchQuery()
    query.text = "note"
    var (seen, cursor): ([String], String?) = ([], nil)
    repeat {
      let page = try await bob.search(query, limit: 3, cursor: cursor)
      seen += page.items.map(\.messageID)
      cursor = page.next
      _ = try await send("note in between")
      _ = try await bob.receive()
    } while cursor != nil
    #expect(seen == sent.reversed())
    #expect(try await bob.search(query).items.count > 7, "control")
  }

  @Test("a cursor belongs to its filters, and a query has to make sense")
  func badQueries() async throws {
    for index in 0..<3 { _ = try await send("note \(index)") }
    var query = SearchQuery()
    query.text = "note"
    let cursor = try #require(try await alice.search(query, limit: 1).next)
    #expect(try await alice.search(query, limit: 1, cursor: cursor).items.count == 1, "control")
    var other = query
    other.state = .pending
    var wordless = SearchQuery()
    wordless.text = "?!"
    var backwards = SearchQuery()
    (backwards.sinceMs, backwards.untilMs) = (10, 10)
    var nobody = SearchQuery()
    nobody.from = "Nobody"
    for (query, cursor, name) in [
      (other, cursor, "bad-cursor"), (query, "x", "bad-cursor"), (wordless, nil, "bad-text"),
      (backwards, nil, "bad-time"), (nobody, nil, "bad-address"),
    ] as [(SearchQuery, String?, String)] {
      let error = await #expect(throws: EngramError.self) { try await alice.search(query, cursor: cursor) }
      #expect(error?.name == name && error?.kind == .badInput)
    }
  }

  @Test("the retention is a setting; a shorter one takes effect at once")
  func retention() async throws {
    _ = try await send("to be forgotten")
    let message = try #require(try await bob.receive().first)
    try await bob.acknowledge([message.envelopeID])
    #expect(try await bob.history().bodies == 1)
    #expect(try await bob.history().retentionSeconds == 90 * 86_400, "control")
    world.clock.advance(ms: 86_400_000)
    try await bob.setHistoryRetention(seconds: 86_400)
    let history = try await bob.history()
    #expect(history.bodies == 0 && history.messages == 1 && history.retentionSeconds == 86_400)
    await #expect(throws: EngramError.self) { try await bob.setHistoryRetention(seconds: .max) }
  }
}
