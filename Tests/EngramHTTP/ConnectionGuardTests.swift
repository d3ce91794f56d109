import EngramCore
import NIOCore
import NIOEmbedded
import NIOHTTP1
import Testing

@testable import EngramHTTP

/// A connection of bytes through our codec and guard, on a clock that the test turns.
private struct GuardedConnection {
  let channel = EmbeddedChannel()
  let metrics = HTTPMetrics()

  init(first: Int64 = 10, keepAlive: Int64 = 75, body: Int64 = 60) throws {
    _ = try HTTPCodec(
      addingTo: channel,
      timeouts: .init(firstRequest: .seconds(first), keepAlive: .seconds(keepAlive), body: .seconds(body)),
      metrics: metrics)
    try channel.connect(to: SocketAddress(unixDomainSocketPath: "/x")).wait()
  }

  func send(_ text: String) throws { try channel.writeInbound(ByteBuffer(string: text)) }

  func respond(_ status: HTTPResponseStatus = .ok, headers: HTTPHeaders = ["content-length": "0"]) {
    let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
    channel.write(HTTPServerResponsePart.head(head), promise: nil)
    channel.writeAndFlush(HTTPServerResponsePart.end(nil), promise: nil)
  }

  /// Bytes that went out since the last call.
  func output() throws -> String {
    var text = ""
    while let buffer = try channel.readOutbound(as: ByteBuffer.self) { text += String(buffer: buffer) }
    return text
  }

  func advance(_ seconds: Int64) { channel.embeddedEventLoop.advanceTime(by: .seconds(seconds)) }
}

@Suite("one connection stays within its bounds")
struct ConnectionGuardTests {
  private let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n"

  @Test("a header that dribbles in does not hold the connection")
  func slowHeader() throws {
    let connection = try GuardedConnection()
    for byte in "GET / HT" {
      try connection.send(String(byte))
      connection.advance(1)
    }
    #expect(connection.channel.isActive)
    connection.advance(2)
    #expect(!connection.channel.isActive)
    #expect(connection.metrics.timeouts.count == 1)
  }

  @Test("control: a header that comes in time is served, however slowly the answer comes")
  func headerInTime() throws {
    let connection = try GuardedConnection()
    connection.advance(9)
    try connection.send(request)
    connection.advance(1_000)
    connection.respond()
    #expect(try connection.output().hasPrefix("HTTP/1.1 200 OK"))
    #expect(connection.channel.isActive)
  }

  @Test("an idle connection ends after the keep-alive time, and a further request starts it again")
  func keepAlive() throws {
    let connection = try GuardedConnection()
    for _ in 0..<3 {
      try connection.send(request)
      connection.respond()
      connection.advance(74)
    }
    #expect(connection.channel.isActive)
    connection.advance(1)
    #expect(!connection.channel.isActive)
  }

  @Test("a body that dribbles in is answered with 408")
  func slowBody() throws {
    let connection = try GuardedConnection()
    try connection.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n")
    for _ in 0..<59 {
      try connection.send("x")
      connection.advance(1)
    }
    #expect(try connection.output().isEmpty)
    connection.advance(1)
    let output = try connection.output()
    #expect(output.hasPrefix("HTTP/1.1 408 Request Timeout"))
    #expect(output.contains("\"code\":511"))
    #expect(!connection.channel.isActive)
  }

  @Test("bytes that are not HTTP are answered with 400, a header that is too large with 431")
  func unparsable() throws {
    let garbage = try GuardedConnection()
    try garbage.send("\u{1}\u{2}\u{3}\r\n\r\n")
    #expect(try garbage.output().hasPrefix("HTTP/1.1 400 Bad Request"))
    #expect(!garbage.channel.isActive)
    for header in [
      "/" + String(repeating: "a", count: 17_000),
      "/ HTTP/1.1\r\na: " + String(repeating: "b", count: 17_000),
    ] {
      let large = try GuardedConnection()
      try large.send("GET " + header)
      #expect(try large.output().hasPrefix("HTTP/1.1 431 "))
      #expect(!large.channel.isActive)
    }
  }

  @Test("too many header fields are refused; as many as allowed are not")
  func manyFields() throws {
    func output(fields: Int) throws -> (String, Bool) {
      let connection = try GuardedConnection()
      let lines = (0..<fields).map { "f\($0): x\r\n" }.joined()
      try connection.send("GET / HTTP/1.1\r\n\(lines)\r\n")
      return (try connection.output(), connection.channel.isActive)
    }
    #expect(try output(fields: HTTPLimits.headerFieldsMax + 1).0.hasPrefix("HTTP/1.1 431 "))
    #expect(try output(fields: HTTPLimits.headerFieldsMax) == ("", true))
  }

  @Test("a chunked body that ends with the connection is answered with 400")
  func truncatedChunks() throws {
    let connection = try GuardedConnection()
    try connection.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab")
    connection.channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    #expect(try connection.output().hasPrefix("HTTP/1.1 400 "))
    #expect(!connection.channel.isActive)
  }

  @Test("a body is cut off at the largest size of all, whatever the route does")
  func endlessBody() throws {
    let connection = try GuardedConnection()
    try connection.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    let chunk = "100000\r\n" + String(repeating: "x", count: 1 << 20) + "\r\n"
    for _ in 0..<24 { try connection.send(chunk) }
    #expect(connection.channel.isActive)
    try connection.send(chunk)
    #expect(try connection.output().hasPrefix("HTTP/1.1 413 "))
    #expect(!connection.channel.isActive)
  }

  @Test("a drain closes an idle connection, and one at work after its answer, which says so")
  func quiesce() throws {
    let idle = try GuardedConnection()
    idle.channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    #expect(!idle.channel.isActive)
    let busy = try GuardedConnection()
    try busy.send(request)
    busy.channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    #expect(busy.channel.isActive)
    busy.respond()
    #expect(try busy.output().contains("connection: close"))
    #expect(!busy.channel.isActive)
  }

  @Test("a request that wants to be the last is the last, and those before it are answered too")
  func lastOfSeveral() throws {
    let connection = try GuardedConnection()
    try connection.send(request + request + "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    for _ in 0..<2 {
      connection.respond()
      #expect(try !connection.output().contains("connection: close"))
      #expect(connection.channel.isActive)
    }
    connection.respond()
    #expect(try connection.output().contains("connection: close"))
    #expect(!connection.channel.isActive)
  }

  @Test("100-continue is sent for a body that may come, and not for one that is too large")
  func expectation() throws {
    func output(length: Int) throws -> String {
      let connection = try GuardedConnection()
      try connection.send("POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: \(length)\r\n\r\n")
      return try connection.output()
    }
    #expect(try output(length: 10).hasPrefix("HTTP/1.1 100 Continue"))
    #expect(try output(length: HTTPLimits.batchBytesMax + 1).isEmpty)
  }

  @Test("a problem never lands in the middle of an answer")
  func noSecondAnswer() throws {
    let connection = try GuardedConnection()
    try connection.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
    let head = HTTPResponseHead(version: .http1_1, status: .ok, headers: ["content-length": "2"])
    connection.channel.writeAndFlush(HTTPServerResponsePart.head(head), promise: nil)
    _ = try connection.output()
    connection.advance(60)
    #expect(try connection.output().isEmpty)
    #expect(!connection.channel.isActive)
  }

  @Test("after a request to upgrade that was not granted the connection ends with the answer")
  func refusedUpgrade() throws {
    let connection = try GuardedConnection()
    try connection.send("GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    connection.respond(.unauthorized)
    #expect(try connection.output().contains("connection: close"))
    #expect(!connection.channel.isActive)
  }
}
