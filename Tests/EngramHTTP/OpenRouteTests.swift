import EngramCore
import EngramCrypto
import EngramSealing
import NIOCore
import TestSupport
import Testing

@testable import EngramHTTP

@Suite("what the port does for nobody in particular")
struct OpenRouteTests {
  // MARK: - Metrics

  @Test("a loopback address is local, however it is written; others are not")
  func localAddresses() throws {
    for text in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
      #expect(isLocal(try SocketAddress(ipAddress: text, port: 1)), "\(text)")
    }
    for text in ["128.0.0.1", "10.0.0.1", "0.0.0.0", "::2", "1::1", "::", "::ffff:10.0.0.1", "::7f00:1"] {
      #expect(!isLocal(try SocketAddress(ipAddress: text, port: 1)), "\(text)")
    }
    #expect(isLocal(try SocketAddress(unixDomainSocketPath: "/run/x")))
    let remote = try SocketAddress(ipAddress: "10.0.0.1", port: 1)
    #expect(MetricsAccess.open.admits(remote) && MetricsAccess.open.admits(nil))
    #expect(!MetricsAccess.local.admits(remote) && !MetricsAccess.local.admits(nil))
    #expect(!MetricsAccess.off.admits(try SocketAddress(ipAddress: "127.0.0.1", port: 1)))
  }

  @Test("whom the operator does not show the metrics sees neither them nor why the node is not ready")
  func metrics() async throws {
    for (access, isShown) in [(MetricsAccess.off, false), (.local, true), (.open, true)] {
      try await withEdge(settings: { $0.metrics = access }) { edge in
        let connection = try await edge.connect()
        let answer = try await connection.ask(.get("/metrics"))
        #expect(answer.status == (isShown ? 200 : 403))
        #expect(answer.text.contains("engram_registrations_total") == isShown)
        #expect(answer.code == (isShown ? nil : 400))
        #expect(try await connection.ask(.get("/readyz")).status == 200)
        edge.edge.beginDraining()
        let unready = try await connection.ask(.get("/readyz"))
        #expect(unready.status == 503)
        #expect(unready.code == (isShown ? 507 : nil))
        #expect(try await connection.ask(.get("/healthz")).status == 200)
        try await connection.close()
      }
    }
  }

  // MARK: - Sign-ins

  @Test("an allowance gives its burst at once and its rate afterwards")
  func allowance() {
    let rate = AttemptAllowance.Rate(perSecond: 2, burst: 5)
    var allowance = AttemptAllowance(rate, nowNs: 0)
    var taken = (0..<6).count { _ in allowance.take(rate, nowNs: 0) }
    #expect(taken == 5)
    taken = (1...20).count { allowance.take(rate, nowNs: UInt64($0) * 250_000_000) }
    #expect(taken == 10, "in five seconds")
    var isFull = allowance.isFull(rate, nowNs: 5_000_000_000)
    #expect(!isFull)
    isFull = allowance.isFull(rate, nowNs: 60_000_000_000)
    #expect(isFull)
    taken = (0..<6).count { _ in allowance.take(rate, nowNs: 60_000_000_000) }
    #expect(taken == 5, "no more than the burst, however long it was quiet")
  }

  @Test("one address cannot use up another's allowance, and a /64 is one address")
  func sources() throws {
    let limiter = SignInLimiter(.init(perSecond: 1, burst: 2), sourcesMax: 3)
    func admits(_ text: String, _ seconds: UInt64 = 0) throws -> Bool {
      limiter.admit(
        SourceAddress(try SocketAddress(ipAddress: text, port: 1)), nowNs: seconds * 1_000_000_000)
    }
    #expect(try [admits("10.0.0.1"), admits("10.0.0.1"), admits("::ffff:10.0.0.1")] == [true, true, false])
    #expect(try admits("10.0.0.2"))
    #expect(try [admits("1:2:3:4::1"), admits("1:2:3:4::2"), admits("1:2:3:4:5::")] == [true, true, false])
    // The table is full: whoever is new shares one allowance, whoever is in it keeps theirs.
    #expect(try [admits("10.0.0.4"), admits("10.0.0.5"), admits("10.0.0.6")] == [true, true, false])
    #expect(try admits("10.0.0.2"))
    #expect(try admits("10.0.0.6", 100), "those that were quiet are forgotten")
  }

  @Test("too many sign-ins from one address are answered 429 without a look at them; other requests are not")
  func signIns() async throws {
    try await withEdge(settings: { $0.signInsPerSecond = 1 }) { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let connection = try await edge.connect()
      var answers: [RawResponse] = []
      for _ in 0..<HTTPLimits.signInBurstSeconds * 2 {
        answers.append(try await connection.ask(.post("/api/v1/sessions", bearer: "a.b.c")))
      }
      #expect(answers.first?.code == 210, "control")
      let limited = answers.filter { $0.status == 429 }
      #expect(limited.count >= HTTPLimits.signInBurstSeconds / 2)
      #expect(limited.allSatisfy { $0.code == 405 && $0.headers["retry-after"] == "1" })
      let type = "application/vnd.engram.registration"
      #expect(try await connection.ask(.post("/api/v1/agents/register", type, [1])).code == 405)
      #expect(edge.edge.metrics.signInsLimited.count == UInt64(limited.count + 1))
      // Whoever is known goes on working.
      let path = "/api/v1/agents/\(alice.address)/messages"
      #expect(try await connection.ask(.get(path, bearer: bearer)).status == 204)
      #expect(try await connection.ask(.post("/api/v1/sessions/renew", bearer: bearer)).status == 200)
      try await connection.close()
    }
  }

  @Test("a newer device list of one's own replaces the known one; another type of body does not get that far")
  func deviceList() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let newer = try TestDevice("alice@acme.example", listVersion: 2).list.bytes
      let bearer = try await edge.session(alice)
      func put(_ type: String) async throws -> RawResponse {
        var request = RawRequest.post(
          "/api/v1/agents/\(alice.address)/device-list", type, newer, bearer: bearer)
        request.method = "PUT"
        return try await edge.once(request)
      }
      #expect(try await put("application/vnd.engram.prekeys").status == 415, "control")
      #expect(try await put("application/vnd.engram.device-list").status == 204)
      #expect(try await put("application/vnd.engram.device-list").code == 205, "not newer any more")
    }
  }

  // MARK: - Unfinished messages

  @Test("bytes of an unfinished message are counted until it is complete, and not before they are many")
  func partialBytes() throws {
    let budget = ByteBudget(bytes: 2 * HTTPLimits.partialBytesStep)
    func isFree(_ count: Int) -> Bool {
      guard budget.take(count) else { return false }
      budget.give(count)
      return true
    }
    do {
      let partial = PartialBytes(budget)
      #expect(partial.add(HTTPLimits.partialBytesFree))
      #expect(isFree(2 * HTTPLimits.partialBytesStep), "the free part draws nothing")
      #expect(partial.add(1))
      #expect(!isFree(HTTPLimits.partialBytesStep + 1) && isFree(HTTPLimits.partialBytesStep))
      #expect(partial.add(2 * HTTPLimits.partialBytesStep - 1))
      #expect(!partial.add(1), "all is drawn")
    }
    #expect(isFree(2 * HTTPLimits.partialBytesStep), "a connection that ends gives everything back")
  }

  @Test("unfinished WebSocket messages beyond what all connections may hold end with 1013, whole ones pass")
  func partialMessages() async throws {
    let large = [UInt8](repeating: 0, count: 100_000)
    try await withEdge(settings: { $0.partialBytesMax = 2 * HTTPLimits.partialBytesStep }) { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      func open() async throws -> RawWebSocket {
        try await RawWebSocket.open(edge, alice.address, bearer: bearer)
      }
      // Once as a fragment that is complete, its message not; once as a frame of which the end is missing.
      let first = try await open()
      try await first.send(fin: false, large)
      try await first.send(opcode: 9, [1])
      #expect(try await first.next() == .init(opcode: 10, fin: true, payload: [1]), "the fragment was taken")
      let second = try await open()
      try? await second.connection.send(
        [0x82, 0xff] + withUnsafeBytes(of: UInt64(200_000).bigEndian) { Array($0) } + [0, 0, 0, 0] + large)
      let (code, close) = try await second.end()
      #expect(code == .overloaded && close == 1013)
      #expect(edge.edge.metrics.partialsRefused.count == 1)
      // Small messages of others get through, and the first one ends what it began.
      let third = try await open()
      try await third.send(.credit(1))
      try await third.send(opcode: 9, [3])
      #expect(try await third.next() == .init(opcode: 10, fin: true, payload: [3]))
      try await first.send(opcode: 0, fin: true, [0])
      #expect(try await first.end().0 != .overloaded, "control: it is judged by what it says")
      try await eventually("everything was given back") {
        let all = 2 * HTTPLimits.partialBytesStep
        let isFree = edge.edge.partials.take(all)
        if isFree { edge.edge.partials.give(all) }
        return isFree
      }
    }
  }
}
