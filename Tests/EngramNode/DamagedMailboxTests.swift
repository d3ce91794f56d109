import EngramCore
import EngramNode
import EngramSealing
import Foundation
import TestSupport
import Testing

@Suite("Damaged rows in mailboxes")
struct DamagedMailboxTests {
  let directory: TemporaryDirectory
  let alice: TestDevice
  let bob: TestDevice

  init() throws {
    directory = try TemporaryDirectory()
    (alice, bob) = try (TestDevice("alice@acme.example"), TestDevice("bob@acme.example"))
  }

  private func open() throws -> NodeFixture { try NodeFixture("acme.example", directory: directory) }

  /// Changes one byte in the middle of a stored value, as a disk would.
  private func damage(_ pattern: ArraySlice<UInt8>) throws {
    let url = URL(fileURLWithPath: directory.file("node.db"))
    var bytes = try Data(contentsOf: url)
    let place = try #require(bytes.range(of: Data(pattern)))
    bytes[place.lowerBound + pattern.count / 2] ^= 1
    try bytes.write(to: url)
  }

  /// Reads until the damaged row is out of the way; a commit takes it out after the first read found it.
  private func eventually(_ fixture: NodeFixture, _ session: ClientSession) throws -> [MailboxItem] {
    for _ in 0..<1_000 {
      if let items = try? fixture.items(session) { return items }
      try fixture.sweep()
    }
    return try fixture.items(session)
  }

  @Test("a damaged message is set aside, what is behind it arrives, and the sender gets a failed receipt")
  func message() throws {
    let first = try open()
    let (session, _) = try (first.join(alice), first.join(bob))
    let batch = try ["one", "two"].map { try sealText($0, from: alice, to: [bob]).bytes }
    #expect(first.send(batch, session).map(\.outcome) == [.accepted, .accepted])
    try first.stop()
    // Inside the ciphertext, which ends where the signature's field begins.
    try damage(batch[0].dropLast(68).suffix(40))
    let second = try open()
    let bobSession = try second.login(bob)
    #expect(throws: ErrorCode.damagedRow) { try second.items(bobSession) }
    let items = try eventually(second, bobSession)
    #expect(items.filter { $0.kind == .envelope }.map(\.payload) == [batch[1]])
    let told = try second.receipts(second.login(alice)).map(\.body)
    #expect(told.map(\.state) == [.failed])
    #expect(told.map(\.code) == [.damagedRow])
    #expect(second.node.metrics.value(.damagedRows) >= 1)
  }

  @Test("a damaged receipt row is removed, and what is behind it arrives")
  func notice() throws {
    let first = try open()
    let (session, bobSession) = try (first.join(alice), first.join(bob))
    var receipts: [[UInt8]] = []
    for text in ["one", "two"] {
      let sealed = try sealText(text, from: alice, to: [bob])
      #expect(first.send(sealed.bytes, session).outcome == .accepted)
      receipts.append(try bob.receipt(about: sealed.bytes))
      let item = try #require(first.items(bobSession).last)
      let ack = MailboxAck(seq: item.seq, receipt: receipts[receipts.count - 1])
      #expect(first.acknowledge([ack], bobSession).map(\.outcome) == [.accepted])
    }
    try first.stop()
    let control = try open()
    #expect(try control.receipts(control.login(alice)).count == 2, "control: undamaged")
    try control.stop()
    try damage(receipts[0].suffix(40))
    let second = try open()
    let again = try second.login(alice)
    #expect(throws: ErrorCode.damagedRow) { try second.items(again) }
    let items = try eventually(second, again)
    #expect(items.map(\.kind) == [.receipt])
    #expect(try splitBatch(items[0].payload[...]).map { Array($0) } == [receipts[1]])
  }
}
