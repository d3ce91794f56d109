import EngramCore
import EngramNode
import EngramTLS
import NIOCore
import NIOPosix

/// Opens connections to peers and builds the pipeline of a link.
struct PeerConnector: Sendable {
  let group: any EventLoopGroup
  let tls: TLSContextBox

  /// Succeeds when TCP is connected; TLS and hello are the link's own business.
  func connect(
    _ peer: FederationPeer, supervisor: PeerSupervisor, environment: LinkEnvironment
  ) -> EventLoopFuture<Void> {
    ClientBootstrap(group: group)
      .connectTimeout(FederationTimes.connect)
      .channelInitializer { [tls] channel in
        channel.eventLoop.makeCompletedFuture {
          // The certificate must carry the peer's name, wherever the endpoint is.
          try channel.pipeline.syncOperations.addHandler(tls.makeHandler(serverName: peer.name.text))
          try Self.addHandlers(to: channel, role: .dialler, supervisor, environment)
        }
      }
      .connect(host: peer.host, port: peer.port)
      .map { _ in }
  }

  /// On the channel's event loop, above its TLS handler.
  static func addHandlers(
    to channel: any Channel, role: LinkRole, _ supervisor: PeerSupervisor, _ environment: LinkEnvironment
  ) throws {
    let options = channel.syncOptions
    try options?.setOption(.tcpOption(.tcp_nodelay), value: 1)
    try options?.setOption(
      .writeBufferWaterMark,
      value: .init(low: LinkLimits.bulkQuantumBytes / 2, high: 2 * LinkLimits.bulkQuantumBytes))
    let peer = supervisor.peer
    let handler = LinkHandler(
      role: role, peer: Peer(name: peer.name, id: peer.id, isEnabled: peer.isEnabled), supervisor: supervisor,
      environment: environment)
    try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(FrameDecoder()))
    try channel.pipeline.syncOperations.addHandler(handler)
  }
}
