import EngramClientStore
import EngramCore
import EngramCrypto
import Foundation
import Synchronization
import Testing

@testable import EngramClient

@Suite("Registration")
struct RegistrationTests {
  private let world: TestWorld

  init() throws { world = try TestWorld() }

  private func home(_ name: String) throws -> String {
    let path = world.folder + "/" + name
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  @Test("a registration whose answer was lost is completed by running it again")
  func lostAnswer() async throws {
    let (path, invite) = (try home("alice"), world.acme.invite("alice"))
    _ = try await NodeAPI.describe(world.acme.transport)
    // The description is answered, the registration is not.
    let transport = world.acme.transport
    let losing = NodeTransport(
      exchange: { request in
        let reply = try await transport.exchange(request)
        guard request.path.hasSuffix("register") else { return reply }
        throw EngramError(.unreachable, name: "unreachable", "lost")
      }, realtime: transport.realtime, close: transport.close)
    await #expect(throws: EngramError.self) {
      try await world.registrar(path).run(invite: invite, transport: losing)
    }
    #expect(throws: EngramError.self) { try EngramClient.open(home: path) }
    let client = try await world.registrar(path).run(invite: invite, transport: transport)
    #expect(client.address == "alice@acme.example")
    #expect(world.acme.state.withLock { $0.members.count } == 1)
  }

  @Test("a refused registration leaves a home in which another invite works")
  func refused() async throws {
    _ = try await world.register("alice", at: world.acme)
    let path = try home("second")
    await #expect(throws: EngramError.self) {
      try await world.registrar(path).run(invite: world.acme.invite("alice"), transport: world.acme.transport)
    }
    let client = try await world.registrar(path).run(
      invite: world.acme.invite("carol"), transport: world.acme.transport)
    #expect(client.address == "carol@acme.example", "control")
  }

  @Test("a request that another node never answered does not stand in the way of the right one")
  func otherNode() async throws {
    let path = try home("alice")
    let transport = world.globex.transport
    let losing = NodeTransport(
      exchange: { request in
        guard request.path.hasSuffix("register") else { return try await transport.exchange(request) }
        throw EngramError(.unreachable, name: "unreachable", "lost")
      }, realtime: transport.realtime, close: transport.close)
    var registrar = world.registrar(path)
    registrar.authority = Array("globex".utf8)
    await #expect(throws: EngramError.self) {
      try await registrar.run(invite: world.globex.invite("alice"), transport: losing)
    }
    registrar.authority = Array("acme".utf8)
    let client = try await registrar.run(invite: world.acme.invite("alice"), transport: world.acme.transport)
    #expect(client.address == "alice@acme.example")
    #expect(try String(contentsOfFile: path + "/ca.pem", encoding: .utf8) == "acme")
    await client.close()
    // The control: once it is answered, nothing of it is replaced any more.
    registrar.authority = Array("other".utf8)
    await #expect(throws: EngramError.self) {
      try await registrar.run(invite: world.globex.invite("alice"), transport: transport)
    }
    #expect(try String(contentsOfFile: path + "/ca.pem", encoding: .utf8) == "acme")
  }

  @Test("before the node has said who it is, nothing is written")
  func nothingWritten() async throws {
    let path = world.folder + "/nobody"
    let silent = NodeTransport(
      exchange: { _ in throw EngramError(.untrusted, name: "node-not-trusted", "not vouched for") },
      realtime: world.acme.transport.realtime, close: {})
    await #expect(throws: EngramError.self) {
      try await world.registrar(path).run(invite: world.acme.invite("alice"), transport: silent)
    }
    #expect(!FileManager.default.fileExists(atPath: path))
    _ = try await world.registrar(path).run(
      invite: world.acme.invite("alice"), transport: world.acme.transport)
    #expect(FileManager.default.fileExists(atPath: path), "control")
  }

  @Test("a home that has an account is not registered twice")
  func twice() async throws {
    let client = try await world.register("alice", at: world.acme)
    await client.close()
    let path = world.folder + "/alice"
    let error = await #expect(throws: EngramError.self) {
      try await world.registrar(path).run(invite: world.acme.invite("other"), transport: world.acme.transport)
    }
    #expect(error?.name == "already-registered")
    #expect(try world.reopen("alice", at: world.acme).address == "alice@acme.example")
  }

  @Test("an invite is parsed strictly")
  func invites() throws {
    let good = world.acme.invite("alice")
    #expect(try InviteToken(good).name == "alice", "control")
    for bad in ["", "%%%", String(good.dropLast(4)), good + "AAAA", base64URLEncode(Array("alice".utf8))] {
      #expect(throws: EngramError.self) { try InviteToken(bad) }
    }
    let node = try NodeName("acme.example")
    #expect(
      try InviteToken(world.acme.invite("alice@acme.example")).address(at: node).text == "alice@acme.example")
    #expect(throws: EngramError.self) {
      try InviteToken(world.acme.invite("alice@globex.example")).address(at: node)
    }
    #expect(throws: EngramError.self) { try InviteToken(world.acme.invite("Alice")).address(at: node) }
  }

  @Test("an endpoint is HOST:PORT, also for IPv6")
  func endpoints() throws {
    let v6 = try HostPort("[::1]:7443")
    #expect(v6.host == "::1" && v6.port == 7_443)
    #expect(try HostPort("node.acme.example:1").host == "node.acme.example")
    for bad in ["node", "node:", ":1", "node:0", "node:65536", "node:x", "no de:1"] {
      #expect(throws: EngramError.self) { try HostPort(bad) }
    }
  }

  @Test("a window is granted in halves and never exceeded")
  func credit() {
    var window = CreditWindow(size: 10)
    #expect(window.grant() == 10)
    #expect(window.grant() == 0)
    window.received(8, kept: 8)
    #expect(window.grant() == 0, "unread messages count")
    window.read(4)
    #expect(window.grant() == 0, "not worth a frame")
    window.read(4)
    #expect(window.grant() == 8)
    #expect(window.granted + window.unread == 10)
    window.received(5, kept: 0)
    #expect(window.grant() == 5, "what is done with is granted again")
    window.reconnected()
    #expect(window.grant() == 10)
  }
}
