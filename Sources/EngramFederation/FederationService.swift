package import EngramCore
package import EngramNode
package import EngramTLS
package import Logging
package import NIOCore
package import NIOPosix
import Synchronization

/// Times of the edge; those of the protocol are in `LinkLimits`.
enum FederationTimes {
  /// Four a second: the grain of pings, pauses and deadlines.
  static let tick = TimeAmount.milliseconds(250)
  static let connect = TimeAmount.seconds(10)
  /// A link that lived this long shows that the peer is well: the next wait starts small again.
  static let stableLink = TimeAmount.seconds(5)
  /// A directory question waits this long for a link that is being made.
  static let lookupWait = TimeAmount.seconds(5)
  /// After more failed dials than this a question fails at once.
  static let hopefulDials = 3
}

/// Federation of one node: keeps a link to every peer, in whichever direction it came about.
package final class FederationService: DirectoryPort, RequestPort, Sendable {
  /// ALPN (RFC 7301); the listener asks for a client certificate under it.
  package static let applicationProtocol = "engram/1"

  private let node: Node
  private let trust: TrustStore
  private let random: any RandomSource
  private let group: any EventLoopGroup
  private let environment: LinkEnvironment
  private let connector: PeerConnector

  private struct State {
    var supervisors: [NodeName: PeerSupervisor] = [:]
    var isRunning = false
  }
  private let state = Mutex(State())

  /// - Parameters:
  ///   - tls: client contexts with our certificate, `applicationProtocol` and `trust.verifier`.
  ///   - trust: shared with the listener's verifier; peers are entered and removed here.
  package init(
    node: Node, group: any EventLoopGroup, tls: TLSContextBox, trust: TrustStore,
    settings: LinkSettings = LinkSettings(), random: any RandomSource, pool: NIOThreadPool = .singleton,
    log: Logger
  ) {
    (self.node, self.trust, self.random, self.group) = (node, trust, random, group)
    connector = PeerConnector(group: group, tls: tls)
    environment = LinkEnvironment(
      node: node, settings: settings, pool: pool, loops: Array(group.makeIterator()), log: log,
      counters: FederationCounters())
    node.setDirectoryPort(self)
    node.setRequestPort(self)
  }

  // MARK: - Peers

  /// Takes over a whole list: new peers are dialled, removed and changed ones are disconnected first. Blocks
  /// on the store, so not on an event loop.
  package func setPeers(_ peers: [FederationPeer]) throws(PeerSetupError) {
    try check(peers)
    let gone = state.withLock { state in
      state.supervisors.filter { name, supervisor in
        !peers.contains { $0.name == name && $0 == supervisor.peer }
      }
    }
    for (name, supervisor) in gone {
      let successor = peers.first { $0.name == name }
      _ = supervisor.stop(successor?.isEnabled == true ? .shuttingDown : .peerSuspended)
      if successor == nil { trust.remove(name: name.text) }
    }
    for peer in peers {
      do throws(TLSSetupError) {
        try trust.set(name: peer.name.text, caPEM: peer.authorityPEM)
      } catch { throw .authority(peer.name) }
    }
    do throws(ErrorCode) {
      try node.setPeers(peers.map { Peer(name: $0.name, id: $0.id, isEnabled: $0.isEnabled) })
    } catch { throw .node(error) }
    let fresh = state.withLock { state in
      for name in gone.keys { state.supervisors[name] = nil }
      var fresh: [PeerSupervisor] = []
      for peer in peers where state.supervisors[peer.name] == nil {
        let supervisor = PeerSupervisor(
          peer, environment: environment, connector: connector, random: random, loop: group.next())
        state.supervisors[peer.name] = supervisor
        fresh.append(supervisor)
      }
      return state.isRunning ? fresh : []
    }
    for supervisor in fresh { supervisor.start() }
  }

  private func check(_ peers: [FederationPeer]) throws(PeerSetupError) {
    var seen: Set<NodeName> = []
    for peer in peers {
      guard peer.name != node.identity.name, peer.id != node.identity.id else { throw .ownName }
      guard seen.insert(peer.name).inserted else { throw .duplicateName(peer.name) }
      do throws(TLSSetupError) { _ = try TrustAnchors(pem: peer.authorityPEM) } catch {
        throw .authority(peer.name)
      }
    }
  }

  /// Peers by name. Blocks on the store.
  package func peers() -> [PeerStatus] {
    let supervisors = state.withLock { $0.supervisors }.sorted { $0.key < $1.key }
    return supervisors.map { name, supervisor in supervisor.status(queued: queued(name)) }
  }

  private func queued(_ peer: NodeName) -> Int {
    do throws(ErrorCode) {
      return try node.pendingCount(mailbox: node.linkState(peer).envelopesMailbox)
    } catch { return 0 }
  }

  /// Counters and gauges for `/metrics`. Blocks on the store.
  package func samples() -> [(name: String, labels: [(String, String)], value: UInt64)] {
    let supervisors = state.withLock { $0.supervisors }.sorted { $0.key < $1.key }
    let counters = environment.counters.samples().map {
      (name: $0.name, labels: [(String, String)](), value: $0.value)
    }
    return counters
      + supervisors.flatMap { name, supervisor in
        let status = supervisor.status(queued: queued(name))
        let labels = [("peer", name.text)]
        return [
          (name: "engram_federation_link_up", labels: labels, value: status.state == .connected ? 1 : 0),
          (name: "engram_federation_queued", labels: labels, value: UInt64(max(0, status.queued))),
          (name: "engram_federation_in_flight", labels: labels, value: UInt64(max(0, status.inFlight))),
        ]
      }
  }

  // MARK: - Life

  package func start() {
    let supervisors = state.withLock { state in
      state.isRunning = true
      return Array(state.supervisors.values)
    }
    for supervisor in supervisors { supervisor.start() }
  }

  /// Says goodbye to every peer after what was taken in is acknowledged; whoever has not gone within the
  /// bound is cut off.
  package func stop(within bound: TimeAmount) async {
    let supervisors = state.withLock { state in
      state.isRunning = false
      return Array(state.supervisors.values)
    }
    let links = supervisors.flatMap { $0.stop(.shuttingDown) }
    for link in links {
      let cut = link.channel.eventLoop.scheduleTask(in: bound) {
        link.channel.close(mode: .all, promise: nil)
      }
      link.channel.closeFuture.whenComplete { _ in cut.cancel() }
    }
    for link in links { try? await link.channel.closeFuture.get() }
    node.setDirectoryPort(nil)
    node.setRequestPort(nil)
  }

  /// Takes a connection whose TLS handshake chose `applicationProtocol`, on its event loop. A peer that is
  /// not configured or not wanted gets no answer but the end.
  package func admit(_ channel: any Channel) -> EventLoopFuture<Void> {
    channel.eventLoop.makeCompletedFuture {
      let tls = try channel.pipeline.syncOperations.handler(type: TLSHandler.self)
      let name = tls.connectionInfo?.verifiedPeerName.flatMap { try? NodeName($0) }
      guard let name, let supervisor = state.withLock({ $0.supervisors[name] }) else {
        return channel.close(promise: nil)
      }
      try PeerConnector.addHandlers(to: channel, role: .listener, supervisor, environment)
    }
  }

  // MARK: - Questions

  /// Asks a peer about one of its clients. The answer is as it came; the node verifies it.
  package func lookup(
    _ address: Address, at peer: NodeName,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    guard let supervisor = state.withLock({ $0.supervisors[peer] }) else {
      return completion(.failure(.noRoute))
    }
    supervisor.ask(.directory(address), completion)
  }

  /// Asks a peer for something on behalf of one of our clients.
  package func ask(
    _ kind: RequestKind, _ payload: [UInt8], of peer: NodeName,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    guard let supervisor = state.withLock({ $0.supervisors[peer] }) else {
      return completion(.failure(.noRoute))
    }
    supervisor.ask(.request(kind, payload), completion)
  }
}
