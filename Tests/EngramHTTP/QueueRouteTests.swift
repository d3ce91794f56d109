import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import TestSupport
import Testing

@testable import EngramHTTP

/// A leased item, taken apart.
private struct Work {
  let seq: UInt64
  let lease: LeasedEnvelope

  func ack(_ device: TestDevice) throws -> Settlement {
    Settlement(seq: seq, token: lease.token, .ack(receipt: try device.receipt(about: lease.envelope)))
  }

  static func of(_ items: [MailboxItem]) throws -> [Work] {
    try items.filter { $0.kind == .leased }.map {
      Work(seq: $0.seq, lease: try LeasedEnvelope(parsing: $0.payload[...]))
    }
  }
}

/// A sender and a worker at one edge.
private struct Bench {
  let edge: TestEdge
  let alice: TestDevice
  let bob: TestDevice
  let bearer: String
  var messages: String { "/api/v1/agents/\(bob.address)/messages" }

  init(_ edge: TestEdge) async throws {
    self.edge = edge
    alice = try await edge.enrol("alice@acme.example")
    bob = try await edge.enrol("bob@acme.example")
    bearer = try await edge.session(bob)
  }

  @discardableResult
  func post(_ count: Int = 1, adjust: (inout SealRequest) -> Void = { _ in }) async throws -> [MessageID] {
    let sealed = try (0..<count).map {
      try sealText("\($0)", from: alice, to: [bob], nowMs: edge.clock.nowMs(), adjust: adjust).bytes
    }
    let body = fields { w in for envelope in sealed { w.field(envelope) } }
    let answer = try await edge.once(
      .post(
        "/api/v1/agents/\(alice.address)/messages", "application/vnd.engram.envelopes", body,
        bearer: try await edge.session(alice)))
    try #require(answer.status == 200)
    return try sealed.map { try UnverifiedEnvelope(parsing: $0).header.messageID }
  }

  func ask(_ method: String, _ path: String, _ type: String? = nil, _ body: [UInt8] = []) async throws
    -> RawResponse
  {
    var request = RawRequest.post(path, type, body, bearer: bearer)
    request.method = method
    return try await edge.once(request)
  }

  func lease(_ query: String = "lease=30") async throws -> [Work] {
    let answer = try await ask("GET", messages + "?" + query)
    if answer.status == 204 { return [] }
    try #require(answer.status == 200)
    return try Work.of(MailboxItem.decode(answer.body[...]))
  }

  func settle(_ settlements: [Settlement]) async throws -> [ItemOutcome] {
    let answer = try await ask(
      "POST", messages + "/settle", "application/vnd.engram.settlements", Settlement.encode(settlements))
    try #require(answer.status == 200)
    return try ItemOutcome.decode(answer.body[...])
  }
}

@Suite("work over HTTP and WebSocket")
struct QueueRouteTests {
  @Test("a poll leases, a settlement ends it, and old tokens, wrong types and wrong queries change nothing")
  func polls() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      #expect(try await bench.lease().isEmpty)
      try await bench.post(3)
      let work = try await bench.lease("lease=30&max=2")
      #expect(work.map(\.lease.leaseMs) == [30_000, 30_000])
      #expect(try await bench.lease().count == 1)
      #expect(try await edge.waiting(bench.bob).filter { $0.kind == .envelope }.isEmpty)
      for query in ["lease=", "lease=-1", "lease=1&after=1", "lease=x", "leases=1", "lease=default&after=1"] {
        #expect(try await bench.ask("GET", bench.messages + "?" + query).code == 100, "\(query)")
      }
      let path = bench.messages + "/settle"
      #expect(try await bench.ask("POST", path, "application/vnd.engram.acks", [0]).code == 407)
      #expect(try await bench.ask("POST", path, "application/vnd.engram.settlements", []).code == 100)
      #expect(try await bench.ask("POST", path, "application/vnd.engram.settlements", [1]).code == 100)
      let foreign = Settlement(seq: work[0].seq, token: work[1].lease.token, .renew)
      let outcomes = try await bench.settle([
        foreign, Settlement(seq: work[0].seq, token: work[0].lease.token, .renew), try work[0].ack(bench.bob),
        Settlement(seq: work[1].seq, token: work[1].lease.token, .nack(delayMs: 0, code: .none)),
      ])
      #expect(outcomes.map(\.code) == [.leaseLost, .none, .none, .none])
      #expect(try await bench.lease().map(\.lease.attempt) == [2])
    }
  }

  @Test("a poll that waits is woken by work, also when it comes back from somebody else")
  func waitingPolls() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      async let polled = bench.lease("lease=30&wait=20")
      try await eventually("the poll waits") { edge.edge.metrics.longPolls.count > 0 }
      try await bench.post()
      let work = try await polled
      #expect(work.count == 1)
      async let again = bench.lease("lease=30&wait=20")
      try await eventually("the second poll waits") { edge.edge.metrics.longPolls.count > 1 }
      let back = Settlement(seq: work[0].seq, token: work[0].lease.token, .nack(delayMs: 0, code: .none))
      #expect(try await bench.settle([back]).map(\.outcome) == [.accepted])
      #expect(try await again.map(\.lease.attempt) == [2])
    }
  }

  @Test(
    "a connection that consumes gets leases within its prefetch, settles them, and gives back what it holds")
  func consumers() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      try await bench.post(5)
      let socket = try await RawWebSocket.open(edge, bench.bob.address, bearer: bench.bearer)
      try await socket.send(.consume(ConsumeRequest(prefetch: 2)))
      var work: [Work] = []
      while work.count < 2 {
        guard case .items(let items) = try await socket.realtime() else { throw RawError.malformed }
        work += try Work.of(items)
      }
      #expect(work.count == 2)
      #expect(work.allSatisfy { $0.lease.leaseMs == 0 && $0.lease.attempt == 1 })
      try await socket.send(.settle(request: 9, settlements: [try work[0].ack(bench.bob)]))
      var answered = false
      var next: [Work] = []
      while !answered || next.isEmpty {
        switch try await socket.realtime() {
        case .outcomes(let request, let outcomes):
          #expect(request == 9 && outcomes.map(\.outcome) == [.accepted])
          answered = true
        case .items(let items): next += try Work.of(items)
        default: throw RawError.malformed
        }
      }
      #expect(next.count == 1, "one settled, one more")
      #expect(try await bench.lease().count == 2, "the rest is for others")
      socket.connection.cut()
      try await eventually("what it held is ready again") { try await bench.lease().count == 2 }
    }
  }

  @Test(
    "a connection that breaks fails what it held, if it asked for that; one that takes leave does not",
    arguments: [true, false])
  func goodbyes(_ isOrderly: Bool) async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      try await bench.post()
      let socket = try await RawWebSocket.open(edge, bench.bob.address, bearer: bench.bearer)
      try await socket.send(.consume(ConsumeRequest(prefetch: 1, countsDisconnects: true)))
      guard case .items = try await socket.realtime() else { throw RawError.malformed }
      if isOrderly { try await socket.send(opcode: 8, [0x03, 0xe8]) } else { socket.connection.cut() }
      // A failure rests before it comes again; what is no failure is there at once.
      try await eventually("it comes again") {
        edge.clock.advance(ms: isOrderly ? 0 : 100)
        let work = try await bench.lease()
        guard let first = work.first else { return false }
        #expect(first.lease.attempt == (isOrderly ? 1 : 2))
        return true
      }
    }
  }

  @Test("receipts still come to a connection that consumes, within its credit")
  func receiptsBesideWork() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      let sealed = try sealText("from bob", from: bench.bob, to: [bench.alice], nowMs: edge.clock.nowMs())
      let socket = try await RawWebSocket.open(edge, bench.bob.address, bearer: bench.bearer)
      try await socket.send(.consume(ConsumeRequest(prefetch: 2)))
      try await socket.send(.credit(10))
      try await socket.send(.send(request: 1, envelopes: [sealed.bytes[...]]))
      guard case .outcomes = try await socket.realtime() else { throw RawError.malformed }
      try await bench.post()
      let alice = try await edge.session(bench.alice)
      let box = "/api/v1/agents/\(bench.alice.address)/messages"
      let shown = try await edge.once(.get(box, bearer: alice))
      let item = try #require(try MailboxItem.decode(shown.body[...]).first { $0.kind == .envelope })
      let ack = MailboxAck(seq: item.seq, receipt: try bench.alice.receipt(about: item.payload))
      let done = try await edge.once(
        .post(box + "/ack", "application/vnd.engram.acks", MailboxAck.encode([ack]), bearer: alice))
      #expect(done.status == 200)
      var kinds: Set<MailboxItem.Kind> = []
      while !kinds.isSuperset(of: [.leased, .receipt]) {
        guard case .items(let items) = try await socket.realtime() else { throw RawError.malformed }
        kinds.formUnion(items.map(\.kind))
      }
      #expect(!kinds.contains(.envelope), "no message comes twice, leased and shown")
    }
  }

  @Test("a second consume, an impossible one, and a settle before any are answered with their codes")
  func badConsumers() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      func end(_ frames: [RealtimeFrame]) async throws -> ErrorCode {
        let socket = try await RawWebSocket.open(edge, bench.bob.address, bearer: bench.bearer)
        for frame in frames { try await socket.send(frame) }
        return try await socket.end().0
      }
      let good = RealtimeFrame.consume(ConsumeRequest(prefetch: 1))
      #expect(try await end([good, good]) == .wrongMode)
      #expect(try await end([.consume(ConsumeRequest(prefetch: 0))]) == .nonCanonical)
      #expect(try await end([.consume(ConsumeRequest(prefetch: 1_001))]) == .tooLarge)
      #expect(try await end([.consume(ConsumeRequest(prefetch: 1, visibilityMs: 5))]) == .nonCanonical)
      // A lease of a poll may be settled on a connection; without one there is nothing to settle.
      let socket = try await RawWebSocket.open(edge, bench.bob.address, bearer: bench.bearer)
      let none = Settlement(seq: 1, token: 7, .nack(delayMs: nil, code: .none))
      try await socket.send(.settle(request: 3, settlements: [none]))
      guard case .outcomes(3, let outcomes) = try await socket.realtime() else { throw RawError.malformed }
      #expect(outcomes.map(\.code) == [.leaseLost])
    }
  }

  @Test("a queue says what waits in it, and its mode is changed by those who may")
  func queues() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      let path = "/api/v1/agents/\(bench.bob.address)/queue"
      try await bench.post(2)
      try await bench.post { $0.notBeforeMs = $0.createdMs + 60_000 }
      let work = try await bench.lease("lease=30&max=1")
      let shown = try await bench.ask("GET", path).json
      #expect(shown["mode"] as? String == "each")
      #expect(["waiting", "held", "leased", "consumers"].map { shown[$0] as? Int } == [1, 1, 1, 0])
      let json = "application/json"
      let one = Array(#"{"mode":"one"}"#.utf8)
      #expect(try await bench.ask("PUT", path, json, one).code == 412, "somebody works")
      #expect(try await bench.settle([try work[0].ack(bench.bob)]).map(\.outcome) == [.accepted])
      #expect(try await bench.ask("PUT", path, json, one).json["mode"] as? String == "one")
      #expect(try await bench.lease().count == 1)
      #expect(try await bench.ask("PUT", path, json, Array(#"{"mode":"two"}"#.utf8)).code == 100)
      #expect(try await bench.ask("PUT", path, "text/plain", one).code == 407)
      let other = "/api/v1/agents/\(bench.alice.address)/queue"
      #expect(try await bench.ask("GET", other).status == 404)
      #expect(try await bench.ask("PUT", other, json, one).status == 404)
    }
  }

  @Test("a message is cancelled by its sender while nobody has it")
  func cancelling() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      let ids = try await bench.post(2)
      func cancel(_ id: String, as device: TestDevice) async throws -> RawResponse {
        var request = RawRequest.get(
          "/api/v1/agents/\(device.address)/messages/\(id)", bearer: try await edge.session(device))
        request.method = "DELETE"
        return try await edge.once(request)
      }
      #expect(try await cancel("\(ids[0])", as: bench.bob).code == 404, "not his")
      #expect(try await cancel("\(ids[0])", as: bench.alice).status == 204)
      #expect(try await bench.lease().count == 1)
      let late = try await cancel("\(ids[1])", as: bench.alice)
      #expect(late.status == 409 && late.code == 417)
      #expect(try await cancel("zz", as: bench.alice).code == 404)
    }
  }
}

@Suite("queues on the administration's socket")
struct QueueAdministrationTests {
  @Test("dead letters are listed, looked at, requeued and dropped; the clock is shown")
  func deadLetters() async throws {
    try await withEdge { edge in
      let bench = try await Bench(edge)
      try await bench.post(2)
      for work in try await bench.lease() {
        let reject = Settlement(
          seq: work.seq, token: work.lease.token, .reject(code: .unsealFailed, receipt: []))
        #expect(try await bench.settle([reject]).map(\.outcome) == [.accepted])
      }
      try await withAdmin(on: edge) { path in
        func ask(_ method: String, _ target: String) async throws -> RawResponse {
          let connection = try await RawConnection.open(path: path, group: edge.group)
          var request = RawRequest.get("/admin/v1/" + target)
          request.method = method
          let answer = try await connection.ask(request)
          try await connection.close()
          return answer
        }
        let queues = try #require(try await ask("GET", "queues").json["queues"] as? [[String: Any]])
        let dead = try #require(queues.first { $0["kind"] as? String == "dead-letters" })
        #expect(dead["owner"] as? String == "bob@acme.example")
        #expect(dead["waiting"] as? Int == 2)
        let mailbox = try #require(dead["mailbox"] as? Int)
        let listed = try #require(
          try await ask("GET", "queues/\(mailbox)?max=1").json["messages"] as? [[String: Any]])
        #expect(listed.count == 1)
        let seq = try #require(listed[0]["seq"] as? Int)
        let rest = try #require(
          try await ask("GET", "queues/\(mailbox)?after=\(seq)").json["messages"] as? [[String: Any]])
        #expect(rest.count == 1)
        for query in [
          "max=0", "max=-1", "max=x", "max=", "max=01", "after=-1", "after=x", "after=", "limit=1",
          "after=18446744073709551616",
        ] {
          #expect(try await ask("GET", "queues/\(mailbox)?\(query)").code == 100, "\(query)")
        }
        let shown = try await ask("GET", "queues/\(mailbox)/\(seq)").json
        #expect(shown["state"] as? String == "dead-lettered")
        #expect(shown["recipients"] as? [String] == ["bob@acme.example"])
        let history = try #require(shown["history"] as? [[String: Any]])
        #expect(history.map { $0["name"] as? String } == ["unseal-failed"])
        #expect(history.first?["device"] as? String == "\(bench.bob.kid)")

        #expect(try await ask("POST", "queues/\(mailbox)/\(seq)/requeue").status == 204)
        #expect(try await ask("POST", "queues/\(mailbox)/\(seq)/requeue").status == 404)
        #expect(try await bench.lease().map(\.lease.attempt) == [1])
        let other = try #require(rest[0]["seq"] as? Int)
        #expect(try await ask("DELETE", "queues/\(mailbox)/\(other)").status == 204)
        #expect(try await ask("DELETE", "queues/\(mailbox)/\(other)").status == 404)
        #expect(try await ask("GET", "queues/\(mailbox)/\(other)").status == 404)
        #expect(try await ask("GET", "queues/999").status == 404)
        #expect(try await ask("GET", "queues/x").status == 404)
        let clock = try await ask("GET", "clock").json
        #expect(clock["now_ms"] as? UInt64 == edge.clock.nowMs())
        #expect(clock["jump_ms"] == nil)
        #expect(try await ask("POST", "clock/accept").status == 200)
      }
    }
  }
}
