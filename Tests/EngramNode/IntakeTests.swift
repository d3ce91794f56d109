import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import EngramStore
import TestSupport
import Testing

@Suite("Intake")
struct IntakeTests {
  let fixture: NodeFixture
  let alice: TestDevice
  let bob: TestDevice
  let aliceSession: ClientSession
  let bobSession: ClientSession

  init() throws {
    fixture = try NodeFixture("acme.example")
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@acme.example")
    aliceSession = try fixture.join(alice)
    bobSession = try fixture.join(bob)
  }

  @Test("a message is accepted, delivered, opened and acknowledged, and the sender gets both receipts")
  func wholePath() throws {
    let sealed = try sealText("hello", from: alice, to: [bob])
    let outcome = fixture.send(sealed.bytes, aliceSession)
    #expect(outcome.outcome == .accepted)
    let accepted = try VerifiedReceipt(
      UnverifiedReceipt(parsing: outcome.receipt[...]), bytes: outcome.receipt,
      expectedKey: fixture.node.identity.id.key)
    #expect(accepted.body.state == .accepted)
    #expect(accepted.body.envelope == sealed.id)

    let items = try fixture.items(bobSession)
    #expect(items.map(\.kind) == [.certificate, .envelope])
    #expect(try bob.open(items[1].payload, from: alice).body == Array("hello".utf8))

    let ack = MailboxAck(seq: items[1].seq, receipt: try bob.receipt(about: sealed.bytes))
    #expect(fixture.acknowledge([ack], bobSession).map(\.outcome) == [.accepted])
    #expect(try fixture.items(bobSession).isEmpty)
    #expect(fixture.acknowledge([ack], bobSession).map(\.outcome) == [.duplicate])

    let receipts = try fixture.receipts(aliceSession)
    #expect(receipts.map(\.body.state) == [.processed])
    #expect(receipts.map(\.body.envelope) == [sealed.id])
  }

  @Test("the same bytes twice are one message; the same id with other bytes is refused")
  func deduplication() throws {
    let sealed = try sealText("once", from: alice, to: [bob])
    #expect(fixture.send(sealed.bytes, aliceSession).outcome == .accepted)
    let again = fixture.send(sealed.bytes, aliceSession)
    #expect(again.outcome == .duplicate)
    #expect(try UnverifiedReceipt(parsing: again.receipt[...]).body.envelope == sealed.id)

    let id = try UnverifiedEnvelope(parsing: sealed.bytes).header.messageID
    let other = try sealText("other", from: alice, to: [bob]) { $0.messageID = id }
    let refused = fixture.send(other.bytes, aliceSession)
    #expect(refused.outcome == .refused)
    #expect(refused.code == .messageIDReused)
    #expect(try UnverifiedReceipt(parsing: refused.receipt[...]).body.state == .failed)
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 1)
  }

  @Test("a batch answers in its order, and one bad message harms no other")
  func mixedBatch() throws {
    let good = try sealText("good", from: alice, to: [bob]).bytes
    var flipped = try sealText("bad", from: alice, to: [bob]).bytes
    flipped[flipped.count - 1] ^= 1
    let alsoGood = try sealText("also good", from: alice, to: [bob]).bytes
    let outcomes = fixture.send([good, flipped, Array("junk".utf8), alsoGood], aliceSession)
    #expect(outcomes.map(\.outcome) == [.accepted, .refused, .refused, .accepted])
    #expect(outcomes.map(\.code) == [.none, .badSignature, .tooLarge, .none])
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 2)
  }

  @Test("times are checked: expired, future-dated, too long, not-before outside")
  func times() throws {
    func code(_ adjust: (inout SealRequest) -> Void) throws -> ErrorCode {
      fixture.send(try sealText("t", from: alice, to: [bob], adjust: adjust).bytes, aliceSession).code
    }
    let now = fixture.clock.nowMs()
    #expect(try code { _ in } == .none)
    #expect(
      try code {
        $0.createdMs = now - 10
        $0.expiresMs = now
      } == .expired)
    #expect(try code { $0.createdMs = now + Limits.clockSkewMs + 1 } == .futureDated)
    #expect(try code { $0.createdMs = now + Limits.clockSkewMs } == .none)
    #expect(try code { $0.expiresMs = $0.createdMs + Limits.ttlMsMax + 1 } == .lifetimeTooLong)
    #expect(try code { $0.notBeforeMs = $0.expiresMs } == .notBeforeInvalid)
  }

  @Test("nobody sends in somebody else's name or from somebody else's session")
  func wrongSession() throws {
    let sealed = try sealText("spoof", from: alice, to: [bob])
    #expect(fixture.send(sealed.bytes, bobSession).code == .wrongHome)
    #expect(fixture.send(sealed.bytes, aliceSession).code == .none)
  }

  @Test("pruned and stub copies are refused from a client")
  func patterns() throws {
    let sealed = try sealText("p", from: alice, to: [bob])
    let envelope = try UnverifiedEnvelope(parsing: sealed.bytes)
    let pruned = pruneEnvelope(envelope) { _ in false }
    #expect(fixture.send(pruned, aliceSession).code == .slotPattern)
    guard case .sealed(let ciphertext) = envelope.body else { return #expect(Bool(false)) }
    let stub = assembleEnvelope(
      header: envelope.headerBytes, slots: envelope.slots, body: .stub(tagged("ct", ciphertext)),
      signature: envelope.signature)
    #expect(try EnvelopeDigests(of: UnverifiedEnvelope(parsing: stub)).id == sealed.id)
    #expect(fixture.send(stub, aliceSession).code == .stubRefused)
  }

  @Test("an unknown recipient is refused; beside a known one it becomes a failed receipt")
  func unknownRecipients() throws {
    let carol = try TestDevice("carol@acme.example")
    let dave = try TestDevice("dave@elsewhere.example")
    #expect(
      fixture.send(try sealText("x", from: alice, to: [carol]).bytes, aliceSession).code == .unknownRecipient)
    #expect(fixture.send(try sealText("x", from: alice, to: [dave]).bytes, aliceSession).code == .noRoute)
    let mixed = try sealText("x", from: alice, to: [bob, carol])
    #expect(fixture.send(mixed.bytes, aliceSession).outcome == .accepted)
    let failed = try fixture.receipts(aliceSession)
    #expect(failed.map(\.body.state) == [.failed])
    #expect(failed.first?.body.recipient == carol.address)
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 1)
  }

  @Test("an acknowledgement needs the device's own receipt about that very envelope")
  func acknowledgements() throws {
    let first = try sealText("1", from: alice, to: [bob])
    let second = try sealText("2", from: alice, to: [bob])
    _ = fixture.send([first.bytes, second.bytes], aliceSession)
    let seqs = try fixture.items(bobSession).filter { $0.kind == .envelope }.map(\.seq)
    let wrong = [
      MailboxAck(seq: seqs[0]),
      MailboxAck(seq: seqs[0], receipt: try bob.receipt(about: second.bytes)),
      MailboxAck(seq: seqs[0], receipt: try alice.receipt(about: first.bytes)),
    ]
    #expect(fixture.acknowledge(wrong, bobSession).map(\.outcome) == [.refused, .refused, .refused])
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 2)
    let right = MailboxAck(seq: seqs[0], receipt: try bob.receipt(about: first.bytes))
    #expect(fixture.acknowledge([right], bobSession).map(\.outcome) == [.accepted])
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 1)
  }

  @Test("what was acknowledged survives a restart, and what was not is still answered once")
  func restart() throws {
    let sealed = try sealText("durable", from: alice, to: [bob])
    #expect(fixture.send(sealed.bytes, aliceSession).outcome == .accepted)
    try fixture.stop()
    let again = try NodeFixture("acme.example", directory: fixture.directory)
    defer { try? again.stop() }
    let session = try again.login(try TestDevice("bob@acme.example"))
    #expect(try again.items(session).count { $0.kind == .envelope } == 1)
    let sender = try again.login(try TestDevice("alice@acme.example"))
    #expect(again.send(sealed.bytes, sender).outcome == .duplicate)
  }

  @Test("expired messages leave with a receipt, and once purged cannot come back under any clock")
  func expiry() throws {
    let sealed = try sealText("short", from: alice, to: [bob]) { $0.expiresMs = $0.createdMs + 60_000 }
    #expect(fixture.send(sealed.bytes, aliceSession).outcome == .accepted)
    fixture.clock.advance(ms: 59_999)
    try fixture.sweep()
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 1)
    fixture.clock.advance(ms: 1)
    try fixture.sweep()
    #expect(try fixture.items(bobSession).isEmpty)
    #expect(try fixture.receipts(aliceSession).map(\.body.state) == [.expired])

    let session = try fixture.login(alice)
    // Control: before the purge the replay is a duplicate even with the clock turned back.
    fixture.clock.set(ms: TestTime.startMs)
    #expect(fixture.send(sealed.bytes, aliceSession).outcome == .duplicate)
    fixture.clock.set(ms: TestTime.startMs + 60_000 + Limits.dedupeGraceMs + 1)
    try fixture.sweep()
    fixture.clock.set(ms: TestTime.startMs)
    #expect(fixture.send(sealed.bytes, session).code == .replayWindowClosed)
  }
}
