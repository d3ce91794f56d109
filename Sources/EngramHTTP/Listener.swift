import EngramCore
import EngramNode
package import EngramTLS
import Hummingbird
import Logging
package import NIOCore
import NIOPosix
import NIOTLS
import Synchronization

/// Sets up a connection whose application protocol is not HTTP, on its event loop, after the handshake.
package typealias ForeignProtocol = @Sendable (any Channel, TLSHandler) -> EventLoopFuture<Void>

/// The one public port: TLS, then `http/1.1` to the API and every other protocol to whoever brought it.
package final class Listener: Sendable {
  package static let httpProtocol = "http/1.1"

  private let edge: Edge
  private let tls: TLSContextBox
  private let foreign: [String: ForeignProtocol]
  private let group: any EventLoopGroup
  private let http: HTTPConnection
  private let server = Mutex<(any Channel)?>(nil)

  /// - Parameters:
  ///   - tls: a server context that offers `httpProtocol` and the keys of `foreign`.
  package init(
    edge: Edge, tls: TLSContextBox, group: any EventLoopGroup, foreign: [String: ForeignProtocol] = [:]
  ) {
    (self.edge, self.tls, self.group, self.foreign) = (edge, tls, group, foreign)
    http = HTTPConnection(
      responder: apiRouter(edge).buildResponder(), nowMs: { edge.node.clock.nowMs() }, log: edge.log)
  }

  /// Binds the port. Returns the one that is bound, of use when 0 was asked for.
  package func start() async throws -> Int {
    let channel = try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: Int32(clamping: edge.settings.backlog))
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { [self] channel in accept(channel) }
      .bind(host: edge.settings.host, port: edge.settings.port).get()
    server.withLock { $0 = channel }
    let port = channel.localAddress?.port ?? edge.settings.port
    edge.log.info("listening", metadata: ["port": "\(port)"])
    return port
  }

  // MARK: - Connections

  private func accept(_ channel: any Channel) -> EventLoopFuture<Void> {
    // Until the handshake says which protocol it is, a connection may be a peer's.
    let max = edge.settings.connectionsMax + HTTPLimits.foreignConnectionsReserved
    guard edge.connections.admit(channel, max: max) else {
      edge.metrics.connectionsRefused.add()
      return channel.eventLoop.makeFailedFuture(ErrorCode.overloaded)
    }
    channel.closeFuture.whenComplete { [edge] _ in
      if edge.connections.remove(channel) == .handshaking { edge.metrics.handshakesFailed.add() }
    }
    return channel.eventLoop.makeCompletedFuture {
      let handler = try tls.makeHandler()
      let operations = channel.pipeline.syncOperations
      try operations.addHandler(handler)
      try operations.addHandler(
        ApplicationProtocolNegotiationHandler { [self] result, channel in route(result, channel, handler) })
    }
  }

  private func route(_ result: ALPNResult, _ channel: any Channel, _ handler: TLSHandler) -> EventLoopFuture<
    Void
  > {
    guard case .negotiated(let name) = result else { return channel.close() }
    if name == Self.httpProtocol {
      return channel.eventLoop.makeCompletedFuture { try serveHTTP(channel) }
    }
    guard let initialise = foreign[name] else { return channel.close() }
    edge.connections.set(.foreign, for: channel)
    return initialise(channel, handler)
  }

  private func serveHTTP(_ channel: any Channel) throws {
    edge.connections.set(.http, for: channel)
    guard edge.connections.ofClients <= edge.settings.connectionsMax else {
      edge.metrics.connectionsRefused.add()
      return channel.close(promise: nil)
    }
    // A client may end its side after the last request and still read the answer.
    try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
    let settings = edge.settings
    let codec = try HTTPCodec(
      addingTo: channel,
      timeouts: .init(
        firstRequest: settings.firstRequestTimeout, keepAlive: settings.keepAliveTimeout,
        body: settings.bodyTimeout),
      metrics: edge.metrics)
    try channel.pipeline.syncOperations.addHandler(UpgradeGate(edge: edge, codec: codec, http: http))
  }

  // MARK: - The end

  /// Takes no more connections, answers what is in progress, says goodbye to WebSockets (1001), and closes
  /// what is left after `ListenerSettings.drainTimeout`. Connections of foreign protocols are left alone.
  package func drain() async {
    edge.beginDraining()
    let channel = server.withLock { server in
      defer { server = nil }
      return server
    }
    try? await channel?.close().get()
    for (channel, kind) in edge.connections.own() {
      if kind == .handshaking {
        channel.close(promise: nil)
      } else {
        channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
      }
    }
    // After the events, so that the polls' answers say that the connection ends.
    edge.polls.ringAll()
    let deadline = group.any().scheduleTask(in: edge.settings.drainTimeout) { [edge] in
      for (channel, _) in edge.connections.own() { channel.close(promise: nil) }
    }
    await edge.connections.drained()
    deadline.cancel()
    edge.log.info("drained")
  }
}
