import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import TestSupport
import Testing

@testable import EngramHTTP

@Suite("realtime over TLS")
struct RealtimeTests {
  private func deliver(_ count: Int, from alice: TestDevice, to bob: TestDevice, _ edge: TestEdge)
    async throws
  {
    let envelopes = try (0..<count).map { try sealText("m\($0)", from: alice, to: [bob]).bytes }
    let body = fields { w in for envelope in envelopes { w.field(envelope) } }
    let answer = try await edge.once(
      .post(
        "/api/v1/agents/\(alice.address)/messages", "application/vnd.engram.envelopes", body,
        bearer: try await edge.session(alice)))
    try #require(answer.status == 200)
  }

  @Test("an upgrade without a session, for another's address, or with a wrong version is answered, not done")
  func refusedUpgrades() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let path = "/api/v1/agents/\(alice.address)/realtime"
      func answer(_ request: RawRequest) async throws -> RawResponse { try await edge.once(request) }
      let missing = try await answer(RawWebSocket.request(path, bearer: nil))
      #expect(missing.status == 401)
      #expect(missing.code == 210)
      #expect(missing.headers["content-type"] == "application/problem+json")
      let wrong = try await answer(RawWebSocket.request(path, bearer: String(repeating: "0", count: 64)))
      #expect(wrong.code == 212)
      let other = "/api/v1/agents/bob@acme.example/realtime"
      #expect(try await answer(RawWebSocket.request(other, bearer: bearer)).status == 404)
      #expect(try await answer(RawWebSocket.request(path, bearer: bearer, version: "8")).status == 426)
      #expect(try await answer(.get(path, bearer: bearer)).status == 426)
      edge.clock.advance(ms: edge.node.settings.sessionMs)
      #expect(try await answer(RawWebSocket.request(path, bearer: bearer)).code == 212)
      // Control: a fresh session gets in.
      _ = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
    }
  }

  @Test("a send is answered with outcomes, in order, and a batch of many is verified and accepted")
  func sends() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let socket = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
      let many = try (0..<40).map { try sealText("\($0)", from: alice, to: [bob]).bytes[...] }
      try await socket.send(.send(request: 1, envelopes: many))
      try await socket.send(.send(request: 2, envelopes: [many[0], [0]]))
      guard case .outcomes(let first, let outcomes) = try await socket.realtime() else {
        throw RawError.malformed
      }
      #expect(first == 1)
      #expect(outcomes.count == 40 && outcomes.allSatisfy { $0.outcome == .accepted && !$0.receipt.isEmpty })
      guard case .outcomes(let second, let rest) = try await socket.realtime() else {
        throw RawError.malformed
      }
      #expect(second == 2)
      #expect(rest.map(\.outcome) == [.duplicate, .refused])
    }
  }

  @Test("items are pushed within credit and no further, each sender's certificate first and for nothing")
  func credit() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      try await deliver(3, from: alice, to: bob, edge)
      let socket = try await RawWebSocket.open(edge, bob.address, bearer: try await edge.session(bob))
      // A pong shows that everything before it was dealt with: nothing was pushed without credit.
      try await socket.send(opcode: 9, [7])
      #expect(try await socket.next() == .init(opcode: 10, fin: true, payload: [7]))
      try await socket.send(.credit(2))
      var received: [MailboxItem] = []
      while received.count < 3 {
        guard case .items(let items) = try await socket.realtime() else { throw RawError.malformed }
        received += items
      }
      #expect(received.map(\.kind) == [.certificate, .envelope, .envelope])
      // The third waits for credit, whatever else happens.
      try await deliver(1, from: alice, to: bob, edge)
      try await socket.send(opcode: 9, [8])
      #expect(try await socket.next() == .init(opcode: 10, fin: true, payload: [8]))
      try await socket.send(.credit(10))
      while received.count < 5 {
        guard case .items(let items) = try await socket.realtime() else { throw RawError.malformed }
        received += items
      }
      #expect(received.dropFirst(3).allSatisfy { $0.kind == .envelope })
      let seqs = received.dropFirst().map(\.seq)
      #expect(seqs == seqs.sorted() && Set(seqs).count == 4)
      // With credit left, what is committed from now on comes by itself.
      try await deliver(1, from: alice, to: bob, edge)
      guard case .items(let pushed) = try await socket.realtime() else { throw RawError.malformed }
      #expect(pushed.map(\.kind) == [.envelope])
      let ack = MailboxAck(seq: pushed[0].seq, receipt: try bob.receipt(about: pushed[0].payload))
      try await socket.send(.ack(request: 5, acks: [ack]))
      #expect(try await socket.realtime() == .outcomes(request: 5, [ItemOutcome(.accepted)]))
    }
  }

  @Test("fragments make a message; a ping passes between them")
  func fragments() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let socket = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
      let envelope = try sealText(String(repeating: "long ", count: 40_000), from: alice, to: [alice]).bytes
      let frame = RealtimeFrame.send(request: 3, envelopes: [envelope[...]]).encoded()
      try await socket.send(opcode: 2, fin: false, Array(frame[..<1]))
      try await socket.send(opcode: 0, fin: false, Array(frame[1..<100_000]))
      try await socket.send(opcode: 9, [])
      #expect(try await socket.next().opcode == 10)
      try await socket.send(opcode: 0, fin: true, Array(frame[100_000...]))
      guard case .outcomes(3, let outcomes) = try await socket.realtime() else { throw RawError.malformed }
      #expect(outcomes.map(\.outcome) == [.accepted])
    }
  }

  @Test("what breaks the protocol gets a problem and a close code, and only that connection ends")
  func breaches() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let witness = try await RawWebSocket.open(edge, alice.address, bearer: bearer)
      let breaches: [(ErrorCode, Int, (RawWebSocket) async throws -> Void)] = [
        (.unsupportedMedia, 1003, { try await $0.send(opcode: 1, Array("hello".utf8)) }),
        (.unknownFrame, 1002, { try await $0.send(opcode: 3, []) }),
        (.malformed, 1002, { try await $0.send(RealtimeFrame.credit(1).encoded(), masked: false) }),
        (.malformed, 1002, { try await $0.send(RealtimeFrame.credit(1).encoded(), reserved: 0x40) }),
        (.malformed, 1002, { try await $0.send(opcode: 0, [1]) }),
        (.malformed, 1002, { try await $0.send(opcode: 9, fin: false, [1]) }),
        (.unknownValue, 1007, { try await $0.send([99]) }),
        (.malformed, 1007, { try await $0.send([]) }),
        (.trailingBytes, 1007, { try await $0.send(RealtimeFrame.credit(1).encoded() + [0]) }),
        (.unexpectedFrame, 1002, { try await $0.send(.problem(.none)) }),
        (
          .tooLarge, 1009,
          { try await $0.connection.send([0x82, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 1, 2, 3, 4]) }
        ),
      ]
      for (index, (code, close, commit)) in breaches.enumerated() {
        let socket = try await RawWebSocket.open(edge, alice.address, bearer: bearer)
        try await commit(socket)
        let end = try await socket.end()
        #expect(end.0 == code && end.1 == close, "breach \(index): \(end)")
        try await socket.send(opcode: 8, [])
        try await socket.connection.ended()
      }
      try await witness.send(opcode: 9, [1])
      #expect(try await witness.next().opcode == 10)
    }
  }

  @Test("a client that closes gets its close code back")
  func close() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let socket = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
      try await socket.send(opcode: 8, [0x03, 0xe8])
      #expect(try await socket.next().closeCode == 1000)
      try await socket.connection.ended()
    }
  }

  @Test("a connection outlives its session, and ends at once when the client is disabled")
  func sessionEnd() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let socket = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
      let other = try await RawWebSocket.open(edge, bob.address, bearer: try await edge.session(bob))
      edge.clock.advance(ms: 2 * edge.node.settings.sessionMs)
      let envelope = try sealText("late", from: alice, to: [bob], nowMs: edge.clock.nowMs()).bytes
      try await socket.send(.send(request: 1, envelopes: [envelope[...]]))
      guard case .outcomes(1, let outcomes) = try await socket.realtime() else { throw RawError.malformed }
      #expect(outcomes.map(\.outcome) == [.accepted])
      let code = await withCheckedContinuation { continuation in
        edge.node.disable("alice") { continuation.resume(returning: $0) }
      }
      #expect(code == .none)
      #expect(try await socket.end() == (.sessionExpired, 4401))
      try await socket.connection.ended()
      try await other.send(opcode: 9, [])
      #expect(try await other.next().opcode == 10)
    }
  }

  @Test("a drain says goodbye with 1001")
  func drain() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let socket = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
      async let drained: Void = edge.drain()
      #expect(try await socket.end() == (.shuttingDown, 1001))
      try await socket.send(opcode: 8, [0x03, 0xe9])
      try await socket.connection.ended()
      await drained
    }
  }
}
