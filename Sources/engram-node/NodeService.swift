import EngramConfig
import EngramCore
import EngramCrypto
import EngramFederation
import EngramHTTP
import EngramNode
import EngramStore
import EngramTLS
import Foundation
import Logging
import NIOCore
import NIOPosix

/// One running node: store, node, federation, public port and administration, put together and taken apart in
/// order.
final class NodeService: Sendable {
  private let configuration: NodeConfiguration
  private let log: Logger
  private let store: Store
  private let node: Node
  private let group: MultiThreadedEventLoopGroup
  private let blocking: NIOThreadPool
  private let federation: FederationService
  private let listener: Listener
  private let admin: AdminSocket
  private let peers: PeerBook

  /// Threads for store reads, which must not hold up an event loop.
  private static let blockingThreads = 2

  init(
    _ configuration: NodeConfiguration, configPath: String, identity: SigningKey, synchronous: Synchronous
  ) throws {
    self.configuration = configuration
    let log = Logger(label: "engram-node") { label in
      StructuredLog(label: label, level: configuration.logLevel, format: configuration.logFormat)
    }
    self.log = log
    store = try openStore(configuration, synchronous: synchronous)
    let clock = SystemClock()
    do throws(ErrorCode) {
      node = try Node(
        identity: NodeIdentity(name: configuration.name, key: identity), store: store,
        settings: NodeSettings(configuration), clock: clock, random: SystemRandom(), log: log)
    } catch { throw Failure(.ioError, error.sentence) }
    group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    blocking = NIOThreadPool(numberOfThreads: Self.blockingThreads)
    let trust = TrustStore()
    let tls = try TLSSides(configuration, trust: trust)
    let federation = FederationService(
      node: node, group: group, tls: tls.client, trust: trust,
      settings: LinkSettings(configuration.federation),
      random: SystemRandom(), pool: blocking, log: log)
    self.federation = federation
    let edge = Edge(
      node: node, settings: ListenerSettings(configuration), group: group, blocking: blocking,
      version: softwareVersion, log: log,
      moreSamples: {
        federation.samples().map {
          MetricSample(
            $0.name, $0.name.hasSuffix("_total") ? .counter : .gauge, labels: $0.labels, Double($0.value))
        }
      })
    listener = Listener(
      edge: edge, tls: tls.server, group: group,
      foreign: [FederationService.applicationProtocol: { channel, _ in federation.admit(channel) }])
    peers = PeerBook(configuration.peers, configPath: configPath, federation: federation)
    admin = AdminSocket(
      path: configuration.adminSocketPath, node: node, peers: peers.administration, version: softwareVersion,
      group: group, log: log, samples: { edge.samples() })
  }

  /// Starts everything and returns the port that is bound. Peers come first, so that a client's first message
  /// finds its route; the public port comes last.
  func start() async throws -> Int {
    blocking.start()
    node.start()
    do {
      try await peers.apply()
      federation.start()
      try await admin.start()
      return try await listener.start()
    } catch {
      await stop()
      throw Self.explain(error, configuration)
    }
  }

  private static func explain(_ error: any Error, _ configuration: NodeConfiguration) -> Failure {
    switch error {
    case let error as Failure: error
    case let error as AdminSocketError:
      Failure(.cannotCreate, "the admin socket \(configuration.adminSocketPath) cannot be opened: \(error)")
    case let error as IOError where error.errnoCode == EADDRINUSE:
      Failure(
        .unavailable, "something listens on \(configuration.listen) already",
        hint: "change `listen` in [node]")
    case let error as IOError where error.errnoCode == EACCES:
      Failure(
        .notAllowed, "\(configuration.listen) may not be bound", hint: "ports below 1024 need a capability")
    default: Failure(.failed, "the node could not start: \(type(of: error))")
    }
  }

  /// Stops in the order in which work flows: no new work, what is queued committed, goodbyes, the store
  /// closed. Bounded by the configured drain time.
  func stop() async {
    log.info("stopping")
    let bound = TimeAmount(configuration.limits.drainTime)
    await listener.drain()
    await federation.stop(within: bound)
    await admin.stop()
    node.stop()
    try? store.close()
    try? await blocking.shutdownGracefully()
    try? await group.shutdownGracefully()
    log.info("stopped")
  }
}

private func openStore(_ configuration: NodeConfiguration, synchronous: Synchronous) throws -> Store {
  do {
    try FileManager.default.createDirectory(
      atPath: configuration.dataDirectory, withIntermediateDirectories: true,
      attributes: [.posixPermissions: 0o700])
  } catch { throw Failure(.cannotCreate, "\(configuration.dataDirectory) cannot be created") }
  let path = (configuration.dataDirectory as NSString).appendingPathComponent("node.db")
  do throws(StoreError) {
    return try Store(path: path, options: StoreOptions(synchronous: synchronous))
  } catch {
    switch error {
    case .locked:
      throw Failure(
        .unavailable, "another process has \(configuration.dataDirectory) open", hint: "stop it first")
    case .schemaTooNew:
      throw Failure(.configuration, "\(path) was written by a newer version", hint: "upgrade engram-node")
    case .full: throw Failure(.ioError, "the disk of \(configuration.dataDirectory) is full")
    default: throw Failure(.ioError, "\(path) cannot be opened: \(error)")
    }
  }
}

/// The two TLS contexts: the public port's, and the one we dial peers with. Both show the same certificate.
private struct TLSSides {
  let server: TLSContextBox
  let client: TLSContextBox

  init(_ configuration: NodeConfiguration, trust: TrustStore) throws {
    let identity = TLSConfiguration.Identity(
      certificateChainPath: configuration.certificatePath, keyPath: configuration.privateKeyPath)
    let federation = FederationService.applicationProtocol
    do throws(TLSSetupError) {
      server = TLSContextBox(
        try TLSContext(
          .server(
            identity: identity, applicationProtocols: [federation, Listener.httpProtocol],
            defaultProtocol: Listener.httpProtocol, clientCertificateRequired: [federation],
            verifier: trust.verifier)))
      client = TLSContextBox(
        try TLSContext(
          .client(identity: identity, applicationProtocols: [federation], verifier: trust.verifier)))
    } catch {
      throw Failure(
        .configuration, "the certificate or its key cannot be used: \(error)",
        hint: error == .privateKeyExposed
          ? "chmod 600 \(configuration.privateKeyPath)" : "see certificate and private_key in [node]")
    }
  }
}

extension NodeSettings {
  init(_ configuration: NodeConfiguration) {
    self.init()
    groupCommitMax = configuration.limits.groupCommitMax
    maxTTLMs = configuration.limits.ttlMax.milliseconds
    sessionMs = configuration.limits.sessionLifetime.milliseconds
    clientsMax = configuration.limits.clientsMax
    envelopeBytesMax = configuration.limits.envelopeBytesMax
  }
}

extension LinkSettings {
  init(_ federation: NodeConfiguration.Federation) {
    self.init()
    windowMessages = federation.windowMessages
    windowBytes = federation.windowBytes
    idlePingMs = federation.idlePingInterval.milliseconds
    dialBackoffMinMs = federation.dialBackoffMin.milliseconds
    dialBackoffMaxMs = federation.dialBackoffMax.milliseconds
  }
}

extension ListenerSettings {
  init(_ configuration: NodeConfiguration) {
    self.init(host: configuration.listen.host, port: configuration.listen.port)
    connectionsMax = configuration.limits.webSocketConnectionsMax
    signInsPerSecond = configuration.limits.signInsPerSecond
    metrics =
      switch configuration.metrics {
      case .local: .local
      case .off: .off
      case .open: .open
      }
    drainTimeout = TimeAmount(configuration.limits.drainTime)
  }
}

extension Duration {
  var milliseconds: UInt64 {
    UInt64(components.seconds) * 1_000 + UInt64(components.attoseconds / 1_000_000_000_000_000)
  }
}
