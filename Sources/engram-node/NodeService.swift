import EngramConfig
import EngramCore
import EngramCrypto
import EngramFederation
import EngramHTTP
import EngramNode
import EngramStore
import EngramTLS
import Glibc
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
  private let tls: TLSSides
  private let certificates: CertificateWatch
  private let clock: SteadyClock

  /// Threads for store reads, which must not hold up an event loop.
  private static let blockingThreads = 2
  /// Open files beside connections: the store with its readers, the administration's connections, event
  /// loops.
  private static let descriptorsBesides = 128

  init(
    _ configuration: NodeConfiguration, configPath: String, identity: SigningKey, synchronous: Synchronous
  ) throws {
    self.configuration = configuration
    let log = Logger(label: "engram-node") { label in
      StructuredLog(label: label, level: configuration.logLevel, format: configuration.logFormat)
    }
    self.log = log
    store = try openStore(configuration, synchronous: synchronous)
    let clock: SteadyClock
    do throws(ErrorCode) {
      clock = SteadyClock(lastSeenMs: try Node.lastSeenMs(in: store))
      node = try Node(
        identity: NodeIdentity(name: configuration.name, key: identity), store: store,
        settings: NodeSettings(configuration), clock: clock, random: SystemRandom(), log: log)
    } catch { throw Failure(.ioError, error.sentence) }
    self.clock = clock
    group = MultiThreadedEventLoopGroup(numberOfThreads: System.coreCount)
    blocking = NIOThreadPool(numberOfThreads: Self.blockingThreads)
    let trust = TrustStore()
    let tls = try TLSSides(configuration, trust: trust)
    let certificates = CertificateWatch(tls, authorityPath: configuration.authorityPath)
    (self.tls, self.certificates) = (tls, certificates)
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
        } + certificates.samples(nowMs: clock.nowMs())
      })
    listener = Listener(
      edge: edge, tls: tls.server, group: group,
      foreign: [FederationService.applicationProtocol: { channel, _ in federation.admit(channel) }])
    peers = PeerBook(
      configuration, configPath: configPath, ownID: NodeID(identity.publicKey), federation: federation)
    admin = AdminSocket(
      path: configuration.adminSocketPath, node: node, peers: peers.administration, version: softwareVersion,
      group: group, log: log, samples: { edge.samples() })
  }

  /// Starts everything and returns the port that is bound. Peers come first, so that a client's first message
  /// finds its route; the public port comes last.
  func start() async throws -> Int {
    do {
      // Before the first write of the node, and after certificate and keys were found good: a start that
      // fails over a mistyped name must not leave that name in a new store.
      try claim(store, for: configuration, node.identity.id)
    } catch {
      try? store.close()
      throw error
    }
    blocking.start()
    node.start()
    do {
      try await peers.load()
      federation.start()
      try await admin.start()
      let port = try await listener.start()
      watchCertificates()
      checkDescriptors()
      return port
    } catch {
      // Nothing was served yet, so there is nothing to say about the end but why.
      await takeDown(by: .now + .seconds(1))
      throw startFailure(error, configuration)
    }
  }

  private func watchCertificates() {
    group.any().scheduleRepeatedTask(initialDelay: .zero, delay: .hours(CertificateWatch.checkHours)) {
      [certificates, log, clock] _ in certificates.warn(log, nowMs: clock.nowMs())
    }
  }

  /// Raises the soft limit of open files to what the configured connections need, and warns when the hard
  /// limit does not allow it: connections would be refused later, at the worst of times.
  private func checkDescriptors() {
    var limit = rlimit()
    let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    let needed = rlim_t(
      configuration.limits.webSocketConnectionsMax + HTTPLimits.foreignConnectionsReserved
        + Self.descriptorsBesides)
    guard getrlimit(kind, &limit) == 0, limit.rlim_cur < needed else { return }
    limit.rlim_cur = min(needed, limit.rlim_max)
    if setrlimit(kind, &limit) == 0, limit.rlim_cur >= needed { return }
    log.warning(
      "the limit of open files is below what the configured connections need",
      metadata: ["limit": "\(limit.rlim_cur)", "needed": "\(needed)"])
  }

  /// Takes a certificate that was renewed on the disk for new connections; open ones stay as they are.
  func reloadCertificate() {
    do throws(Failure) {
      try tls.reload()
      log.info("certificate reloaded")
      certificates.warn(log, nowMs: clock.nowMs())
    } catch {
      log.error(
        "the certificate was not reloaded, the old one stays", metadata: ["reason": "\(error.message)"])
    }
  }

  /// Stops in the order in which work flows: no new work, what is queued committed, goodbyes, the store
  /// closed. All of it together is bounded by the configured drain time.
  func stop() async {
    log.info("stopping")
    let deadline = ContinuousClock.now + configuration.limits.drainTime
    await listener.drain()
    await takeDown(by: deadline)
    log.info("stopped")
  }

  private func takeDown(by deadline: ContinuousClock.Instant) async {
    await federation.stop(within: .left(until: deadline))
    await admin.stop(within: .left(until: deadline))
    node.stop()
    try? store.close()
    try? await blocking.shutdownGracefully()
    try? await group.shutdownGracefully()
  }
}

extension TimeAmount {
  fileprivate static func left(until deadline: ContinuousClock.Instant) -> TimeAmount {
    TimeAmount(max(.zero, ContinuousClock.now.duration(to: deadline)))
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
    broadcasters = Set(configuration.permissions.broadcast)
    retry.attemptsMax = UInt32(configuration.queue.attemptsMax)
    retry.firstBackoffMs = configuration.queue.backoffMin.milliseconds
    retry.backoffMsMax = configuration.queue.backoffMax.milliseconds
    ageStepMs = configuration.queue.ageStep.milliseconds
    deliveredAfterMs = configuration.queue.deliveredAfter.milliseconds
    leaseMs = configuration.queue.lease.milliseconds
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
    // The last quarter is for goodbyes to peers. Before it a connection that was cut may take two seconds to
    // end (`TLSLimits.shutdownTimeout`); of less than three in all, a quarter is for requests, and it takes
    // longer.
    let bound = configuration.limits.drainTime
    drainTimeout = TimeAmount(max(bound / 4, bound * 3 / 4 - .seconds(2)))
  }
}

extension Duration {
  var milliseconds: UInt64 {
    UInt64(components.seconds) * 1_000 + UInt64(components.attoseconds / 1_000_000_000_000_000)
  }
}
