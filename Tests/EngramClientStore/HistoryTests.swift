import EngramClientStore
import EngramCore
import EngramCrypto
import EngramSealing
import Testing

@Suite("The history and its index")
struct HistoryTests {
  private let home: Home
  private let keys = ClientKeys()
  private let alice: Person
  private let bob: Person

  init() throws {
    (home, alice, bob) = try (Home(), Person("alice@acme.example"), Person("bob@globex.example"))
  }

  private func open() throws -> ClientStore {
    let store = try home.open(keys)
    if (try? store.read { try $0.account() }) == nil {
      try store.write {
        try $0.insertAccount(
          AccountRow(
            address: bob.address, identity: bob.identity.publicKey, kid: bob.device.kid,
            nodeID: NodeID(SigningKey().publicKey), endpoint: "127.0.0.1:1", serverName: "globex.example",
            certificate: bob.certificate.bytes, deviceList: [1], pendingRegistration: nil))
      }
    }
    return store
  }

  private func opened(
    _ body: String, labels: [Label] = [], type: MessageType = .direct, contentType: String = "text/plain"
  ) throws -> OpenedMessage {
    var message = request(body)
    (message.labels, message.type, message.contentType) = (labels, type, contentType)
    let sealed = try seal(message, from: alice.address, for: [bob.recipient()], device: alice.device)
    let verified = try VerifiedEnvelope(UnverifiedEnvelope(parsing: sealed.bytes), sender: alice.certificate)
    return try EngramSealing.open(verified, as: bob.address, kid: bob.device.kid) { _ in bob.prekey }
  }

  /// Keeps messages in order; ids as given out.
  @discardableResult
  private func keep(_ messages: [OpenedMessage], in store: ClientStore, nowMs: UInt64 = now) throws
    -> [EnvelopeID]
  {
    try store.write { rows in
      for message in messages { try rows.insertMessage(message, seq: 1, isAfterGap: false, nowMs: nowMs) }
    }
    return messages.map(\.id)
  }

  private func index(_ store: ClientStore) throws {
    while try store.write({ try $0.indexHistory(limit: 3) }) == 3 {}
  }

  private func find(
    _ store: ClientStore, below row: Int64 = .max, limit: Int = 100, _ change: (inout HistoryFilter) -> Void
  ) throws -> [EnvelopeID] {
    var filter = HistoryFilter()
    change(&filter)
    return try store.read { try $0.search(filter, below: row, limit: limit) }.map(\.envelopeID)
  }

  @Test("words of bodies and labels are found, and neither they nor their index are readable at rest")
  func atRest() throws {
    let store = try open()
    let label = Label(key: "project", value: "chrysanthemum")
    let ids = try keep(
      [try opened("the quarterly rhododendron forecast", labels: [label]), try opened("nothing here")],
      in: store)
    try index(store)
    #expect(try find(store) { $0.text = TextQuery("RHODODENDRON forecasts") } == [ids[0]])
    #expect(try find(store) { $0.labels = [("project", "chrysanthemum")] } == [ids[0]])
    #expect(try find(store) { $0.text = TextQuery("azalea") }.isEmpty)
    try store.close()

    let bytes = try home.allBytes()
    #expect(bytes.contains(Array(alice.address.text.utf8)), "control: what is in the clear is found")
    for secret in ["rhododendron", "quarterly", "chrysanthemum", "project", "text/plain"] {
      #expect(!bytes.contains(Array(secret.utf8)), "\(secret)")
    }
  }

  @Test("the same words under another key are other tokens")
  func keyed() throws {
    let store = try open()
    let ids = try keep([try opened("rhododendron")], in: store)
    try index(store)
    #expect(try find(store) { $0.text = TextQuery("rhododendron") } == ids, "control")
    try store.close()
    let stranger = try ClientStore(home: home.path, storageKey: SecretBytes.random(StorageBox.keyBytes))
    // Nothing is found, so nothing has to be opened, which would fail.
    #expect(try find(stranger) { $0.text = TextQuery("rhododendron") }.isEmpty)
  }

  @Test("every filter narrows, and all of them have to hold")
  func filters() throws {
    let store = try open()
    let urgent = try opened("deploy failed", labels: [Label(key: "env", value: "prod")], type: .error)
    let calm = try opened("deploy worked", labels: [Label(key: "env", value: "test")], type: .info)
    let binary = try opened("deploy", contentType: "application/octet-stream")
    let ids = try keep([urgent, calm, binary], in: store)
    try index(store)
    #expect(try find(store) { _ in } == ids.reversed(), "newest first")
    #expect(try find(store) { $0.text = TextQuery("deploy") } == [ids[1], ids[0]], "only text is indexed")
    #expect(try find(store) { $0.type = .error } == [ids[0]])
    #expect(try find(store) { $0.labels = [("env", nil)] } == [ids[1], ids[0]])
    #expect(try find(store) { $0.labels = [("env", "prod")] } == [ids[0]])
    #expect(try find(store) { $0.thread = calm.header.thread } == [ids[1]])
    #expect(try find(store) { $0.sender = alice.address }.count == 3)
    #expect(try find(store) { $0.recipient = bob.address }.count == 3)
    #expect(try find(store) { $0.recipient = alice.address }.isEmpty)
    #expect(try find(store) { $0.priority = .critical }.isEmpty)
    #expect(try find(store) { $0.sinceMs = now + 1 }.isEmpty)
    #expect(try find(store) { ($0.sinceMs, $0.untilMs) = (now, now + 1) }.count == 3, "control")
    #expect(
      try find(store) {
        ($0.text, $0.type) = (TextQuery("deploy"), .info)
        $0.labels = [("env", "prod")]
      }.isEmpty)
  }

  @Test("an exact search meets the word alone, a stemmed one its other forms too")
  func stemming() throws {
    let store = try open()
    let ids = try keep(["report", "reports", "reported", "reporter"].map { try opened($0) }, in: store)
    try index(store)
    for word in ["report", "reports", "REPORTED"] {
      #expect(try find(store) { $0.text = TextQuery(word) } == [ids[2], ids[1], ids[0]])
    }
    #expect(try find(store) { $0.text = TextQuery("report", stems: false) } == [ids[0]])
    #expect(try find(store) { $0.text = TextQuery("reports", stems: false) } == [ids[1]])
  }

  @Test("pages neither skip nor repeat while messages are kept and forgotten between them")
  func stablePages() throws {
    let store = try open()
    let first = try keep(try (0..<10).map { try opened("note \($0)") }, in: store)
    try index(store)
    var (seen, below): ([EnvelopeID], Int64) = ([], .max)
    var filter = HistoryFilter()
    filter.text = TextQuery("note")
    while true {
      let page = try store.read { [below, filter] in try $0.search(filter, below: below, limit: 3) }
      guard let last = page.last else { break }
      seen += page.map(\.envelopeID)
      below = last.row
      // Newer ones arrive; an old one that was shown loses its body.
      try keep([try opened("note between")], in: store)
      try store.write { try $0.complete(page[0].envelopeID, receipt: [1]) }
      try index(store)
    }
    #expect(seen == first.reversed())
    #expect(try find(store) { $0.text = TextQuery("note") }.count == 14, "control: the new ones are there")
  }

  @Test("a body goes with its retention, its words with it, its header a year later; unread ones stay")
  func retention() throws {
    let store = try open()
    let ids = try keep([try opened("read already"), try opened("read never")], in: store)
    try store.write { try $0.complete(ids[0], receipt: [1]) }
    try index(store)
    func state() throws -> [Bool?] {
      try store.read { rows in try ids.map { try rows.message($0)?.hasBody } }
    }
    let end = now + HistoryLimits.retentionMs
    try store.write { try $0.purge(nowMs: end - 1) }
    #expect(try state() == [true, true], "control")
    #expect(try find(store) { $0.text = TextQuery("already") } == [ids[0]], "control")
    try store.write { try $0.purge(nowMs: end) }
    #expect(try state() == [false, true])
    #expect(try find(store) { $0.text = TextQuery("already") }.isEmpty)
    #expect(try find(store) { $0.text = TextQuery("never") } == [ids[1]])
    #expect(try store.read { try $0.lineage(of: ids[0]) } != nil, "a late reply finds its thread")
    try store.write { try $0.purge(nowMs: end + HistoryLimits.headersMs) }
    #expect(try state() == [nil, true])
  }

  @Test("without a retention a body goes as soon as it is acknowledged, and own ones are not kept at all")
  func noRetention() throws {
    let store = try open()
    try store.write { try $0.setHistoryRetention(ms: 0) }
    let ids = try keep([try opened("short-lived rhododendron")], in: store)
    #expect(try store.read { try $0.body(of: ids[0]) } != nil, "the application has yet to take it")
    try index(store)
    try store.write { rows in
      try rows.complete(ids[0], receipt: [1])
      try rows.keepSent(
        try opened("x").header, fresh32(), contentType: "text/plain", body: Array("own words".utf8),
        nowMs: now
      )
    }
    #expect(try store.read { try $0.body(of: ids[0]) } == nil)
    #expect(try store.read { try $0.historySize() }.bodies == 0)
    #expect(try find(store) { $0.text = TextQuery("rhododendron") }.isEmpty)
    #expect(try store.read { try $0.message(ids[0]) } != nil, "control")
  }

  @Test("a row number is not used again after its message was forgotten")
  func rowsAreNotReused() throws {
    let store = try open()
    let ids = try keep([try opened("one")], in: store)
    try index(store)
    try store.write { rows in
      try rows.complete(ids[0], receipt: [1])
      try rows.purge(nowMs: now + HistoryLimits.retentionMs + HistoryLimits.headersMs)
    }
    #expect(try store.read { try $0.newestRow() } == 0, "control: the history is empty")
    let next = try keep([try opened("two")], in: store)
    #expect(try store.read { try $0.isIndexBehind() })
    try index(store)
    #expect(try find(store) { $0.text = TextQuery("two") } == next)
  }
}
