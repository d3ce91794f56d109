import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import TestSupport
import Testing

@Suite("Two nodes, the link carried by hand")
struct FederationPathTests {
  let acme: NodeFixture
  let globex: NodeFixture
  let alice: TestDevice
  let bob: TestDevice
  let aliceSession: ClientSession
  let bobSession: ClientSession

  init() throws {
    (acme, globex) = try NodeFixture.federation()
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@globex.example")
    aliceSession = try acme.join(alice)
    bobSession = try globex.join(bob)
  }

  @Test("a message crosses, is opened, and both receipts come home")
  func crossing() throws {
    let sealed = try sealText("across", from: alice, to: [bob])
    #expect(acme.send(sealed.bytes, aliceSession).outcome == .accepted)
    #expect(try acme.carry(to: globex).map(\.outcome) == [.accepted])
    let items = try globex.items(bobSession)
    #expect(items.map(\.kind) == [.certificate, .envelope])
    #expect(try bob.open(items[1].payload, from: alice).body == Array("across".utf8))
    let ack = MailboxAck(seq: items[1].seq, receipt: try bob.receipt(about: sealed.bytes))
    #expect(globex.acknowledge([ack], bobSession).map(\.outcome) == [.accepted])
    try globex.carryReceipts(to: acme)
    let states = try acme.receipts(aliceSession).map(\.body.state)
    #expect(states == [.admitted, .processed])
    #expect(
      try acme.node.outbound(globex.node.identity.name, after: .start, maxCount: 10, maxBytes: 1 << 20).rows
        .isEmpty)
  }

  @Test("a batch that is sent again is all duplicates, with receipts, and is stored once")
  func resending() throws {
    let batch = try (0..<5).map { try sealText("\($0)", from: alice, to: [bob]).bytes }
    #expect(acme.send(batch, aliceSession).allSatisfy { $0.outcome == .accepted })
    let rows = try acme.node.outbound(
      globex.node.identity.name, after: .start, maxCount: 10, maxBytes: 1 << 20
    ).rows
    #expect(rows.map(\.seq) == [1, 2, 3, 4, 5])
    #expect(try acme.carry(to: globex).allSatisfy { $0.outcome == .accepted })
    let again = rows.map { globex.node.verify($0.bytes ?? [], from: .peer(acme.node.identity.name)) }
    let answer: Result<[AckFrame.Item], ErrorCode> = globex.wait {
      globex.node.acceptFromPeer(
        acme.node.identity.name, epoch: 1, seqs: Array(1...5), batch: again, completion: $0)
    }
    let outcomes = try answer.get()
    #expect(outcomes.allSatisfy { $0.outcome == .duplicate && !$0.receipt.isEmpty })
    #expect(try globex.items(bobSession).count { $0.kind == .envelope } == 5)
  }

  @Test("each node sees only its own clients' wraps, and the envelope id is the same everywhere")
  func pruning() throws {
    let carol = try TestDevice("carol@acme.example")
    let carolSession = try acme.join(carol)
    let sealed = try sealText("both", from: alice, to: [bob, carol])
    #expect(acme.send(sealed.bytes, aliceSession).outcome == .accepted)
    let rows = try acme.node.outbound(
      globex.node.identity.name, after: .start, maxCount: 10, maxBytes: 1 << 20
    ).rows
    let crossing = try UnverifiedEnvelope(parsing: #require(rows[0].bytes))
    #expect(EnvelopeDigests(of: crossing).id == sealed.id)
    #expect(crossing.hasPattern { $0.address == bob.address })
    #expect(try acme.carry(to: globex).map(\.outcome) == [.accepted])
    for (fixture, session, device) in [(acme, carolSession, carol), (globex, bobSession, bob)] {
      let envelope = try fixture.items(session).filter { $0.kind == .envelope }[0]
      #expect(try device.open(envelope.payload, from: alice).body == Array("both".utf8))
    }
  }

  @Test("a peer's device that does not speak suite 1 is not learned")
  func foreignSuite() throws {
    func learn(_ device: TestDevice) -> ErrorCode {
      globex.wait { globex.node.learn(device.certificateItem, from: acme.node.identity.name, completion: $0) }
    }
    #expect(try learn(alice.speaking([2])) == .unknownSuite)
    #expect(try learn(alice.speaking([1, 2])) == .none, "control")
  }

  @Test("a peer delivers for its own clients only")
  func foreignSender() throws {
    let mallory = try TestDevice("mallory@elsewhere.example")
    let sealed = try sealText("relay", from: mallory, to: [bob])
    let source = Source.peer(acme.node.identity.name)
    guard case .failure(let code) = globex.node.verify(sealed.bytes, from: source) else {
      return #expect(Bool(false))
    }
    #expect(code == .wrongHome)
    let learnt = globex.wait {
      globex.node.learn(mallory.certificateItem, from: acme.node.identity.name, completion: $0)
    }
    #expect(learnt == .wrongHome)
    // Control: its own client's certificate is learnt.
    let own = globex.wait {
      globex.node.learn(alice.certificateItem, from: acme.node.identity.name, completion: $0)
    }
    #expect(own == .none)
  }

  @Test("a revoked device and an older device list are refused by the peer's node")
  func deviceLists() throws {
    let name = acme.node.identity.name
    func learn(_ device: TestDevice) -> ErrorCode {
      globex.wait { globex.node.learn(device.certificateItem, from: name, completion: $0) }
    }
    let sealed = try sealText("from a phone", from: alice, to: [bob])
    #expect(learn(alice) == .none)
    guard case .success = globex.node.verify(sealed.bytes, from: .peer(name)) else {
      return #expect(Bool(false))
    }
    let revoked = try TestDevice("alice@acme.example", state: .revoked, listVersion: 2)
    #expect(learn(revoked) == .none)
    guard case .failure(.deviceInactive) = globex.node.verify(sealed.bytes, from: .peer(name)) else {
      return #expect(Bool(false))
    }
    #expect(learn(alice) == .staleDeviceList)
  }

  @Test("what a peer refuses ends with a failed receipt; what it postpones keeps waiting under a new number")
  func outcomes() throws {
    let batch = try (0..<2).map { try sealText("\($0)", from: alice, to: [bob]).bytes }
    _ = acme.send(batch, aliceSession)
    let items = [
      AckFrame.Item(seq: 1, outcome: .refused, code: .unknownRecipient),
      AckFrame.Item(seq: 2, outcome: .later, code: .overloaded),
    ]
    _ =
      acme.wait { (done: @escaping @Sendable (Bool) -> Void) in
        acme.node.settle(globex.node.identity.name, through: 2, items: items) { done(true) }
      } as Bool
    let receipts = try acme.receipts(aliceSession)
    #expect(receipts.map(\.body.state) == [.failed])
    #expect(receipts.map(\.body.code) == [.unknownRecipient])
    let rows = try acme.node.outbound(
      globex.node.identity.name, after: .start, maxCount: 10, maxBytes: 1 << 20
    ).rows
    #expect(rows.map(\.seq) == [3])
  }

  @Test("what waits for a peer survives a restart of either node")
  func waiting() throws {
    let sealed = try sealText("later", from: alice, to: [bob])
    #expect(acme.send(sealed.bytes, aliceSession).outcome == .accepted)
    try acme.stop()
    let again = try NodeFixture("acme.example", clock: acme.clock, directory: acme.directory)
    try again.peer(with: globex)
    #expect(try again.carry(to: globex).map(\.outcome) == [.accepted])
    #expect(try again.carry(to: globex).isEmpty)
  }
}
