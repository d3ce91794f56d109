import EngramCore
import EngramStore
import GRDB
import Testing

@Suite("Topics in the store")
struct TopicTests {
  private let folder: Folder
  private let store: Store
  private let acme = try! NodeName("acme.example")
  private let globex = try! NodeName("globex.example")

  init() throws {
    folder = try Folder()
    store = try folder.open()
  }

  private func row(_ pattern: String, _ address: String, at node: NodeName? = nil) throws -> SubscriptionRow {
    SubscriptionRow(
      node: node ?? acme, pattern: try TopicPattern(pattern), address: try Address(address), kid: kid(1),
      sinceMs: now)
  }

  private func subscribe(_ rows: [SubscriptionRow]) throws {
    try store.write { transaction in
      for row in rows { _ = try transaction.insertSubscription(row) }
    }
  }

  private func members(_ topic: String, after: String? = nil, max: Int = 100) throws -> [String] {
    try store.read { snapshot in
      try snapshot.members(
        of: try Topic(topic), at: acme, after: try after.map { try Address($0) }, maxCount: max
      ).map(\.text)
    }
  }

  @Test("members are those whose pattern matches, each once, ascending, of this topic's node only")
  func membership() throws {
    try subscribe([
      row("orders.new", "c@acme.example"), row("orders.*", "a@globex.example"),
      row("orders.>", "a@globex.example"), row(">", "b@acme.example"), row("*.new", "d@acme.example"),
      row("orders.old", "e@acme.example"), row("orders.new", "f@acme.example", at: globex),
    ])
    let expected = ["a@globex.example", "b@acme.example", "c@acme.example", "d@acme.example"]
    #expect(try members("orders.new") == expected)
    #expect(try members("orders.old.eu") == ["a@globex.example", "b@acme.example"])
    #expect(try members("other") == ["b@acme.example"])
    #expect(try members("orders.new", after: "b@acme.example", max: 1) == ["c@acme.example"])
    #expect(try members("orders.new", max: 2) == Array(expected.prefix(2)))
  }

  @Test("a subscription is one row however often it is made, and its end takes effect at once")
  func once() throws {
    let row = try row("orders.*", "a@acme.example")
    let results = try store.write { transaction in
      (try transaction.insertSubscription(row), try transaction.insertSubscription(row))
    }
    #expect(results == (true, false))
    #expect(try members("orders.new") == ["a@acme.example"], "the control")
    let removed = try store.write { transaction in
      (
        try transaction.removeSubscription(row.pattern, at: acme, of: row.address),
        try transaction.removeSubscription(row.pattern, at: acme, of: row.address)
      )
    }
    #expect(removed == (true, false))
    #expect(try members("orders.new").isEmpty)
  }

  @Test("a disabled client is no member")
  func disabled() throws {
    let address = try Address("a@acme.example")
    try store.write { transaction in
      try transaction.insertClient(
        ClientRow(
          address: address, identity: SigningPublicKey(digest(1).bytes)!, list: [1], listVersion: 1, home: 0,
          isDisabled: false, createdMs: now))
      _ = try transaction.insertSubscription(try row("orders.new", address.text))
    }
    #expect(try members("orders.new") == [address.text])
    #expect(try store.read { try $0.localAddresses(after: nil, maxCount: 9) } == [address])
    try store.write { try $0.setDisabled(address, true) }
    #expect(try members("orders.new").isEmpty)
    #expect(try store.read { try $0.localAddresses(after: nil, maxCount: 9) }.isEmpty)
  }

  @Test("a client's own list holds what it asked for at every node, and rows are counted per client and node")
  func lists() throws {
    try subscribe([
      row("b.*", "a@acme.example"), row("a", "a@acme.example", at: globex), row("a", "b@acme.example"),
      row("a", "c@globex.example"),
    ])
    let own = try store.read { try $0.subscriptions(of: try Address("a@acme.example")) }
    #expect(own.map { "\($0.pattern)@\($0.node)" } == ["b.*@acme.example", "a@globex.example"])
    let counts = try store.read { try $0.subscriptionCounts(for: try Address("a@acme.example")) }
    #expect(counts.ofClient == 2 && counts.ofClientsNode == 3 && counts.all == 4)
  }

  @Test("publishers that keep a value are found by pattern")
  func retained() throws {
    let rows = try [
      ("orders.new", "p@acme.example"), ("orders.old", "p@acme.example"), ("x", "q@globex.example"),
    ]
    .map { RetainRow(node: acme, topic: try Topic($0), address: try Address($1)) }
    try store.write { transaction in
      for row in rows + rows { try transaction.insertRetain(row) }
    }
    func found(_ pattern: String) throws -> [String] {
      try store.read {
        try $0.retained(matching: try TopicPattern(pattern), at: acme, maxCount: 9).map(\.topic.text)
      }
    }
    #expect(try found("orders.*") == ["orders.new", "orders.old"])
    #expect(try found("orders.new") == ["orders.new"])
    #expect(try found(">") == ["orders.new", "orders.old", "x"])
    #expect(try found("*.new") == ["orders.new"])
    #expect(try found("y").isEmpty)
    #expect(try store.read { try $0.isRetained(rows[0]) })
    try store.write { try $0.removeRetain(rows[0]) }
    #expect(try !store.read { try $0.isRetained(rows[0]) })
    #expect(try found("orders.*") == ["orders.old"])
  }

  @Test("a damaged subscription is never handed out")
  func damage() throws {
    try subscribe([row("orders.new", "a@acme.example")])
    try store.close()
    try folder.raw { try $0.execute(sql: "UPDATE subscription SET pattern = 'orders..new'") }
    let again = try folder.open()
    #expect(throws: StoreError.damaged(.subscription, row: 0)) {
      try again.read { try $0.members(of: try Topic("orders.new"), at: acme, after: nil, maxCount: 9) }
    }
  }

  @Test("notices keep their kind and are counted by it")
  func noticeKinds() throws {
    let mailbox = try store.write { transaction in
      let mailbox = try transaction.createMailbox(.device, owner: kid(1).bytes)
      try transaction.insertNotice(mailbox: mailbox, seq: 1, bytes: [1], nowMs: now)
      try transaction.insertNotice(mailbox: mailbox, seq: 2, kind: .notice, bytes: [2], nowMs: now)
      return mailbox
    }
    let rows = try store.read { try $0.notices(mailbox, after: 0, maxCount: 9, maxBytes: 99) }
    #expect(rows.map(\.kind) == [.receipt, .notice])
    #expect(try store.read { try $0.noticeCount(mailbox, kind: .notice) } == 1)
  }
}
