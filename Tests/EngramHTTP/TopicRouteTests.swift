import EngramCore
import EngramNode
import TestSupport
import Testing

@testable import EngramHTTP

@Suite("topics and presence over TLS")
struct TopicRouteTests {
  private func put(_ path: String, _ bearer: String?, _ body: String = "") -> RawRequest {
    request("PUT", path, bearer, body)
  }

  private func request(_ method: String, _ path: String, _ bearer: String?, _ body: String = "") -> RawRequest
  {
    var headers = bearer.map { [("authorization", "Bearer \($0)")] } ?? []
    if !body.isEmpty { headers.append(("content-type", "application/json")) }
    headers.append(("content-length", "\(body.utf8.count)"))
    return RawRequest(method: method, path: path, headers: headers, body: Array(body.utf8))
  }

  @Test("a client subscribes, is listed as a member, and leaves")
  func subscription() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bearer = try await edge.session(alice)
      let topics = "/api/v1/topics"
      for pattern in ["orders.*@acme.example", "orders.%2A%40acme.example", "alerts.%3E@acme.example"] {
        #expect(try await edge.once(put("\(topics)/\(pattern)/subscription", bearer)).status == 204)
      }
      let list = try await edge.once(.get("\(topics)/subscriptions", bearer: bearer))
      let rows = try #require(list.json["subscriptions"] as? [[String: Any]])
      #expect(
        rows.compactMap { $0["topic"] as? String } == ["alerts.>@acme.example", "orders.*@acme.example"])
      #expect(rows.allSatisfy { ($0["since_ms"] as? Int ?? 0) > 0 })

      let members = try await edge.once(.get("\(topics)/orders.new@acme.example/members", bearer: bearer))
      #expect(members.json["members"] as? [String] == ["alice@acme.example"])
      #expect(members.json["more"] as? Bool == false)
      let gone = try await edge.once(
        request("DELETE", "\(topics)/orders.*@acme.example/subscription", bearer))
      #expect(gone.status == 204)
      let left = try await edge.once(.get("\(topics)/orders.new@acme.example/members", bearer: bearer))
      #expect(left.json["members"] as? [String] == [])
    }
  }

  @Test("what is no topic, a pattern where a topic is meant, and a foreign node are refused with their codes")
  func badTopics() async throws {
    try await withEdge { edge in
      let bearer = try await edge.session(try await edge.enrol("alice@acme.example"))
      let cases: [(String, String, Int, Int)] = [
        ("PUT", "Orders@acme.example/subscription", 400, 413),
        ("PUT", "orders.>.new@acme.example/subscription", 400, 413),
        ("PUT", "orders/subscription", 400, 413),
        ("PUT", "orders%2enew@acme.example/subscription", 400, 413),
        ("GET", "orders.*@acme.example/members", 400, 414),
        ("PUT", "orders.>@acme.example/retained", 400, 414),
        ("GET", "orders@globex.example/members", 404, 402),
        ("GET", "orders@acme.example/members?max=0", 400, 100),
        ("GET", "orders@acme.example/members?after=nobody", 400, 105),
        ("GET", "orders@acme.example/members?before=x", 400, 100),
      ]
      for (method, path, status, code) in cases {
        let answer = try await edge.once(request(method, "/api/v1/topics/\(path)", bearer))
        #expect(answer.status == status && answer.code == code, "\(path): \(answer.text)")
      }
      let control = try await edge.once(.get("/api/v1/topics/orders@acme.example/members", bearer: bearer))
      #expect(control.status == 200)
    }
  }

  @Test("nothing of this without a session")
  func authentication() async throws {
    try await withEdge { edge in
      _ = try await edge.enrol("alice@acme.example")
      let requests = [
        request("GET", "/api/v1/topics/subscriptions", nil),
        request("GET", "/api/v1/topics/a@acme.example/members", nil),
        request("PUT", "/api/v1/topics/a@acme.example/subscription", nil),
        request("PUT", "/api/v1/topics/a@acme.example/retained", nil),
        request("GET", "/api/v1/agents", nil), request("GET", "/api/v1/agents/active", nil),
        request("GET", "/api/v1/agents/alice@acme.example/status", nil),
        request("PUT", "/api/v1/agents/alice@acme.example/status", nil, #"{"state":"ready"}"#),
      ]
      for request in requests {
        let answer = try await edge.once(request)
        #expect(answer.status == 401 && answer.code == 210, "\(request.path)")
      }
    }
  }

  @Test("an agent is active once seen, says what it does, and says so for itself only")
  func presence() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let (a, b) = (try await edge.session(alice), try await edge.session(bob))
      let path = "/api/v1/agents/alice@acme.example/status"
      let before = try await edge.once(.get(path, bearer: b))
      #expect(before.json["active"] as? Bool == false)
      let body = #"{"state":"busy","note":"indexing"}"#
      #expect(try await edge.once(put(path, a, body)).status == 204)
      #expect(try await edge.once(put(path, b, body)).status == 404, "somebody else's")
      let after = try await edge.once(.get(path, bearer: b))
      #expect(after.json["state"] as? String == "busy" && after.json["note"] as? String == "indexing")
      #expect(after.json["active"] as? Bool == true)

      let list = try await edge.once(.get("/api/v1/agents/active", bearer: a))
      let agents = try #require(list.json["agents"] as? [[String: Any]])
      #expect(agents.compactMap { $0["address"] as? String } == ["alice@acme.example", "bob@acme.example"])
      let first = try await edge.once(.get("/api/v1/agents/active?max=1", bearer: a))
      #expect((first.json["agents"] as? [[String: Any]])?.count == 1)
      #expect(first.json["more"] as? Bool == true)
      for bad in ["{}", #"{"state":"asleep"}"#, #"{"state":"ready","x":"y"}"#, #"{"state":1}"#, "busy"] {
        #expect(try await edge.once(put(path, a, bad)).status == 400, "\(bad)")
      }
      let long = #"{"state":"ready","note":""# + String(repeating: "x", count: 201) + #""}"#
      #expect(try await edge.once(put(path, a, long)).status == 413)
      let unknown = try await edge.once(.get("/api/v1/agents/nobody@acme.example/status", bearer: a))
      #expect(unknown.status == 404)
    }
  }

  @Test("the list of all addresses is for those whom the operator names")
  func broadcast() async throws {
    try await withEdge { edge in
      let bearer = try await edge.session(try await edge.enrol("alice@acme.example"))
      let answer = try await edge.once(.get("/api/v1/agents", bearer: bearer))
      #expect(answer.status == 403 && answer.code == 400)
    }
    var settings = NodeSettings()
    settings.broadcasters = [try Address("ops@acme.example")]
    try await withEdge(node: settings) { edge in
      let bearer = try await edge.session(try await edge.enrol("ops@acme.example"))
      _ = try await edge.enrol("alice@acme.example")
      let answer = try await edge.once(.get("/api/v1/agents", bearer: bearer))
      #expect(answer.json["agents"] as? [String] == ["alice@acme.example", "ops@acme.example"])
      let page = try await edge.once(.get("/api/v1/agents?max=1&after=alice@acme.example", bearer: bearer))
      #expect(page.json["agents"] as? [String] == ["ops@acme.example"] && page.json["more"] as? Bool == false)
    }
  }

  @Test("a live connection shows in the agent's status, and its end too")
  func connections() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let socket = try await RawWebSocket.open(
        edge, alice.address, bearer: try await edge.session(alice))
      try await eventually("connected") {
        try edge.node.agentStatus(alice.address).connections == 1
      }
      socket.connection.cut()
      try await eventually("gone") { try edge.node.agentStatus(alice.address).connections == 0 }
    }
  }
}
