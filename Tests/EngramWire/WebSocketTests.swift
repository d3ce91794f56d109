import EngramTLS
import EngramWire
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite("WebSocket")
struct WebSocketTests {
  func server(
    _ script: WebSocketScript, _ transport: ScriptedServer.Transport = .tls
  ) async throws -> ScriptedServer {
    try await ScriptedServer.start(transport) { _ in .upgrade(script) }
  }

  func open(
    _ server: ScriptedServer, limits: WireLimits = WireLimits(), delivery: WebSocketDelivery = .stream
  ) async throws -> WebSocketConnection {
    let opening = try await WebSocketConnection.connect(
      endpoint: server.endpoint, path: "/realtime", headers: [WireHeader("x-token", "t")],
      delivery: delivery, limits: limits)
    guard case .open(let connection) = opening else { throw WireError.protocolViolation }
    return connection
  }

  @Test("messages of all sizes come back unchanged", arguments: ScriptedServer.Transport.allCases)
  func echo(transport: ScriptedServer.Transport) async throws {
    let server = try await server(.echo, transport)
    let connection = try await open(server)
    var messages = connection.messages.makeAsyncIterator()
    for size in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
      let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      try await connection.send(binary: payload)
      #expect(await messages.next() == payload)
    }
    try await connection.send(text: "grüße")
    #expect(await messages.next() == Array("grüße".utf8))
    #expect(server.seen.requests.first?.headers["x-token"] == "t")
    #expect(server.seen.frames.allSatisfy { $0.wasMasked })
    #expect(await connection.close(code: 4000, reason: "done") == .closed(code: 4000, reason: "done"))
    #expect(await messages.next() == nil)
    await server.stop()
  }

  @Test("a callback gets the messages on the event loop, in order")
  func callback() async throws {
    let server = try await server(.echo)
    let received = Mutex<[UInt32]>([])
    let connection = try await open(
      server,
      delivery: .callback { bytes in
        received.withLock { $0.append(bytes.getInteger(at: bytes.readerIndex) ?? 0) }
      })
    for number in UInt32(0)..<5000 { connection.post(binary: ByteBuffer(integer: number)) }
    #expect(await eventually { received.withLock { $0.count } == 5000 })
    #expect(received.withLock { $0 } == Array(0..<5000))
    var messages = connection.messages.makeAsyncIterator()
    #expect(await messages.next() == nil)
    await connection.close()
    await server.stop()
  }

  @Test("fragments are joined, pings between them answered, and a close frame surfaces code and reason")
  func control() async throws {
    let behind =
      WebSocketPeer.frame(2, [1, 2], fin: false) + WebSocketPeer.frame(9, [7]) + WebSocketPeer.frame(10, [])
      + WebSocketPeer.frame(0, [3], fin: false) + WebSocketPeer.frame(0, [4])
      + WebSocketPeer.close(4001, "go away")
    let server = try await server(.raw(behind))
    let connection = try await open(server)
    var messages = connection.messages.makeAsyncIterator()
    #expect(await messages.next() == [1, 2, 3, 4])
    #expect(await messages.next() == nil)
    #expect(await connection.end() == .closed(code: 4001, reason: "go away"))
    #expect(await eventually { server.seen.frames.count == 2 })
    #expect(
      server.seen.frames == [
        SeenFrame(opcode: 10, payload: [7], wasMasked: true),
        SeenFrame(opcode: 8, payload: [0x0f, 0xa1], wasMasked: true),
      ])
    await server.stop()
  }

  @Test("a declined upgrade surfaces status and body", arguments: ScriptedServer.Transport.allCases)
  func declined(transport: ScriptedServer.Transport) async throws {
    let server = try await ScriptedServer.start(transport) { _ in
      ok("{\"code\":7}", status: "401 Unauthorized", headers: "x-code: 7\r\n")
    }
    let opening = try await WebSocketConnection.connect(endpoint: server.endpoint, path: "/realtime")
    guard case .declined(let response) = opening else {
      Issue.record("it was opened")
      return
    }
    #expect(response.status == 401 && response.header("x-code") == "7")
    #expect(response.body == Array("{\"code\":7}".utf8))
    await server.stop()
  }

  @Test("a handshake with the wrong key, no answer or no server is an error")
  func failedOpening() async throws {
    func failure(_ endpoint: Endpoint, _ limits: WireLimits = WireLimits()) async -> WireError? {
      do {
        _ = try await WebSocketConnection.connect(endpoint: endpoint, path: "/", limits: limits)
        return nil
      } catch { return error }
    }
    let wrong = try await server(.wrongKey)
    #expect(await failure(wrong.endpoint) == .protocolViolation)
    let dropping = try await ScriptedServer.start(.unix) { _ in .drop }
    #expect(await failure(dropping.endpoint) == .closed)
    var limits = WireLimits()
    limits.requestTimeout = .milliseconds(200)
    let silent = try await ScriptedServer.start(.unix) { _ in .nothing }
    #expect(await failure(silent.endpoint, limits) == .timeout)
    await silent.stop()
    #expect(await failure(silent.endpoint) == .refused)
    await wrong.stop()
    await dropping.stop()
  }

  @Test(
    "frames that RFC 6455 forbids end the connection",
    arguments: [
      [0x82, 0x81, 0, 0, 0, 0, 1],  // masked by a server
      [0xc2, 0x01, 1],  // a reserved bit without extension
      [0x80, 0x01, 1],  // a continuation of nothing
      [0x02, 0x01, 1, 0x82, 0x01, 1],  // a second message inside the first
      [0x83, 0x01, 1],  // a reserved opcode
    ] as [[UInt8]])
  func forbidden(bytes: [UInt8]) async throws {
    let server = try await server(.raw(bytes))
    let connection = try await open(server)
    #expect(await connection.end() == .failed(.protocolViolation))
    #expect(
      await eventually {
        server.seen.frames == [SeenFrame(opcode: 8, payload: [0x03, 0xea], wasMasked: true)]  // 1002
      })
    await server.stop()
  }

  @Test("a message above the limit is refused, whole or in fragments; one of the limit is not")
  func tooLarge() async throws {
    var limits = WireLimits()
    limits.messageBytesMax = 1000
    let fits = [UInt8](repeating: 1, count: 1000)
    let half = [UInt8](repeating: 1, count: 501)
    let cases: [([UInt8], WebSocketEnd)] = [
      (WebSocketPeer.frame(2, fits) + WebSocketPeer.close(1000, ""), .closed(code: 1000, reason: "")),
      (WebSocketPeer.frame(2, fits + [1]), .failed(.tooLarge(limitBytes: 1000))),
      (
        WebSocketPeer.frame(2, half, fin: false) + WebSocketPeer.frame(0, half),
        .failed(.tooLarge(limitBytes: 1000))
      ),
    ]
    for (bytes, end) in cases {
      let server = try await server(.raw(bytes))
      let connection = try await open(server, limits: limits)
      #expect(await connection.end() == end)
      await server.stop()
    }
    let server = try await server(.echo)
    let connection = try await open(server, limits: limits)
    await #expect(throws: WireError.tooLarge(limitBytes: 1000)) {
      try await connection.send(binary: fits + [1])
    }
    await server.stop()
  }

  @Test("a reader that lags behind stops the sender, and still gets everything")
  func backPressure() async throws {
    let (count, size) = (2000, 64 << 10)
    let server = try await server(.flood(messages: count, bytes: size))
    let connection = try await open(server)
    var messages = connection.messages.makeAsyncIterator()
    #expect(await messages.next()?.count == size)
    // The sender is stopped when its progress is the same over many polls.
    var (last, same) = (-1, 0)
    while same < 30 {
      try await Task.sleep(for: .milliseconds(10))
      let now = server.seen.sentBytes
      (last, same) = (now, now == last ? same + 1 : 0)
    }
    #expect(last < count * size / 2, "without back pressure all 125 MiB would be in memory now")
    for _ in 1..<count { try #require(await messages.next()?.count == size) }
    #expect(await eventually { server.seen.sentBytes == count * size })
    await connection.close()
    await server.stop()
  }

  @Test("a peer that answers no ping is given up, one that does is kept", arguments: [true, false])
  func silence(answers: Bool) async throws {
    // An event loop of its own: other tests keep the shared ones busy for longer than an interval.
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    var limits = WireLimits()
    limits.pingInterval = .milliseconds(500)
    let server = try await ScriptedServer.start(.unix, on: group) { _ in .upgrade(answers ? .echo : .mute) }
    let opening = try await WebSocketConnection.connect(
      endpoint: server.endpoint, path: "/", limits: limits, eventLoopGroup: group)
    guard case .open(let connection) = opening else { throw WireError.protocolViolation }
    if answers {
      #expect(await eventually { server.seen.frames.count { $0.opcode == 9 } >= 3 })
      #expect(await connection.close() == .closed(code: 1000, reason: ""))
    } else {
      #expect(await connection.end() == .failed(.timeout))
    }
    await server.stop()
    try await group.shutdownGracefully()
  }

  @Test("a transport that just ends is a failure, not a close", arguments: ScriptedServer.Transport.allCases)
  func dropped(transport: ScriptedServer.Transport) async throws {
    let server = try await server(.dropOnMessage, transport)
    let connection = try await open(server)
    try await connection.send(binary: [1])
    #expect(await connection.end() == .failed(transport == .tls ? .tls(.truncated) : .closed))
    await #expect(throws: WireError.closed) { try await connection.send(binary: [1]) }
    await server.stop()
  }
}
