import EngramCore
import EngramCrypto
import EngramNode
import EngramStore
import EngramTLS
import Foundation
import Logging
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing

@testable import EngramHTTP

extension ManualClock: Clock {}

/// A real node on a directory of its own, behind a real listener on a loopback port.
final class TestEdge: Sendable {
  let directory: TemporaryDirectory
  let clock = ManualClock()
  let node: Node
  let edge: Edge
  let group = MultiThreadedEventLoopGroup.singleton
  let port: Int
  let authority: TrustAnchors
  private let listener: Listener
  private let store: Store
  private let blocking: NIOThreadPool
  /// Open or not: what is still open is cut off before the drain, which would wait for a goodbye.
  private let connections = Mutex<[RawConnection]>([])

  init(
    settings change: (inout ListenerSettings) -> Void = { _ in }, foreign: [String: ForeignProtocol] = [:],
    node nodeSettings: NodeSettings = NodeSettings()
  ) async throws {
    directory = try TemporaryDirectory()
    let name = try NodeName("acme.example")
    store = try Store(path: directory.file("node.db"))
    node = try Node(
      identity: NodeIdentity(name: name, key: signingKey(named: "node/acme.example")), store: store,
      settings: nodeSettings, clock: clock,
      random: SystemRandom(), log: quietLog())
    node.start()
    blocking = NIOThreadPool(numberOfThreads: HTTPLimits.blockingThreads)
    blocking.start()
    var settings = ListenerSettings(host: "127.0.0.1", port: 0)
    change(&settings)
    edge = Edge(
      node: node, settings: settings, group: group, blocking: blocking, version: "0.0.0-test", log: quietLog()
    )
    let identity = try makeCertificate(in: directory)
    let configuration = TLSConfiguration.server(
      identity: identity, applicationProtocols: foreign.keys.sorted() + [Listener.httpProtocol])
    listener = Listener(
      edge: edge, tls: TLSContextBox(try TLSContext(configuration)), group: group, foreign: foreign)
    port = try await listener.start()
    authority = try TrustAnchors(pem: try String(contentsOfFile: directory.file("ca.pem"), encoding: .utf8))
  }

  func stop() async throws {
    for connection in connections.withLock({ $0 }) { connection.cut() }
    await listener.drain()
    node.stop()
    try await blocking.shutdownGracefully()
    try store.close()
  }

  func drain() async { await listener.drain() }

  /// Registers a device as an administrator and its client would, over the network for the client's part.
  @discardableResult
  func enrol(_ address: String) async throws -> TestDevice {
    let device = try TestDevice(address)
    let token = try await withCheckedContinuation { continuation in
      node.invite(name: device.address.name, ttlMs: TestTime.dayMs) { continuation.resume(returning: $0) }
    }.get()
    let invite = try #require(base64URLDecode(token))
    let request = device.registration(node: node.identity.id, invite: invite)
    let answer = try await once(
      .post("/api/v1/agents/register", "application/vnd.engram.registration", request.encoded()))
    try #require(answer.status == 201)
    return device
  }

  /// A session bearer for a device.
  func session(_ device: TestDevice) async throws -> String {
    let token = device.token(node: node.identity.id, nowMs: clock.nowMs())
    let answer = try await once(.post("/api/v1/sessions", bearer: token))
    try #require(answer.status == 201)
    return try #require(answer.json["session"] as? String)
  }

  func connect(alpn: [String] = [Listener.httpProtocol]) async throws -> RawConnection {
    let connection = try await RawConnection.open(port: port, group: group, authority: authority, alpn: alpn)
    connections.withLock { $0.append(connection) }
    return connection
  }

  /// One request on a connection of its own.
  func once(_ request: RawRequest) async throws -> RawResponse {
    let connection = try await connect()
    let response = try await connection.ask(request)
    try await connection.close()
    return response
  }

  func waiting(_ device: TestDevice) async throws -> [MailboxItem] {
    let path = "/api/v1/agents/\(device.address)/messages"
    let answer = try await once(.get(path, bearer: try await session(device)))
    return answer.status == 204 ? [] : try MailboxItem.decode(answer.body[...])
  }
}

/// Runs a test against an edge and takes it down, whatever the test did.
func withEdge(
  settings: (inout ListenerSettings) -> Void = { _ in }, foreign: [String: ForeignProtocol] = [:],
  node: NodeSettings = NodeSettings(), _ body: (TestEdge) async throws -> Void
) async throws {
  let edge = try await TestEdge(settings: settings, foreign: foreign, node: node)
  do { try await body(edge) } catch {
    try await edge.stop()
    throw error
  }
  try await edge.stop()
}

func quietLog() -> Logger {
  var log = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
  log.logLevel = .critical
  return log
}

private func makeCertificate(in directory: TemporaryDirectory) throws -> TLSConfiguration.Identity {
  let authority = try CertificateAuthority.create(
    commonName: "acme.example CA", certificatePath: directory.file("ca.pem"),
    keyPath: directory.file("ca.key"))
  let identity = TLSConfiguration.Identity(
    certificateChainPath: directory.file("node.pem"), keyPath: directory.file("node.key"))
  try authority.issue(
    commonName: "acme.example", dnsNames: ["localhost"], certificatePath: identity.certificateChainPath,
    keyPath: identity.keyPath)
  return identity
}

/// Waits until something that another thread brings about is so. The bound is generous, and only a failure
/// meets it.
func eventually(_ what: Comment, _ condition: () async throws -> Bool) async throws {
  for _ in 0..<2_000 {
    if try await condition() { return }
    try await Task.sleep(for: .milliseconds(5))
  }
  Issue.record(what)
}
