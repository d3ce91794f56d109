import EngramTLS
import EngramWire
import Foundation
import NIOCore
import NIOPosix
import Synchronization
import Testing

@Suite("HTTP client")
struct HTTPClientTests {
  /// What a request ended with: the status or the error.
  func outcome(_ client: HTTPClient, _ request: WireRequest) async -> Result<Int, WireError> {
    do { return .success(try await client.send(request).status) } catch { return .failure(error) }
  }

  @Test("a request and its answer pass unchanged", arguments: ScriptedServer.Transport.allCases)
  func roundTrip(transport: ScriptedServer.Transport) async throws {
    let body = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let server = try await ScriptedServer.start(transport) { request in
      ok("answer to \(request.body.count)", status: "404 Not Found", headers: "X-Code: 7\r\n")
    }
    let client = try HTTPClient(endpoint: server.endpoint)
    let response = try await client.send(
      WireRequest("POST", "/api/v1/x?q=%20", headers: [WireHeader("X-Token", "a b")], body: body))
    #expect(response.status == 404, "a status is an answer, not an error")
    #expect(response.header("x-code") == "7")
    #expect(response.body == Array("answer to 200000".utf8))

    let seen = try #require(server.seen.requests.first)
    #expect(seen.method == "POST" && seen.path == "/api/v1/x?q=%20" && seen.body == body)
    #expect(seen.headers["x-token"] == "a b")
    #expect(seen.headers["host"]?.hasPrefix(transport == .tls ? "node.example:" : "localhost") == true)
    await client.close()
    await server.stop()
  }

  @Test("answers without length, in chunks and without body are understood")
  func framings() async throws {
    let server = try await ScriptedServer.start(.tls) { request in
      switch request.path {
      case "/chunked":
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
      case "/until-close": .send("HTTP/1.1 200 OK\r\n\r\nabcde", thenClose: true)
      default: .send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
      }
    }
    let client = try HTTPClient(endpoint: server.endpoint)
    #expect(try await client.send(WireRequest("GET", "/chunked")).body == Array("abcde".utf8))
    #expect(try await client.send(WireRequest("GET", "/none")).status == 204)
    #expect(try await client.send(WireRequest("GET", "/until-close")).body == Array("abcde".utf8))
    #expect(try await client.send(WireRequest("GET", "/chunked")).status == 200)
    #expect(server.seen.connections == 2)
    await server.stop()
  }

  @Test("an answer that ends its connection is an answer", arguments: ScriptedServer.Transport.allCases)
  func lastAnswers(transport: ScriptedServer.Transport) async throws {
    let server = try await ScriptedServer.start(transport) { _ in
      .send("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", thenClose: true)
    }
    let client = try HTTPClient(endpoint: server.endpoint)
    for _ in 0..<50 { #expect(await outcome(client, WireRequest("POST", "/last")) == .success(204)) }
    await client.close()
    await server.stop()
  }

  @Test("connections are reused, and their number is bounded", arguments: ScriptedServer.Transport.allCases)
  func pooling(transport: ScriptedServer.Transport) async throws {
    let server = try await ScriptedServer.start(transport) { _ in ok("x") }
    var limits = WireLimits()
    limits.connectionsMax = 3
    let client = try HTTPClient(endpoint: server.endpoint, limits: limits)
    for _ in 0..<10 { _ = try await client.send(WireRequest("GET", "/")) }
    #expect(server.seen.connections == 1)
    let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<50 { group.addTask { try await client.send(WireRequest("GET", "/")).status } }
      return try await group.reduce(into: [Int]()) { $0.append($1) }
    }
    #expect(statuses == [Int](repeating: 200, count: 50))
    #expect((1...3).contains(server.seen.connections))
    await client.close()
    #expect(await outcome(client, WireRequest("GET", "/")) == .failure(.closed))
    await server.stop()
  }

  @Test("an idempotent request survives a stale connection once; a POST does not go twice")
  func staleConnection() async throws {
    // The second request on any connection finds it closed.
    let counts = Counter()
    let server = try await ScriptedServer.start(.tls) { request in
      counts.next(request.connection) == 1 ? ok("x") : .drop
    }
    for method in ["GET", "POST"] {
      let client = try HTTPClient(endpoint: server.endpoint)
      let before = server.seen.requests.count
      _ = try await client.send(WireRequest(method, "/"))
      let second = await outcome(client, WireRequest(method, "/"))
      let sent = server.seen.requests.count - before
      if method == "GET" {
        #expect(second == .success(200) && sent == 3)
      } else {
        #expect(second != .success(200) && sent == 2)
      }
      await client.close()
    }
    await server.stop()
  }

  @Test("a first connection that is dropped is not tried again")
  func freshConnectionDropped() async throws {
    let server = try await ScriptedServer.start(.unix) { _ in .drop }
    let client = try HTTPClient(endpoint: server.endpoint)
    #expect(await outcome(client, WireRequest("GET", "/")) == .failure(.closed))
    #expect(server.seen.requests.count == 1)
    await server.stop()
  }

  @Test("an answer that breaks off is never passed on", arguments: ScriptedServer.Transport.allCases)
  func truncated(transport: ScriptedServer.Transport) async throws {
    let server = try await ScriptedServer.start(transport) { request in
      .send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", thenClose: true)
    }
    let client = try HTTPClient(endpoint: server.endpoint)
    guard case .failure = await outcome(client, WireRequest("GET", "/")) else {
      Issue.record("a cut answer was accepted")
      return
    }
    await server.stop()
  }

  @Test("an answer above the limit is refused, one of exactly the limit is not", arguments: [true, false])
  func tooLarge(declared: Bool) async throws {
    let server = try await ScriptedServer.start(.unix) { request in
      let body = String(repeating: "x", count: request.path == "/fits" ? 1000 : 1001)
      return declared
        ? ok(body) : .send("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body, thenClose: true)
    }
    var limits = WireLimits()
    limits.responseBytesMax = 1000
    let client = try HTTPClient(endpoint: server.endpoint, limits: limits)
    #expect(await outcome(client, WireRequest("GET", "/fits")) == .success(200))
    #expect(await outcome(client, WireRequest("GET", "/big")) == .failure(.tooLarge(limitBytes: 1000)))
    await server.stop()
  }

  @Test("silence ends at the timeout, and the connection is not used again")
  func timeout() async throws {
    let server = try await ScriptedServer.start(.tls) { $0.path == "/silent" ? .nothing : ok("x") }
    var limits = WireLimits()
    limits.requestTimeout = .seconds(1)
    let client = try HTTPClient(endpoint: server.endpoint, limits: limits)
    #expect(await outcome(client, WireRequest("GET", "/silent")) == .failure(.timeout))
    #expect(await outcome(client, WireRequest("GET", "/")) == .success(200))
    #expect(server.seen.connections == 2)
    await server.stop()
  }

  @Test("a cancelled task does not wait for its answer")
  func cancellation() async throws {
    let server = try await ScriptedServer.start(.unix) { _ in .nothing }
    let client = try HTTPClient(endpoint: server.endpoint)
    let task = Task { await outcome(client, WireRequest("GET", "/")) }
    #expect(await eventually { server.seen.requests.count == 1 })
    task.cancel()
    #expect(await task.value == .failure(.cancelled))
    await server.stop()
  }

  @Test("requests beyond the queue are refused at once")
  func overload() async throws {
    let server = try await ScriptedServer.start(.unix) { _ in .nothing }
    var limits = WireLimits()
    (limits.connectionsMax, limits.waitingMax) = (1, 2)
    let client = try HTTPClient(endpoint: server.endpoint, limits: limits)
    let outcomes = await withTaskGroup(of: Result<Int, WireError>.self) { group in
      for _ in 0..<5 { group.addTask { await outcome(client, WireRequest("GET", "/")) } }
      var results = [await group.next()!, await group.next()!]
      await client.close()
      for await result in group { results.append(result) }
      return results
    }
    let refused = Result<Int, WireError>.failure(.overloaded(limitRequests: 2))
    #expect(outcomes == [refused, refused] + [.failure(.closed), .failure(.closed), .failure(.closed)])
    await server.stop()
  }

  @Test("nobody at the endpoint is a refusal")
  func refused() async throws {
    let server = try await ScriptedServer.start(.tls) { _ in ok("x") }
    await server.stop()
    let overTCP = try HTTPClient(endpoint: server.endpoint)
    #expect(await outcome(overTCP, WireRequest("GET", "/")) == .failure(.refused))
    let overUnix = try HTTPClient(endpoint: .unix(path: server.directory + "/none"))
    #expect(await outcome(overUnix, WireRequest("GET", "/")) == .failure(.refused))
  }

  @Test("a server under another name or authority is refused, and gets no request")
  func untrusted() async throws {
    let server = try await ScriptedServer.start(.tls) { _ in ok("x") }
    let other = try await ScriptedServer.start(.tls) { _ in ok("x") }
    guard case .tls(let host, let port, let caFile, _) = server.endpoint,
      case .tls(_, _, let otherFile, _) = other.endpoint
    else { return }
    let wrongName = try HTTPClient(
      endpoint: .tls(host: host, port: port, caFile: caFile, serverName: "other.example"))
    #expect(
      await outcome(wrongName, WireRequest("GET", "/")) == .failure(.tls(.peerNotTrusted(.nameMismatch))))
    let wrongCA = try HTTPClient(
      endpoint: .tls(host: host, port: port, caFile: otherFile, serverName: "node.example"))
    guard case .failure(.tls(.peerNotTrusted(.untrusted))) = await outcome(wrongCA, WireRequest("GET", "/"))
    else {
      Issue.record("the wrong authority was accepted")
      return
    }
    #expect(server.seen.requests.isEmpty)
    let right = try HTTPClient(endpoint: server.endpoint)
    #expect(await outcome(right, WireRequest("GET", "/")) == .success(200))
    #expect(throws: WireError.tlsSetup(.trustAnchorUnreadable)) {
      _ = try HTTPClient(endpoint: .tls(host: host, port: port, caFile: "/nowhere"))
    }
    await server.stop()
    await other.stop()
  }

  @Test("requests that would read as something else are not sent")
  func invalidRequests() async throws {
    let server = try await ScriptedServer.start(.unix) { _ in ok("x") }
    let client = try HTTPClient(endpoint: server.endpoint)
    let bad = [
      WireRequest("GET", "no-slash"), WireRequest("GET", "/a b"), WireRequest("GET", "/a\r\nx: y"),
      WireRequest("GE T", "/"), WireRequest("", "/"),
      WireRequest("GET", "/", headers: [WireHeader("x", "a\r\ny: z")]),
      WireRequest("GET", "/", headers: [WireHeader("x y", "a")]),
      WireRequest("POST", "/", headers: [WireHeader("Content-Length", "3")], body: [1, 2]),
      WireRequest("POST", "/", headers: [WireHeader("Transfer-Encoding", "chunked")], body: [1]),
    ]
    for request in bad { #expect(await outcome(client, request) == .failure(.invalidRequest)) }
    #expect(server.seen.connections == 0)
    #expect(await outcome(client, WireRequest("GET", "/")) == .success(200))
    await server.stop()
  }

  @Test("an answer that is not HTTP is a protocol violation")
  func notHTTP() async throws {
    let server = try await ScriptedServer.start(.unix) { _ in .send("SSH-2.0-x\r\n\r\n") }
    let client = try HTTPClient(endpoint: server.endpoint)
    #expect(await outcome(client, WireRequest("GET", "/")) == .failure(.protocolViolation))
    await server.stop()
  }
}

/// Counts per key.
final class Counter: Sendable {
  private let counts = Mutex<[Int: Int]>([:])

  func next(_ key: Int) -> Int {
    counts.withLock {
      $0[key, default: 0] += 1
      return $0[key, default: 0]
    }
  }
}
