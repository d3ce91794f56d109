import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import Foundation
import NIOCore
import TestSupport
import Testing

@testable import EngramHTTP

private let envelopesType = "application/vnd.engram.envelopes"

private func batch(_ envelopes: [UInt8]...) -> [UInt8] {
  fields { w in for envelope in envelopes { w.field(envelope) } }
}

@Suite("the API over TLS")
struct APITests {
  @Test("a message is posted, received, acknowledged, and its receipt comes back")
  func roundTrip() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let envelope = try sealText("hello", from: alice, to: [bob])
      let connection = try await edge.connect()
      let path = "/api/v1/agents/\(alice.address)/messages"
      let bearer = try await edge.session(alice)
      let answer = try await connection.ask(.post(path, envelopesType, batch(envelope.bytes), bearer: bearer))
      #expect(answer.status == 200)
      #expect(answer.headers["content-type"] == "application/vnd.engram.outcomes")
      #expect(answer.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT")
      let outcomes = try ItemOutcome.decode(answer.body[...])
      #expect(outcomes.map(\.outcome) == [.accepted])
      #expect(outcomes.first?.receipt.isEmpty == false)

      let items = try await edge.waiting(bob)
      #expect(items.map(\.kind) == [.certificate, .envelope])
      let item = try #require(items.last)
      #expect(try bob.open(item.payload, from: alice).body == Array("hello".utf8))

      let acks = MailboxAck.encode([MailboxAck(seq: item.seq, receipt: try bob.receipt(about: item.payload))])
      let acked = try await edge.once(
        .post(
          "/api/v1/agents/\(bob.address)/messages/ack", "application/vnd.engram.acks", acks,
          bearer: try await edge.session(bob)))
      #expect(try ItemOutcome.decode(acked.body[...]).map(\.outcome) == [.accepted])
      #expect(try await edge.waiting(bob).isEmpty)
      #expect(try await edge.waiting(alice).map(\.kind) == [.receipt])
      try await connection.close()
    }
  }

  @Test("outcomes come as JSON when they are asked for")
  func outcomesAsJSON() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let answer = try await edge.once(
        .post(
          "/api/v1/agents/\(alice.address)/messages", envelopesType, batch([1, 2, 3]),
          bearer: try await edge.session(alice), headers: [("accept", "application/json")]))
      #expect(answer.status == 200)
      #expect(answer.text == #"[{"code":100,"name":"malformed","outcome":"refused","receipt":""}]"#)
    }
  }

  @Test("without authentication there is nothing but the node's name, health and metrics")
  func authenticationMissing() async throws {
    try await withEdge { edge in
      let connection = try await edge.connect()
      let paths = ["messages", "realtime"].map { "/api/v1/agents/alice@acme.example/\($0)" }
      for path in paths + ["/api/v1/directory/alice@acme.example"] {
        let answer = try await connection.ask(.get(path))
        #expect(answer.status == 401, "\(path)")
        #expect(answer.code == 210)
        #expect(answer.headers["www-authenticate"] == "Bearer")
        #expect(answer.headers["content-type"] == "application/problem+json")
      }
      #expect(try await connection.ask(.post("/api/v1/sessions")).code == 210)
      #expect(try await connection.ask(.post("/api/v1/sessions", bearer: "a.b.c")).code == 210)
      #expect(try await connection.ask(.get("/healthz")).status == 200)
      #expect(try await connection.ask(.get("/readyz")).status == 200)
      let node = try await connection.ask(.get("/api/v1/node"))
      #expect(node.json["name"] as? String == "acme.example")
      #expect(node.json["node_id"] as? String == "\(edge.node.identity.id)")
      #expect(node.json["api"] as? String == "v1")
      #expect(try await connection.ask(.get("/nowhere")).code == 404)
      #expect(try await connection.ask(.get("/api/v1/sessions")).code == 404)
      try await connection.close()
    }
  }

  @Test("a token opens one session; a session ends, or is renewed under a new name")
  func sessions() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let path = "/api/v1/agents/\(alice.address)/messages"
      let token = alice.token(node: edge.node.identity.id)
      let first = try await edge.once(.post("/api/v1/sessions", bearer: token))
      #expect(first.status == 201)
      #expect(try await edge.once(.post("/api/v1/sessions", bearer: token)).code == 211)
      let bearer = try #require(first.json["session"] as? String)
      #expect(try await edge.once(.get(path, bearer: bearer)).status == 204)
      let renewed = try await edge.once(.post("/api/v1/sessions/renew", bearer: bearer))
      #expect(renewed.status == 200)
      let next = try #require(renewed.json["session"] as? String)
      #expect(try await edge.once(.get(path, bearer: bearer)).code == 212)
      #expect(try await edge.once(.get(path, bearer: next)).status == 204)
      edge.clock.advance(ms: edge.node.settings.sessionMs)
      let expired = try await edge.once(.get(path, bearer: next))
      #expect(expired.status == 401)
      #expect(expired.code == 212)
    }
  }

  @Test("somebody else's path is answered like one that does not exist")
  func wrongAddress() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      try await edge.enrol("bob@acme.example")
      let bearer = try await edge.session(alice)
      func answer(_ id: String) async throws -> RawResponse {
        try await edge.once(.get("/api/v1/agents/\(id)/messages", bearer: bearer))
      }
      let known = try await answer("bob@acme.example")
      #expect(known.status == 404)
      for id in ["nobody@acme.example", "alice", "alice@globex.example", "ALICE@acme.example"] {
        let other = try await answer(id)
        #expect(other.status == known.status && other.body == known.body, "\(id)")
      }
      #expect(try await answer("alice%40acme.example").status == 204)
    }
  }

  @Test("the directory answers for known clients only, and a prekey is replaced by its owner")
  func directory() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let found = try await edge.once(.get("/api/v1/directory/alice@acme.example", bearer: bearer))
      #expect(found.status == 200)
      let answer = try verifyDirectoryAnswer(found.body[...], pinned: edge.node.identity.id)
      #expect(answer.address == alice.address)
      #expect(
        try await edge.once(.get("/api/v1/directory/nobody@acme.example", bearer: bearer)).status == 404)
      #expect(try await edge.once(.get("/api/v1/directory/x@globex.example", bearer: bearer)).code == 402)
      var put = RawRequest.post(
        "/api/v1/agents/\(alice.address)/prekeys", "application/vnd.engram.prekeys", alice.prekey.bytes,
        bearer: bearer)
      put.method = "PUT"
      #expect(try await edge.once(put).status == 204)
      put.body[put.body.count - 1] ^= 1
      #expect(try await edge.once(put).status == 422)
    }
  }

  @Test("an invite is needed to register, and used once")
  func registration() async throws {
    try await withEdge { edge in
      let alice = try TestDevice("alice@acme.example")
      let request = alice.registration(node: edge.node.identity.id, invite: Array("no such invite".utf8))
      let answer = try await edge.once(
        .post("/api/v1/agents/register", "application/vnd.engram.registration", request.encoded()))
      #expect(answer.status == 403)
      #expect(answer.code == 213)
      let wrongType = try await edge.once(
        .post("/api/v1/agents/register", "application/json", request.encoded()))
      #expect(wrongType.code == 407)
    }
  }
}

@Suite("bad input over TLS")
struct BadInputTests {
  @Test("a body that is not sealed is refused by its type, and stored nowhere")
  func unsealed() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let path = "/api/v1/agents/\(alice.address)/messages"
      let text = Array(#"{"to":"bob@acme.example","text":"in the clear"}"#.utf8)
      for type in ["application/json", "text/plain", envelopesType + "; charset=utf-8"] {
        let answer = try await edge.once(.post(path, type, text, bearer: bearer))
        #expect(answer.status == 415, "\(type)")
        #expect(answer.code == 407)
      }
      #expect(try await edge.once(.post(path, nil, text, bearer: bearer)).status == 415)
      // Under the right type it is no batch.
      #expect(try await edge.once(.post(path, envelopesType, text, bearer: bearer)).code == 101)
      #expect(try edge.node.status().messages == 0)
    }
  }

  @Test("a batch that is empty or cut is refused; one bad envelope in it leaves the others alone")
  func batches() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let path = "/api/v1/agents/\(alice.address)/messages"
      let envelope = try sealText("x", from: alice, to: [alice]).bytes
      #expect(try await edge.once(.post(path, envelopesType, [], bearer: bearer)).code == 100)
      let cut = Array(batch(envelope).dropLast())
      #expect(try await edge.once(.post(path, envelopesType, cut, bearer: bearer)).code == 100)
      var forged = try sealText("y", from: alice, to: [alice]).bytes
      forged[forged.count - 1] ^= 1
      let mixed = try await edge.once(
        .post(path, envelopesType, batch([], forged, envelope, envelope), bearer: bearer))
      let outcomes = try ItemOutcome.decode(mixed.body[...])
      #expect(outcomes.map(\.outcome) == [.refused, .refused, .accepted, .duplicate])
      #expect(outcomes.map(\.code).prefix(2) == [.malformed, .badSignature])
      #expect(try edge.node.status().messages == 1)
    }
  }

  @Test("a body that is announced or grows too large is answered with 413, and the connection ends")
  func oversized() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let path = "/api/v1/agents/\(alice.address)/messages"
      let announced = try await edge.connect()
      var request = RawRequest.post(path, envelopesType, bearer: bearer)
      request.headers[request.headers.count - 1].1 = "\(HTTPLimits.batchBytesMax + 1)"
      let answer = try await announced.ask(request)
      #expect(answer.status == 413)
      #expect(answer.code == 101)
      #expect(answer.headers["connection"] == "close")
      try await announced.ended()

      let chunked = try await edge.connect()
      request.headers[request.headers.count - 1] = ("transfer-encoding", "chunked")
      request.headers[1].1 = "application/vnd.engram.registration"
      request.path = "/api/v1/agents/register"
      try await chunked.send(request.bytes)
      try await chunked.send("8000\r\n" + String(repeating: "x", count: 0x8000) + "\r\n")
      let grown = try await chunked.response()
      #expect(grown.status == 413)
      try await chunked.ended()
    }
  }

  @Test("a chunked body that breaks off is answered with 400 when the client still listens")
  func truncatedChunk() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let connection = try await edge.connect()
      var request = RawRequest.post(
        "/api/v1/agents/\(alice.address)/messages", envelopesType, bearer: try await edge.session(alice))
      request.headers[request.headers.count - 1] = ("transfer-encoding", "chunked")
      try await connection.send(request.bytes)
      try await connection.send("10\r\nonly this")
      try await connection.channel.close(mode: .output).get()
      #expect(try await connection.response().status == 400)
      try await connection.ended()
      #expect(try await edge.once(.get("/healthz")).status == 200)
    }
  }

  @Test("bodies beyond what all connections may hold are refused with 503 until some are done")
  func bodyBudget() async throws {
    try await withEdge(settings: { $0.bodyBytesInFlightMax = 10_000 }) { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let path = "/api/v1/agents/\(alice.address)/messages"
      let first = try await edge.connect()
      var request = RawRequest.post(path, envelopesType, [UInt8](repeating: 0, count: 8_000), bearer: bearer)
      let body = request.body
      request.body = []
      try await first.send(request.bytes)
      try await eventually("the first body is awaited") {
        let isFree = edge.edge.bodies.take(8_000)
        if isFree { edge.edge.bodies.give(8_000) }
        return !isFree
      }
      let refused = try await edge.once(.post(path, envelopesType, body, bearer: bearer))
      #expect(refused.status == 503)
      #expect(refused.code == 602)
      try await first.send(body)
      #expect(try await first.response().code == 101)
      #expect(try await edge.once(.post(path, envelopesType, body, bearer: bearer)).code == 101)
      try await first.close()
    }
  }

  @Test("garbage instead of HTTP, and a header without end, cost nobody else anything")
  func garbage() async throws {
    try await withEdge { edge in
      let garbage = try await edge.connect()
      try await garbage.send("\u{0}\u{1}\u{2} nonsense\r\n\r\n")
      #expect(try await garbage.response().status == 400)
      try await garbage.ended()
      #expect(try await edge.once(.get("/healthz")).status == 200)
    }
    try await withEdge(settings: { $0.firstRequestTimeout = .milliseconds(100) }) { edge in
      let slow = try await edge.connect()
      try? await slow.send("GET /healthz HTTP/1.1\r\nhost: ")
      try await slow.ended()
      #expect(edge.edge.metrics.timeouts.count == 1)
    }
  }
}
