import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import EngramStore
import TestSupport
import Testing

@Suite("What a peer may cost")
struct PeerBoundTests {
  let acme: NodeFixture
  let globex: NodeFixture
  let alice: TestDevice
  let bob: TestDevice
  let aliceSession: ClientSession
  let bobSession: ClientSession

  init() throws {
    var settings = NodeSettings()
    (settings.clientsMax, settings.clientsPerPeerMax) = (2, 3)
    (acme, globex) = try NodeFixture.federation(settings: settings)
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@globex.example")
    aliceSession = try acme.join(alice)
    bobSession = try globex.join(bob)
  }

  private func learn(_ device: TestDevice) -> ErrorCode {
    globex.wait { globex.node.learn(device.certificateItem, from: acme.node.identity.name, completion: $0) }
  }

  // MARK: - Refused certificates

  @Test("a refused certificate refuses its envelopes for the same reason, and holds up nobody else's")
  func refusedCertificate() throws {
    let carol = try TestDevice("carol@acme.example")
    let carolSession = try acme.join(carol)
    // globex has seen another identity under alice's address.
    let before = try TestDevice("alice@acme.example", device: "old", identity: "somebody else")
    #expect(learn(before) == .none)
    #expect(acme.send(try sealText("a", from: alice, to: [bob]).bytes, aliceSession).outcome == .accepted)
    #expect(acme.send(try sealText("c", from: carol, to: [bob]).bytes, carolSession).outcome == .accepted)
    let items = try acme.carry(to: globex, refusing: .identityChanged)
    #expect(items.map(\.outcome) == [.refused, .accepted])
    #expect(items.map(\.code) == [.identityChanged, .none])
    let told = try acme.receipts(aliceSession).map(\.body)
    #expect(told.map(\.state) == [.failed])
    #expect(told.map(\.code) == [.identityChanged])
    #expect(try globex.items(bobSession).count { $0.kind == .envelope } == 1)
    #expect(try acme.carry(to: globex).isEmpty, "nothing goes round")
  }

  @Test("the refusal lasts until another certificate comes; without any certificate an envelope is put off")
  func refusalEnds() throws {
    let sealed = try sealText("a", from: alice, to: [bob])
    func verdict() -> ErrorCode {
      switch globex.node.verify(sealed.bytes, from: .peer(acme.node.identity.name)) {
      case .success: .none
      case .failure(let code): code
      }
    }
    #expect(verdict() == .unknownDevice)
    #expect(ErrorCode.unknownDevice.isRetryable)
    #expect(try learn(alice.speaking([2])) == .unknownSuite)
    #expect(verdict() == .unknownSuite)
    #expect(!ErrorCode.unknownSuite.isRetryable)
    #expect(learn(alice) == .none)
    #expect(verdict() == .none, "control: the right certificate")
  }

  // MARK: - Invented clients

  @Test("a peer's clients are bounded per peer, and take no place from our own")
  func inventedClients() throws {
    for name in ["a", "b", "c"] { #expect(try learn(TestDevice("\(name)@acme.example")) == .none) }
    #expect(try learn(TestDevice("d@acme.example")) == .quotaExceeded)
    #expect(try learn(TestDevice("a@acme.example")) == .none, "one that is known may come again")
    _ = try globex.join(TestDevice("carol@globex.example"))
    #expect(throws: ErrorCode.quotaExceeded) { try globex.join(TestDevice("dave@globex.example")) }
    // Control: without a bound the fourth is learned.
    let open = try NodeFixture("open.example")
    try acme.peer(with: open)
    for name in ["a", "b", "c", "d"] {
      let item = try TestDevice("\(name)@acme.example").certificateItem
      #expect(open.wait { open.node.learn(item, from: acme.node.identity.name, completion: $0) } == .none)
    }
  }

  @Test("one client of a peer cannot have devices without end")
  func inventedDevices() throws {
    let most = 4 * Limits.devicesPerClientMax
    for number in 0..<most {
      #expect(try learn(TestDevice("a@acme.example", device: "\(number)")) == .none)
    }
    #expect(try learn(TestDevice("a@acme.example", device: "one more")) == .quotaExceeded)
    #expect(try learn(TestDevice("b@acme.example", device: "one more")) == .none, "control: another client")
  }

  // MARK: - Receipts

  private func bring(_ receipt: [UInt8], seq: UInt64) -> ErrorCode {
    acme.wait {
      acme.node.acceptReceipts(
        globex.node.identity.name, epoch: 7, seq: seq, receipts: [receipt], completion: $0)
    }
  }

  @Test("a receipt about a message that was never sent is dropped")
  func receiptsAboutNothing() throws {
    let sealed = try sealText("a", from: alice, to: [bob])
    let receipt = try bob.receipt(about: sealed.bytes)
    #expect(bring(receipt, seq: 1) == .none)
    #expect(try acme.receipts(aliceSession).isEmpty)
    #expect(acme.node.metrics.value(.receiptsDropped) == 1)
    // The same message id with other bytes is another message.
    let id = try UnverifiedEnvelope(parsing: sealed.bytes).header.messageID
    let other = try sealText("b", from: alice, to: [bob]) { $0.messageID = id }
    #expect(acme.send(other.bytes, aliceSession).outcome == .accepted)
    #expect(bring(receipt, seq: 2) == .none)
    #expect(try acme.receipts(aliceSession).isEmpty)
    // Control: about what was sent.
    #expect(bring(try bob.receipt(about: other.bytes), seq: 3) == .none)
    #expect(try acme.receipts(aliceSession).map(\.body.state) == [.processed])
  }

  @Test("receipts that nobody fetches go after thirty days")
  func oldReceipts() throws {
    let sealed = try sealText("a", from: alice, to: [bob])
    #expect(acme.send(sealed.bytes, aliceSession).outcome == .accepted)
    #expect(try acme.carry(to: globex).map(\.outcome) == [.accepted])
    #expect(try acme.node.status().notices == 1)
    acme.clock.advance(ms: Limits.ttlMsMax)
    try acme.sweep()
    #expect(try acme.node.status().notices == 1, "control: not yet")
    acme.clock.advance(ms: 1)
    try acme.sweep()
    #expect(try acme.node.status().notices == 0)
  }

  @Test("a mailbox keeps a bounded number of receipts, the newest")
  func manyReceipts() throws {
    func kept(_ bound: Int?) throws -> Int {
      var settings = NodeSettings()
      if let bound { settings.noticeNumbersMax = bound }
      let node = try NodeFixture("initech.example", settings: settings)
      let (sender, reader) = try (TestDevice("s@initech.example"), TestDevice("r@initech.example"))
      let (sending, reading) = try (node.join(sender), node.join(reader))
      for number in 0..<5 {
        let sealed = try sealText("\(number)", from: sender, to: [reader])
        #expect(node.send(sealed.bytes, sending).outcome == .accepted)
        let item = try #require(node.items(reading).last)
        let ack = MailboxAck(seq: item.seq, receipt: try reader.receipt(about: sealed.bytes))
        #expect(node.acknowledge([ack], reading).map(\.outcome) == [.accepted])
      }
      return try node.items(sending).count
    }
    #expect(try kept(3) == 3)
    #expect(try kept(nil) == 5, "control")
  }
}
