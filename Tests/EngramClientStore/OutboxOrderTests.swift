import EngramClientStore
import EngramCore
import EngramCrypto
import EngramSealing
import Testing

@Suite("Order of what waits, and places of what was sent")
struct OutboxOrderTests {
  private let home: Home
  private let keys = ClientKeys()
  private let alice: Person
  private let bob: Person

  init() throws {
    (home, alice, bob) = try (Home(), Person("alice@acme.example"), Person("bob@globex.example"))
  }

  private func open() throws -> ClientStore { try home.open(keys) }

  @Test(
    "sealed messages wait in the order in which they were sealed, whatever the clock said, restarts included"
  )
  func sealedOrder() throws {
    var ids: [MessageID] = []
    // The clock is set back twice, once across midnight of a year.
    for (step, clock) in [now, now + 5, now - 86_400_000, now - 1, now - 31_536_000_000].enumerated() {
      let store = try open()
      var message = request("\(step)")
      message.createdMs = clock
      let sealed = try seal(message, from: alice.address, for: [bob.recipient()], device: alice.device)
      try store.write {
        try $0.insertSealed(
          message.messageID, envelope: sealed.id, bytes: sealed.bytes, createdMs: clock,
          expiresMs: message.expiresMs)
      }
      ids.append(message.messageID)
      try store.close()
    }
    let store = try open()
    #expect(try store.read { try $0.waiting(limit: 10) }.map(\.messageID) == ids)
    #expect(try store.read { try $0.waiting(limit: 2) }.map(\.messageID) == Array(ids.prefix(2)))
    #expect(try store.read { try $0.outbox(limit: 10) }.map(\.messageID) == ids.reversed())
  }

  @Test("unsealed messages wait in the order in which they were given, whatever the clock said")
  func queuedOrder() throws {
    let store = try open()
    let drafts = [now, now - 1_000, now + 5].map { clock in
      Draft(
        messageID: fresh16(), recipients: [bob.address], type: .direct, priority: .normal, thread: fresh16(),
        parent: nil, createdMs: clock, expiresMs: now + 60_000, notBeforeMs: 0, contentType: "text/plain",
        body: [1], mayCompress: false)
    }
    try store.write { rows in for draft in drafts { try rows.enqueue(draft, code: .none) } }
    let alive = try store.read { try $0.queuedAlive(limit: 10) }
    #expect(alive.map(\.queued.draft) == drafts)
    let rest = try store.read { try $0.queuedAlive(after: alive[0].row, limit: 10) }
    #expect(rest.map(\.queued.draft) == Array(drafts.dropFirst()))
  }

  @Test("a draft keeps its kind, its labels and its topic in the queue")
  func draftFields() throws {
    let store = try open()
    var draft = Draft(
      messageID: fresh16(), recipients: [bob.address], type: .info, priority: .high, thread: fresh16(),
      parent: fresh32(), createdMs: now, expiresMs: now + 60_000, notBeforeMs: now + 1, contentType: "a/b",
      body: [1, 2], mayCompress: true)
    draft.kind = .control
    draft.labels = [Label(key: "a", value: "1"), Label(key: "b", value: "")]
    draft.topic = "builds.linux"
    try store.write { [draft] in try $0.enqueue(draft, code: .none) }
    #expect(try store.read { try $0.queued(draft.messageID) }?.draft == draft)
  }

  @Test(
    "what is missing of a span is told in ranges",
    arguments: [
      (1...5, [], [1...5]), (1...5, [1, 2, 3, 4, 5], []), (2...6, [4], [2...3, 5...6]),
      (2...6, [1, 2, 6, 7], [3...5]), (7...7, [7], []), (1...3, [3], [1...2]),
    ] as [(ClosedRange<UInt64>, [UInt64], [ClosedRange<UInt64>])])
  func missing(_ span: ClosedRange<UInt64>, _ present: [UInt64], _ missing: [ClosedRange<UInt64>]) {
    #expect(missingRanges(of: span, present: present) == missing)
  }

  @Test("ranges have one encoding; anything else is refused")
  func rangeEncoding() throws {
    let ranges: [ClosedRange<UInt64>] = [1...1, 3...9]
    #expect(try parseRanges(encodeRanges(ranges)[...]) == ranges, "control")
    for wrong: [ClosedRange<UInt64>] in [[3...9, 1...1], [1...3, 3...4], [0...1]] {
      #expect(throws: CodecError.nonCanonical) { try parseRanges(encodeRanges(wrong)[...]) }
    }
    let reversed = fields {
      $0.field(UInt64(5))
      $0.field(UInt64(4))
    }
    #expect(throws: CodecError.nonCanonical) { try parseRanges(reversed[...]) }
    #expect(throws: CodecError.truncated) { try parseRanges(encodeRanges(ranges).dropLast()) }
    let many = (0...UInt64(rangesMax)).map { (2 * $0 + 1)...(2 * $0 + 1) }
    #expect(throws: CodecError.tooLarge) { try parseRanges(encodeRanges(many)[...]) }
  }

  @Test("a request for stubs is owed until it is answered, and one device is answered only so often")
  func debts() throws {
    let store = try open()
    func owe(_ range: ClosedRange<UInt64>, at ms: UInt64) throws -> [ClosedRange<UInt64>]? {
      try store.write { rows in
        try rows.oweStubs(
          StubDebt(kid: bob.device.kid, address: bob.address, ranges: [range]), intervalMs: 60_000, nowMs: ms)
        return try rows.stubDebts().first?.ranges
      }
    }
    #expect(try owe(1...2, at: now) == [1...2])
    #expect(try owe(4...5, at: now) == [4...5], "the newer request replaces one that was not answered")
    try store.write { try $0.settleStubDebt(to: bob.device.kid, nowMs: now) }
    #expect(try owe(1...2, at: now + 59_999) == nil)
    #expect(try owe(1...2, at: now + 60_000) == [1...2], "control")
  }
}
