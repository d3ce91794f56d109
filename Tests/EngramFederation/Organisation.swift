import EngramCore
import EngramCrypto
import EngramFederation
import EngramNode
import EngramStore
import EngramTLS
import Foundation
import Logging
import NIOCore
import NIOPosix
import NIOTLS
import Synchronization
import TestSupport
import Testing

extension ManualClock: EngramNode.Clock {}
extension SeededRandom: EngramNode.RandomSource {}

/// One organisation as it runs: a node on its store, a certificate authority, a TLS port on loopback, and
/// federation. Everything that must survive a restart is in `directory`.
final class Organisation: Sendable {
  let test: TestNode
  let clock: ManualClock
  let directory: TemporaryDirectory
  private let running = Mutex<Running?>(nil)
  private let port = Mutex(0)

  struct Running: Sendable {
    let node: Node
    let store: Store
    let federation: FederationService
    let listener: any Channel
    let trust: TrustStore
  }

  init(_ name: String, clock: ManualClock) throws {
    (test, self.clock, directory) = (try TestNode(name), clock, try TemporaryDirectory())
    let authority = try CertificateAuthority.create(
      commonName: name, certificatePath: directory.file("ca.pem"), keyPath: directory.file("ca.key"))
    try authority.issue(
      commonName: name, dnsNames: [name], certificatePath: directory.file("node.pem"),
      keyPath: directory.file("node.key"))
  }

  var name: NodeName { test.name }
  var node: Node { now.node }
  var federation: FederationService { now.federation }
  private var now: Running {
    guard let running = running.withLock({ $0 }) else { preconditionFailure("the organisation is stopped") }
    return running
  }
  var portNumber: Int { port.withLock { $0 } }
  var authorityPEM: String { (try? String(contentsOfFile: directory.file("ca.pem"), encoding: .utf8)) ?? "" }
  var identity: TLSConfiguration.Identity {
    TLSConfiguration.Identity(
      certificateChainPath: directory.file("node.pem"), keyPath: directory.file("node.key"))
  }

  /// How others configure this organisation.
  func card(id: NodeID? = nil, port: Int? = nil, isEnabled: Bool = true) -> FederationPeer {
    FederationPeer(
      name: test.name, id: id ?? test.id, host: "127.0.0.1", port: port ?? portNumber,
      authorityPEM: authorityPEM,
      isEnabled: isEnabled)
  }

  /// Opens the store and the port; the port stays the same over restarts.
  func start(settings: LinkSettings = .quick) async throws {
    let store = try Store(path: directory.file("node.db"))
    var log = Logger(label: name.text)
    log.logLevel = .critical
    let random = SystemRandom()
    let node = try Node(
      identity: NodeIdentity(name: test.name, key: test.key), store: store, clock: clock, random: random,
      log: log)
    node.start()
    let trust = TrustStore()
    let group = MultiThreadedEventLoopGroup.singleton
    let alpn = FederationService.applicationProtocol
    let client = try TLSContext(
      .client(identity: identity, applicationProtocols: [alpn], verifier: trust.verifier))
    let federation = FederationService(
      node: node, group: group, tls: TLSContextBox(client), trust: trust, settings: settings, random: random,
      log: log)
    let server = try TLSContext(
      .server(
        identity: identity, applicationProtocols: [alpn], clientCertificateRequired: [alpn],
        verifier: trust.verifier))
    let listener = try await listen(TLSContextBox(server), federation, group)
    port.withLock { $0 = listener.localAddress?.port ?? 0 }
    running.withLock {
      $0 = Running(node: node, store: store, federation: federation, listener: listener, trust: trust)
    }
    federation.start()
  }

  private func listen(
    _ tls: TLSContextBox, _ federation: FederationService, _ group: any EventLoopGroup
  ) async throws -> any Channel {
    try await ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(tls.makeHandler())
          try channel.pipeline.syncOperations.addHandler(
            ApplicationProtocolNegotiationHandler { result, channel in
              guard case .negotiated(FederationService.applicationProtocol) = result else {
                return channel.close()
              }
              return federation.admit(channel)
            })
        }
      }
      .bind(host: "127.0.0.1", port: portNumber).get()
  }

  func stop() async {
    guard
      let now = running.withLock({ running in
        defer { running = nil }
        return running
      })
    else { return }
    try? await now.listener.close()
    await now.federation.stop(within: .seconds(2))
    now.node.stop()
    try? now.store.close()
  }

  // MARK: - Clients

  /// Registers a client of this organisation by invite, as its own software would.
  func client(_ name: String) async throws -> TestDevice {
    let device = try TestDevice("\(name)@\(test.name)")
    let node = node
    let token = try await answer { node.invite(name: name, ttlMs: 60_000, completion: $0) }
    let request = device.registration(node: test.id, invite: try #require(base64URLDecode(token)))
    _ = try await answer { node.register(request.encoded(), completion: $0) }
    return device
  }

  func session(_ device: TestDevice) async throws -> ClientSession {
    let node = node
    let token = device.token(node: test.id, nowMs: clock.nowMs())
    return try await answer { node.openSession(token: token, completion: $0) }.session
  }

  /// Hands envelopes to this node as one of its clients.
  func send(_ envelopes: [[UInt8]], from device: TestDevice) async throws -> [ItemOutcome] {
    let session = try await session(device)
    let node = node
    let verified = envelopes.map { node.verify($0, from: .client(session)) }
    return await withCheckedContinuation { continuation in
      node.accept(verified, from: session) { continuation.resume(returning: $0) }
    }
  }

  /// What lies in a client's mailbox.
  func inbox(_ device: TestDevice) async throws -> [MailboxItem] {
    let session = try await session(device)
    var known = KnownSenders()
    return try node.items(session, after: 0, maxCount: 10_000, maxBytes: 64 << 20, knownSenders: &known)
  }

  func acknowledge(_ acks: [MailboxAck], as device: TestDevice) async throws -> [ItemOutcome] {
    let session = try await session(device)
    let node = node
    return await withCheckedContinuation { continuation in
      node.acknowledge(acks, session) { continuation.resume(returning: $0) }
    }
  }

  func envelopes(_ device: TestDevice) async throws -> [[UInt8]] {
    try await inbox(device).filter { $0.kind == .envelope }.map(\.payload)
  }

  func state(of peer: Organisation) -> PeerStatus? { federation.peers().first { $0.name == peer.name } }
}

extension LinkSettings {
  /// Retries fast enough for a test to see several.
  static var quick: LinkSettings {
    var settings = LinkSettings()
    (settings.dialBackoffMinMs, settings.dialBackoffMaxMs) = (20, 200)
    return settings
  }
}

func answer<Value: Sendable>(
  _ ask: (@escaping @Sendable (Result<Value, ErrorCode>) -> Void) -> Void
) async throws -> Value {
  try await withCheckedContinuation { continuation in ask { continuation.resume(returning: $0) } }.get()
}

/// Polls until the condition holds, for at most 30 seconds.
func eventually(_ condition: () async throws -> Bool) async rethrows -> Bool {
  for _ in 0..<1_500 {
    if try await condition() { return true }
    try? await Task.sleep(for: .milliseconds(20))
  }
  return try await condition()
}
