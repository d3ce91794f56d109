import EngramCore
import EngramNode
import Foundation
import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import EngramHTTP

/// Peers in memory instead of files and links.
private final class FakePeers: Sendable {
  private let documents = Mutex<[PeerDocument]>([])

  var ports: AdminPeers {
    AdminPeers(
      list: { self.documents.withLock { $0 } },
      add: { addition in
        guard addition.authority.contains("BEGIN CERTIFICATE") else {
          return .failure(AdminRefusal(.malformed, reason: "ca_pem holds no certificate"))
        }
        let document = PeerDocument(
          name: addition.name.text, nodeID: "\(addition.nodeID)", endpoint: addition.endpoint,
          state: "dialling",
          sinceMs: 1, queued: 0, inFlight: 0, attempts: 0, nextDialMs: nil, lastError: nil)
        self.documents.withLock { $0.append(document) }
        return .success(document)
      },
      remove: { name in
        self.documents.withLock { documents in
          guard let index = documents.firstIndex(where: { $0.name == name.text }) else {
            return .failure(AdminRefusal(.notFound))
          }
          documents.remove(at: index)
          return .success(())
        }
      })
  }
}

func withAdmin(
  on edge: TestEdge, user: uid_t? = nil, _ body: (String) async throws -> Void
) async throws {
  let path = edge.directory.file("admin.sock")
  let peerUser: @Sendable (any Channel) -> EventLoopFuture<uid_t> = { channel in
    user.map { channel.eventLoop.makeSucceededFuture($0) } ?? connectedUser(channel)
  }
  let socket = AdminSocket(
    path: path, node: edge.node, peers: FakePeers().ports, version: "0.0.0-test", group: edge.group,
    log: quietLog(), samples: { [edge = edge.edge] in edge.samples() }, peerUser: peerUser)
  try await socket.start()
  do { try await body(path) } catch {
    await socket.stop()
    throw error
  }
  await socket.stop()
  #expect(!FileManager.default.fileExists(atPath: path))
}

private func ask(_ path: String, _ request: RawRequest) async throws -> RawResponse {
  let connection = try await RawConnection.open(path: path, group: MultiThreadedEventLoopGroup.singleton)
  let response = try await connection.ask(request)
  try await connection.close()
  return response
}

@Suite("the administration's socket")
struct AdminSocketTests {
  @Test("metrics that nobody sees on the port are there")
  func metrics() async throws {
    try await withEdge(settings: { $0.metrics = .off }) { edge in
      try await edge.enrol("alice@acme.example")
      #expect(try await edge.once(.get("/metrics")).status == 403, "control")
      try await withAdmin(on: edge) { path in
        let answer = try await ask(path, .get("/metrics"))
        #expect(answer.status == 200)
        #expect(answer.text.contains("\nengram_registrations_total 1\n"))
      }
    }
  }

  @Test("invites, lists and disables clients")
  func clients() async throws {
    try await withEdge { edge in
      try await withAdmin(on: edge) { path in
        func post(_ at: String, _ body: String) async throws -> RawResponse {
          try await ask(path, .post("/admin/v1/" + at, "application/json", Array(body.utf8)))
        }
        let invite = try await post("clients/invite", #"{"name":"carol","ttl_hours":2}"#)
        #expect(invite.status == 201)
        #expect(invite.json["token"] is String)
        #expect(invite.json["expires_ms"] as? UInt64 == TestTime.startMs + 2 * TestTime.hourMs)
        #expect(invite.json["node_id"] as? String == "\(edge.node.identity.id)")
        let invites = try await ask(path, .get("/admin/v1/invites"))
        #expect(
          invites.text
            == #"{"invites":[{"expires_ms":\#(TestTime.startMs + 2 * TestTime.hourMs),"name":"carol"}]}"#)
        for wrong in [
          #"{"name":"carol"}"#, "{", #"{"name":"carol","ttl_hours":0}"#, #"{"name":"Carol","ttl_hours":1}"#,
        ] {
          #expect(try await post("clients/invite", wrong).status == 400, "\(wrong)")
        }
        let alice = try await edge.enrol("alice@acme.example")
        let list = try await ask(path, .get("/admin/v1/clients"))
        let client = try #require((list.json["clients"] as? [[String: Any]])?.first)
        #expect(client["address"] as? String == "alice@acme.example")
        #expect(client["devices"] as? [String] == ["\(alice.kid)"])
        #expect(client["disabled"] as? Bool == false)
        #expect(try await post("clients/alice/disable", "").status == 204)
        #expect(try await post("clients/nobody/disable", "").status == 404)
        let after = try await ask(path, .get("/admin/v1/clients"))
        #expect(((after.json["clients"] as? [[String: Any]])?.first)?["disabled"] as? Bool == true)
      }
    }
  }

  @Test("shows the node's state")
  func status() async throws {
    try await withEdge { edge in
      try await withAdmin(on: edge) { path in
        let status = try await ask(path, .get("/admin/v1/status")).json
        #expect(status["name"] as? String == "acme.example")
        #expect(status["ready"] as? Bool == true)
        #expect((status["counters"] as? [String: Any])?["commits"] != nil)
        #expect((status["peers"] as? [Any])?.isEmpty == true)
        #expect(try await ask(path, .get("/api/v1/node")).status == 404)
      }
    }
  }

  @Test("adds, shows and removes peers through the ports it was given")
  func peers() async throws {
    try await withEdge { edge in
      try await withAdmin(on: edge) { path in
        let id = try TestNode("globex.example").id
        func add(_ name: String, _ pem: String) async throws -> RawResponse {
          let body = #"{"name":"\#(name)","endpoint":"127.0.0.1:9","node_id":"\#(id)","ca_pem":"\#(pem)"}"#
          return try await ask(path, .post("/admin/v1/peers", "application/json", Array(body.utf8)))
        }
        let refused = try await add("globex.example", "nothing")
        #expect(refused.status == 400)
        #expect(refused.json["detail"] as? String == "ca_pem holds no certificate")
        #expect(try await add("Globex", "BEGIN CERTIFICATE").status == 400)
        #expect(try await add("globex.example", "BEGIN CERTIFICATE").status == 201)
        let one = try await ask(path, .get("/admin/v1/peers/globex.example"))
        #expect(one.json["state"] as? String == "dialling")
        #expect(try await ask(path, .get("/admin/v1/peers/other.example")).status == 404)
        var delete = RawRequest.get("/admin/v1/peers/globex.example")
        delete.method = "DELETE"
        #expect(try await ask(path, delete).status == 204)
        #expect(try await ask(path, delete).status == 404)
      }
    }
  }

  @Test("is for its owner only: mode 0600, and the other end's user is asked for")
  func permissions() async throws {
    try await withEdge { edge in
      try await withAdmin(on: edge) { path in
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o600)
        #expect(try await ask(path, .get("/admin/v1/status")).status == 200)
      }
      try await withAdmin(on: edge, user: geteuid() + 1) { path in
        await #expect(throws: (any Error).self) { try await ask(path, .get("/admin/v1/status")) }
      }
      // Control: root is let in, whoever the owner is.
      try await withAdmin(on: edge, user: 0) { path in
        let status = try await ask(path, .get("/admin/v1/status")).status
        #expect(status == 200)
      }
    }
  }

  @Test("replaces a dead process's socket, and neither a living one's nor another file")
  func staleFile() async throws {
    try await withEdge { edge in
      let path = edge.directory.file("admin.sock")
      func socket() -> AdminSocket {
        AdminSocket(
          path: path, node: edge.node, peers: FakePeers().ports, version: "", group: edge.group,
          log: quietLog())
      }
      try await withAdmin(on: edge) { _ in
        await #expect(throws: AdminSocketError.inUse) { try await socket().start() }
      }
      // Bound and left, as after a crash.
      let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
      let bound = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      #expect(bound == 0)
      Glibc.close(descriptor)
      try await withAdmin(on: edge) { _ in }
      #expect(FileManager.default.createFile(atPath: path, contents: Data("precious".utf8)))
      await #expect(throws: AdminSocketError.notASocket) { try await socket().start() }
      #expect(FileManager.default.contents(atPath: path) == Data("precious".utf8))
    }
  }

  @Test("is not opened where others could replace it")
  func openDirectory() async throws {
    try await withEdge { edge in
      try FileManager.default.setAttributes([.posixPermissions: 0o777], ofItemAtPath: edge.directory.path)
      let socket = AdminSocket(
        path: edge.directory.file("admin.sock"), node: edge.node, peers: FakePeers().ports, version: "",
        group: edge.group, log: quietLog())
      await #expect(throws: AdminSocketError.directoryWritableByOthers) { try await socket.start() }
    }
  }
}
