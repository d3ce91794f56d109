import EngramCore
import EngramCrypto
import EngramFederation
import EngramNode
import EngramSealing
import TestSupport
import Testing

@Suite("Hostile input at a running node", .serialized)
struct HostileTests {
  @Test("the right certificate with another node id is refused, and shows as refused")
  func wrongNodeID() async throws {
    let federation = try Federation()
    try await federation.start()
    try federation.acme.federation.setPeers([federation.globex.card(id: TestNode("other.example").id)])
    #expect(
      await eventually { federation.acme.state(of: federation.globex)?.state == .refused(.wrongPeer) })
    #expect(federation.globex.state(of: federation.acme)?.state != .connected)
    // The control: with the right id the same two connect.
    try federation.acme.federation.setPeers([federation.globex.card()])
    #expect(await federation.connected())
    await federation.stop()
  }

  @Test("a hello recorded on another connection is refused; a fresh one is answered")
  func replayedHello() async throws {
    let federation = try await Federation.acmeAlone()
    let first = try await Intruder.connect(to: federation.acme, as: federation.globex)
    let exporter = try #require(await first.exporter())
    let recorded = signHello(federation.hello(), exporter: exporter, key: federation.globex.test.key)
    let second = try await Intruder.connect(to: federation.acme, as: federation.globex)
    _ = await second.exporter()
    second.send(.hello, recorded)
    #expect(await second.dismissal() == .helloInvalid)
    #expect(await second.closed())
    first.send(.hello, recorded)
    #expect(await first.received(.hello) != nil, "the control: on its own connection it holds")
    await federation.acme.stop()
  }

  @Test("an unsigned hello, and any other frame in its place, is refused")
  func noHello() async throws {
    let federation = try await Federation.acmeAlone()
    let unsigned = try await Intruder.connect(to: federation.acme, as: federation.globex)
    _ = await unsigned.exporter()
    unsigned.send(
      .hello,
      SignedBytes(body: federation.hello().encoded(), signatures: [[UInt8](repeating: 0, count: 64)])
        .encoded()
    )
    #expect(await unsigned.dismissal() == .helloInvalid)
    let impatient = try await Intruder.connect(to: federation.acme, as: federation.globex)
    _ = await impatient.exporter()
    impatient.send(.ping)
    #expect(await impatient.dismissal() == .unexpectedFrame)
    await federation.acme.stop()
  }

  @Test("no certificate, somebody else's certificate and an unknown protocol get nowhere")
  func wrongTLS() async throws {
    let federation = try await Federation.acmeAlone()
    let stranger = try Organisation("initech.example", clock: federation.clock)
    for (owner, alpn) in [(nil, "engram/1"), (stranger, "engram/1"), (federation.globex, "engram/9")]
      as [(Organisation?, String)]
    {
      let intruder = try await Intruder.connect(to: federation.acme, as: owner, alpn: alpn)
      #expect(await intruder.closed())
      #expect(intruder.frames.isEmpty)
    }
    _ = try await federation.admitted()
    await federation.acme.stop()
  }

  @Test("garbage, an oversized frame and an unknown frame end their own connection and nobody else's")
  func garbage() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    var generator = SeededGenerator(seed: 7)
    for bytes in [generator.bytes(4_096), [255, 255, 255, 255, 2], [0, 0, 0, 0], [0, 0, 0, 2, 99, 0]] {
      let intruder = try await Intruder.connect(to: federation.globex, as: federation.acme)
      _ = await intruder.exporter()
      intruder.send(bytes: bytes)
      #expect(await intruder.closed())
    }
    _ = try await federation.acme.send([sealText("unharmed", from: alice, to: [bob]).bytes], from: alice)
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 1 })
    #expect(federation.globex.state(of: federation.acme)?.state == .connected)
    await federation.stop()
  }

  @Test("a peer that delivers for somebody else's client is refused with wrong-home and nothing is stored")
  func wrongHome() async throws {
    let federation = try await Federation.acmeAlone()
    let alice = try await federation.acme.client("alice")
    let own = try TestDevice("bob@globex.example")
    let foreign = try TestDevice("mallory@initech.example")
    let intruder = try await federation.admitted()
    intruder.send(.certificate, own.certificateItem.encoded())
    intruder.send(.certificate, foreign.certificateItem.encoded())
    let envelopes = try [foreign, own].map { try sealText("hi", from: $0, to: [alice]).bytes[...] }
    let frame = DeliverFrame(
      origin: federation.globex.test.id, destination: federation.acme.test.id, epoch: 5, firstSeq: 1,
      envelopes: envelopes)
    intruder.send(.deliver, frame.encoded())
    let ack = try AckFrame(parsing: try #require(await intruder.received(.ack))[...])
    #expect(ack.items.map(\.outcome) == [.refused, .accepted])
    #expect(ack.items.map(\.code) == [.wrongHome, .none])
    #expect(
      try await federation.acme.envelopes(alice).count == 1, "the control: only its own client's message")
    await federation.acme.stop()
  }

  @Test("an envelope for nobody here, an expired one and one with a broken signature are refused one by one")
  func badEnvelopes() async throws {
    let federation = try await Federation.acmeAlone()
    let alice = try await federation.acme.client("alice")
    let ghost = try TestDevice("ghost@acme.example")
    let bob = try TestDevice("bob@globex.example")
    let intruder = try await federation.admitted()
    intruder.send(.certificate, bob.certificateItem.encoded())
    var broken = try sealText("hi", from: bob, to: [alice]).bytes
    broken[broken.count - 1] ^= 1
    let expired = try sealText("hi", from: bob, to: [alice]) { request in
      request.createdMs = TestTime.startMs - TestTime.dayMs
      request.expiresMs = TestTime.startMs - 1
    }
    let envelopes = [try sealText("hi", from: bob, to: [ghost]).bytes, broken, expired.bytes, [1, 2, 3]]
    let frame = DeliverFrame(
      origin: federation.globex.test.id, destination: federation.acme.test.id, epoch: 5, firstSeq: 1,
      envelopes: envelopes.map { $0[...] })
    intruder.send(.deliver, frame.encoded())
    let ack = try AckFrame(parsing: try #require(await intruder.received(.ack))[...])
    #expect(ack.items.allSatisfy { $0.outcome == .refused })
    #expect(ack.items.map(\.code) == [.unknownRecipient, .badSignature, .expired, .malformed])
    #expect(ack.through == 4)
    #expect(try await federation.acme.envelopes(alice).isEmpty)
    #expect(!intruder.isClosed, "bad mail is an answer, not a reason to hang up")
    await federation.acme.stop()
  }
}
