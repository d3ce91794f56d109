import EngramCore
import EngramCrypto
import EngramFederation
import EngramNode
import EngramSealing
import NIOCore
import NIOPosix
import TestSupport
import Testing

/// Two organisations that pinned each other and run.
struct Federation {
  let clock = ManualClock()
  let acme: Organisation
  let globex: Organisation

  init() throws {
    acme = try Organisation("acme.example", clock: clock)
    globex = try Organisation("globex.example", clock: clock)
  }

  func start() async throws {
    try await acme.start()
    try await globex.start()
    try introduce()
  }

  func introduce() throws {
    try acme.federation.setPeers([globex.card()])
    try globex.federation.setPeers([acme.card()])
  }

  func connected() async -> Bool {
    await eventually {
      acme.state(of: globex)?.state == .connected && globex.state(of: acme)?.state == .connected
    }
  }

  func stop() async {
    await acme.stop()
    await globex.stop()
  }
}

@Suite("Federation between running nodes", .serialized)
struct FederationTests {
  @Test("a message crosses, is opened, and its receipt comes home")
  func delivery() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    let sealed = try sealText("hello over there", from: alice, to: [bob])
    let outcomes = try await federation.acme.send([sealed.bytes], from: alice)
    #expect(outcomes.map(\.outcome) == [.accepted])
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 1 })
    let received = try await federation.globex.envelopes(bob)
    #expect(try bob.open(received[0], from: alice).body == Array("hello over there".utf8))
    // The other node's signed word that it took the message over, and later the device's own.
    #expect(try await eventually { try await issuers(federation.acme, alice).contains("globex.example") })
    let item = try #require(try await federation.globex.inbox(bob).first { $0.kind == .envelope })
    let outcome = try await federation.globex.acknowledge(
      [MailboxAck(seq: item.seq, receipt: try bob.receipt(about: item.payload))], as: bob)
    #expect(outcome.map(\.outcome) == [.accepted])
    #expect(try await eventually { try await issuers(federation.acme, alice).contains("bob@globex.example") })
    #expect(await eventually { federation.acme.state(of: federation.globex)?.queued == 0 })
    await federation.stop()
  }

  private func issuers(_ organisation: Organisation, _ device: TestDevice) async throws -> [String] {
    try await organisation.inbox(device).filter { $0.kind == .receipt }.flatMap { item in
      try splitBatch(item.payload[...]).map { try UnverifiedReceipt(parsing: $0).body.issuerName }
    }
  }

  @Test("a peer that accepts connections and says nothing delays nobody else")
  func silentPeer() async throws {
    let federation = try Federation()
    try await federation.start()
    let silent = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .bind(host: "127.0.0.1", port: 0).get()
    let initech = try Organisation("initech.example", clock: federation.clock)
    try federation.acme.federation.setPeers([
      federation.globex.card(), initech.card(port: try #require(silent.localAddress?.port)),
    ])
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    let milton = try TestDevice("milton@initech.example")
    let envelopes = try (0..<40).flatMap { index in
      [
        try sealText("for bob \(index)", from: alice, to: [bob]).bytes,
        try sealText("for milton \(index)", from: alice, to: [milton]).bytes,
        try sealText("for both \(index)", from: alice, to: [bob, milton]).bytes,
      ]
    }
    let outcomes = try await federation.acme.send(envelopes, from: alice)
    #expect(outcomes.allSatisfy { $0.outcome == .accepted })
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 80 })
    #expect(federation.acme.state(of: initech)?.queued == 80)
    #expect(federation.acme.state(of: initech)?.state == .dialling)
    try await silent.close()
    await federation.stop()
  }

  @Test("what waits while a peer is down arrives when it is back, each message once, large ones too")
  func queued() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    await federation.globex.stop()
    var texts: Set<String> = []
    var envelopes: [[UInt8]] = []
    for index in 0..<60 {
      let text = index == 7 ? String(repeating: "large ", count: 400_000) : "message \(index)"
      texts.insert(text)
      envelopes.append(
        try sealText(text, from: alice, to: [bob], at: ChainPosition(seq: UInt64(index + 1), previous: .zero))
          .bytes)
    }
    let outcomes = try await federation.acme.send(envelopes, from: alice)
    #expect(outcomes.allSatisfy { $0.outcome == .accepted })
    #expect(await eventually { (federation.acme.state(of: federation.globex)?.attempts ?? 0) >= 2 })
    #expect(federation.acme.state(of: federation.globex)?.queued == 60)
    func sample() -> UInt64? {
      federation.acme.federation.samples().first { $0.name == "engram_federation_queued" }?.value
    }
    #expect(sample() == 60)
    #expect(federation.acme.state(of: federation.globex)?.lastError == .peerUnreachable)
    try await federation.globex.start()
    try federation.introduce()
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 60 })
    let opened = try await federation.globex.envelopes(bob).map { try bob.open($0, from: alice).body }
    #expect(Set(opened.map { String(decoding: $0, as: UTF8.self) }) == texts)
    #expect(await eventually { federation.acme.state(of: federation.globex)?.queued == 0 })
    #expect(sample() == 0)
    await federation.stop()
  }

  @Test("a refused certificate ends its own messages with a receipt, and the others pass")
  func refusedCertificate() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let (acme, globex) = (federation.acme, federation.globex)
    let alice = try await acme.client("alice")
    let carol = try await acme.client("carol")
    let bob = try await globex.client("bob")
    // globex has seen another identity under alice's address.
    let before = try TestDevice(alice.address.text, device: "old", identity: "somebody else")
    let learned = await withCheckedContinuation { continuation in
      globex.node.learn(before.certificateItem, from: acme.name) { continuation.resume(returning: $0) }
    }
    #expect(learned == .none)
    _ = try await acme.send([sealText("from alice", from: alice, to: [bob]).bytes], from: alice)
    _ = try await acme.send([sealText("from carol", from: carol, to: [bob]).bytes], from: carol)
    #expect(try await eventually { try await globex.envelopes(bob).count == 1 })
    #expect(
      try await eventually {
        try await acme.inbox(alice).filter { $0.kind == .receipt }.flatMap { item in
          try splitBatch(item.payload[...]).map { try UnverifiedReceipt(parsing: $0).body.code }
        } == [.identityChanged]
      })
    #expect(await eventually { acme.state(of: globex)?.queued == 0 })
    #expect(acme.state(of: globex)?.state == .connected)
    await federation.stop()
  }

  @Test("a connection cut again and again in the middle loses nothing and delivers nothing twice")
  func cuts() async throws {
    let federation = try Federation()
    try await federation.start()
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    for round in 0..<12 {
      let envelopes = try (0..<40).map { try sealText("\(round)/\($0)", from: alice, to: [bob]).bytes }
      _ = try await federation.acme.send(envelopes, from: alice)
      // Alternately a restart of either side, wherever its work stands.
      if round % 3 == 0 { try await restart(federation.globex, federation) }
      if round % 3 == 1 { try await restart(federation.acme, federation) }
    }
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 480 })
    let ids = try await federation.globex.envelopes(bob).map {
      EnvelopeDigests(of: try UnverifiedEnvelope(parsing: $0)).id
    }
    #expect(Set(ids).count == 480)
    await federation.stop()
  }

  private func restart(_ organisation: Organisation, _ federation: Federation) async throws {
    await organisation.stop()
    try await organisation.start()
    try federation.introduce()
  }

  @Test("the directory of a peer answers over the link, and says nothing about others")
  func directory() async throws {
    let federation = try Federation()
    try await federation.start()
    let bob = try await federation.globex.client("bob")
    let acme = federation.acme.node
    let found = try await answer { acme.directoryAnswer(bob.address, completion: $0) }
    let body = try verifyDirectoryAnswer(found[...], pinned: federation.globex.test.id)
    #expect(body.address == bob.address && body.bundles.count == 1)
    await #expect(throws: ErrorCode.notFound) {
      let nobody = try Address("nobody@globex.example")
      _ = try await answer { acme.directoryAnswer(nobody, completion: $0) }
    }
    await federation.stop()
    await #expect(throws: ErrorCode.noRoute) {
      let stranger = try Address("bob@initech.example")
      _ = try await answer { acme.directoryAnswer(stranger, completion: $0) }
    }
  }

  @Test("both sides dial, and one link remains")
  func oneLink() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let established = { (organisation: Organisation) in
      organisation.federation.samples().first { $0.name == "engram_federation_links_established_total" }?
        .value ?? 0
    }
    let before = (established(federation.acme), established(federation.globex))
    // Traffic after the choice runs on a link that nobody replaces.
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    for index in 0..<5 {
      _ = try await federation.acme.send([sealText("\(index)", from: alice, to: [bob]).bytes], from: alice)
      #expect(try await eventually { try await federation.globex.envelopes(bob).count == index + 1 })
    }
    #expect(established(federation.acme) <= before.0 + 1 && established(federation.globex) <= before.1 + 1)
    #expect(await federation.connected())
    await federation.stop()
  }

  @Test("a disabled peer is disconnected and comes back when it is enabled")
  func suspended() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    try federation.acme.federation.setPeers([federation.globex.card(isEnabled: false)])
    #expect(federation.acme.state(of: federation.globex)?.state == .suspended)
    #expect(await eventually { federation.globex.state(of: federation.acme)?.state != .connected })
    try federation.acme.federation.setPeers([federation.globex.card()])
    #expect(await federation.connected())
    await federation.stop()
  }

  @Test("a list of peers with a mistake changes nothing")
  func wrongLists() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    var broken = federation.globex.card()
    broken.authorityPEM = "nothing"
    #expect(throws: PeerSetupError.authority(federation.globex.name)) {
      try federation.acme.federation.setPeers([broken])
    }
    #expect(throws: PeerSetupError.ownName) {
      try federation.acme.federation.setPeers([federation.acme.card()])
    }
    #expect(throws: PeerSetupError.duplicateName(federation.globex.name)) {
      try federation.acme.federation.setPeers([federation.globex.card(), federation.globex.card()])
    }
    #expect(federation.acme.state(of: federation.globex)?.state == .connected)
    await federation.stop()
  }
}
