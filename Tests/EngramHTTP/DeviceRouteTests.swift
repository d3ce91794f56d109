import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import TestSupport
import Testing

@testable import EngramHTTP

@Suite("Adding a device over HTTP")
struct DeviceRouteTests {
  private let type = "application/vnd.engram.device"

  @Test("a session of the client brings a further device, and nobody else does")
  func adding() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let phone = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 2)
      let (mine, path) = (try await edge.session(bob), "/api/v1/agents/\(bob.address)/devices")
      let body = phone.certificateItem.encoded()
      func post(_ path: String, _ type: String, _ body: [UInt8], _ bearer: String?) async throws
        -> RawResponse
      {
        try await edge.once(.post(path, type, body, bearer: bearer))
      }
      #expect(try await post(path, type, body, nil).status == 401)
      #expect(try await post(path, type, body, edge.session(alice)).status == 404, "another's path")
      #expect(try await post(path, "application/octet-stream", body, mine).status == 415)
      #expect(try await post(path, type, [1, 2, 3], mine).status == 400)
      let large = [UInt8](repeating: 0, count: HTTPLimits.deviceBytesMax + 1)
      #expect(try await post(path, type, large, mine).status == 413)
      let stale = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 1)
      #expect(try await post(path, type, stale.certificateItem.encoded(), mine).code == 205)
      let added = try await post(path, type, body, mine)
      #expect(added.status == 201)
      let answer = try verifyDirectoryAnswer(added.body[...], pinned: edge.node.identity.id)
      #expect(answer.bundles.first?.deviceList == phone.list.bytes)
      _ = try await edge.session(phone)
    }
  }

  @Test("a connection learns of a correspondent's newer device list with the next message")
  func renewedList() async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let socket = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
      try await socket.send(.credit(100))
      let bearer = try await edge.session(bob)
      func receive() async throws -> [MailboxItem] {
        let envelope = try sealText("x", from: bob, to: [alice]).bytes
        let body = fields { $0.field(envelope) }
        let answer = try await edge.once(
          .post(
            "/api/v1/agents/\(bob.address)/messages", "application/vnd.engram.envelopes", body,
            bearer: bearer))
        try #require(answer.status == 200)
        guard case .items(let items) = try await socket.realtime() else { throw RawError.malformed }
        return items
      }
      #expect(try await receive().map(\.kind) == [.certificate, .envelope])
      #expect(try await receive().map(\.kind) == [.envelope], "control: nothing has changed")
      let phone = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 2)
      let added = try await edge.once(
        .post("/api/v1/agents/\(bob.address)/devices", type, phone.certificateItem.encoded(), bearer: bearer))
      try #require(added.status == 201)
      let items = try await receive()
      #expect(items.map(\.kind) == [.certificate, .envelope])
      #expect(try CertificateItem(parsing: items[0].payload[...]).deviceList == phone.list.bytes)
      #expect(try await receive().map(\.kind) == [.envelope])
    }
  }

  @Test("the live connection of a device that is revoked ends at once, and the others' stay")
  func revoked() async throws {
    try await withEdge { edge in
      let bob = try await edge.enrol("bob@acme.example")
      let phone = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 2)
      let bearer = try await edge.session(bob)
      let added = try await edge.once(
        .post("/api/v1/agents/\(bob.address)/devices", type, phone.certificateItem.encoded(), bearer: bearer))
      try #require(added.status == 201)
      let phoneBearer = try await edge.session(phone)
      let socket = try await RawWebSocket.open(edge, bob.address, bearer: phoneBearer)
      let other = try await RawWebSocket.open(edge, bob.address, bearer: bearer)
      let list = try TestDevice("bob@acme.example", listVersion: 3).list
      let code = await withCheckedContinuation { continuation in
        guard case .success(let session) = edge.node.session(bearer) else {
          return continuation.resume(returning: ErrorCode.sessionExpired)
        }
        edge.node.putDeviceList(list.bytes, session) { continuation.resume(returning: $0) }
      }
      #expect(code == .none)
      #expect(try await socket.end() == (.sessionExpired, 4401))
      let path = "/api/v1/agents/\(bob.address)/messages"
      #expect(try await edge.once(.get(path, bearer: phoneBearer)).status == 401)
      try await other.send(opcode: 9, [1])
      #expect(try await other.next().opcode == 10, "control")
    }
  }
}
