import EngramCore
import EngramNode
import EngramSealing
import EngramTLS
import NIOCore
import TestSupport
import Testing

@testable import EngramHTTP

/// Says hello and ends, as a protocol that shares the port.
private final class GreetingHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer
  func handlerAdded(context: ChannelHandlerContext) {
    context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: "hello")), promise: nil)
    context.close(promise: nil)
  }
}

@Suite("the shared port")
struct ListenerTests {
  @Test("a connection goes where its protocol says, and nowhere when none is agreed on")
  func routing() async throws {
    let greeting: ForeignProtocol = { channel, handler in
      channel.eventLoop.makeCompletedFuture {
        #expect(handler.connectionInfo?.applicationProtocol == "greeting/1")
        try channel.pipeline.syncOperations.addHandler(GreetingHandler())
      }
    }
    try await withEdge(foreign: ["greeting/1": greeting]) { edge in
      let foreign = try await edge.connect(alpn: ["greeting/1"])
      #expect(try await foreign.take(5) == Array("hello".utf8))
      try await foreign.ended()
      #expect(try await edge.once(.get("/healthz")).status == 200)
      let unknown = try await edge.connect(alpn: ["other/1"])
      try await unknown.ended()
      try await eventually("the failed handshake is counted") {
        edge.edge.metrics.handshakesFailed.count == 1
      }
    }
  }

  @Test("connections beyond the bound are closed, and there is room again when one ends")
  func connectionsBound() async throws {
    try await withEdge(settings: { $0.connectionsMax = 2 }) { edge in
      let first = try await edge.connect()
      let second = try await edge.connect()
      #expect(try await first.ask(.get("/healthz")).status == 200)
      #expect(try await second.ask(.get("/healthz")).status == 200)
      let third = try await edge.connect()
      try await third.ended()
      #expect(edge.edge.metrics.connectionsRefused.count == 1)
      try await second.close()
      try await eventually("the place is free") {
        (try? await edge.once(.get("/healthz")).status) == 200
      }
      #expect(try await first.ask(.get("/healthz")).status == 200)
      try await first.close()
    }
  }

  @Test("clients that take all their connections leave room for a peer")
  func roomForPeers() async throws {
    let greeting: ForeignProtocol = { channel, _ in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(GreetingHandler())
      }
    }
    try await withEdge(settings: { $0.connectionsMax = 1 }, foreign: ["greeting/1": greeting]) { edge in
      let client = try await edge.connect()
      #expect(try await client.ask(.get("/healthz")).status == 200)
      let control = try await edge.connect()
      try await control.ended()
      let peer = try await edge.connect(alpn: ["greeting/1"])
      #expect(try await peer.take(5) == Array("hello".utf8))
      try await peer.ended()
      try await client.close()
    }
  }

  @Test("requests that come together are answered in order on one connection")
  func pipelining() async throws {
    try await withEdge { edge in
      let connection = try await edge.connect()
      let paths = ["/healthz", "/nowhere", "/readyz"]
      try await connection.send(paths.flatMap { RawRequest.get($0).bytes })
      var statuses: [Int] = []
      for _ in paths { statuses.append(try await connection.response().status) }
      #expect(statuses == [200, 404, 200])
      try await connection.close()
    }
  }

  @Test("while the node drains it is not ready, answers what is in progress, and takes no more")
  func drain() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let idle = try await edge.connect()
      #expect(try await idle.ask(.get("/readyz")).status == 200)
      let polling = try await edge.connect()
      let path = "/api/v1/agents/\(alice.address)/messages?wait=30"
      try await polling.send(RawRequest.get(path, bearer: try await edge.session(alice)).bytes)
      try await eventually("the poll waits") { edge.edge.metrics.longPolls.count == 1 }
      await edge.drain()
      let answer = try await polling.response()
      #expect(answer.status == 204)
      #expect(answer.headers["connection"] == "close")
      try await polling.ended()
      try await idle.ended()
      #expect(!edge.edge.isReady)
      await #expect(throws: (any Error).self) { try await edge.connect() }
    }
  }

  @Test("a long poll is answered when something comes, and empty when its time is over")
  func longPoll() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let bearer = try await edge.session(bob)
      let path = "/api/v1/agents/\(bob.address)/messages"
      let polling = try await edge.connect()
      #expect(try await polling.ask(.get(path + "?wait=1", bearer: bearer)).status == 204)
      try await polling.send(RawRequest.get(path + "?wait=30", bearer: bearer).bytes)
      try await eventually("the poll waits") { edge.edge.metrics.longPolls.count == 2 }
      let body = fields { $0.field((try? sealText("x", from: alice, to: [bob]).bytes) ?? []) }
      _ = try await edge.once(
        .post(
          "/api/v1/agents/\(alice.address)/messages", "application/vnd.engram.envelopes", body,
          bearer: try await edge.session(alice)))
      let answer = try await polling.response()
      #expect(answer.status == 200)
      let items = try MailboxItem.decode(answer.body[...])
      #expect(items.map(\.kind) == [.certificate, .envelope])
      let after = try await polling.ask(.get(path + "?after=\(items[1].seq)", bearer: bearer))
      #expect(after.status == 204)
      #expect(try await polling.ask(.get(path + "?max=x", bearer: bearer)).status == 400)
      try await polling.close()
    }
  }

  @Test("a client that is disabled while it polls gets no more")
  func disabledPoll() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let polling = try await edge.connect()
      let path = "/api/v1/agents/\(alice.address)/messages?wait=30"
      try await polling.send(RawRequest.get(path, bearer: try await edge.session(alice)).bytes)
      try await eventually("the poll waits") { edge.edge.metrics.longPolls.count == 1 }
      edge.node.disable("alice") { _ in }
      #expect(try await polling.response().status == 401)
      try await polling.close()
    }
  }

  @Test("every line of the metrics can be read, and says what happened")
  func metrics() async throws {
    try await withEdge { edge in
      let connection = try await edge.connect()
      _ = try await connection.ask(.get("/healthz"))
      let answer = try await connection.ask(.get("/metrics"))
      #expect(answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
      let sample = #/[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? -?[0-9.e+-]+/#
      let type = #/# TYPE [a-z_]+ (counter|gauge)/#
      let lines = answer.text.split(separator: "\n")
      #expect(lines.count > 20)
      for line in lines {
        let isRead = try sample.wholeMatch(in: line) != nil || type.wholeMatch(in: line) != nil
        #expect(isRead, "\(line)")
      }
      #expect(lines.contains(#"engram_http_requests_total{method="GET",route="/healthz",status="200"} 1"#))
      #expect(lines.contains(#"engram_connections{kind="http"} 1"#))
      #expect(lines.contains("engram_registrations_total 0"))
      #expect(lines.contains { $0.hasPrefix("process_resident_memory_bytes ") })
      try await connection.close()
    }
  }
}
