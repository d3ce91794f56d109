internal import EngramTLS
internal import NIOCore
internal import NIOPosix
internal import NIOTLS

/// Opens connections to one endpoint, ready for plaintext.
struct Dialler: Sendable {
  let endpoint: Endpoint
  private let context: TLSContext?
  private let limits: WireLimits

  /// Reads the authorities once; a change of the file needs a new client.
  init(_ endpoint: Endpoint, limits: WireLimits) throws(WireError) {
    self.endpoint = endpoint
    self.limits = limits
    switch endpoint {
    case .unix: context = nil
    case .tls(_, _, let caFile, _):
      do {
        let anchors = try caFile.map { try TrustAnchors(path: $0) } ?? TrustAnchors(system: ())
        context = try TLSContext(
          .client(
            applicationProtocols: ["http/1.1"], defaultProtocol: "http/1.1", verifier: anchors.hostVerifier))
      } catch {
        throw WireError(error)
      }
    }
  }

  /// A channel whose handshake is over; fails with `WireError`.
  func dial(on loop: any EventLoop) -> EventLoopFuture<any Channel> {
    let bootstrap = ClientBootstrap(group: loop).connectTimeout(TimeAmount(limits.connectTimeout))
    let connected: EventLoopFuture<any Channel>
    switch endpoint {
    case .unix(let path):
      connected = bootstrap.connect(unixDomainSocketPath: path)
    case .tls(let host, let port, _, let serverName):
      connected =
        bootstrap
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture { try addTLS(to: channel, name: serverName ?? host) }
        }
        .connect(host: host, port: port)
        .flatMap { channel in handshake(of: channel) }
    }
    return connected.flatMapErrorThrowing { error in throw WireError(error, other: .unreachable) }
  }

  private func addTLS(to channel: any Channel, name: String) throws {
    guard let context else { return }
    var bounds = TLSLimits()
    bounds.handshakeTimeout = TimeAmount(limits.connectTimeout)
    try channel.pipeline.syncOperations.addHandlers(
      TLSHandler(context: context, serverName: name, limits: bounds),
      HandshakeGate(channel.eventLoop.makePromise()))
  }

  private func handshake(of channel: any Channel) -> EventLoopFuture<any Channel> {
    do {
      let gate = try channel.pipeline.syncOperations.handler(type: HandshakeGate.self)
      return gate.passed.map { channel }
    } catch {
      return channel.eventLoop.makeFailedFuture(WireError.closed)
    }
  }
}

/// Waits for the handshake, so that no request is written towards a peer that may not be the right one.
private final class HandshakeGate: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  private let promise: EventLoopPromise<Void>
  var passed: EventLoopFuture<Void> { promise.futureResult }

  init(_ promise: EventLoopPromise<Void>) { self.promise = promise }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent {
      promise.succeed(())
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    promise.fail(WireError(error))
    context.fireErrorCaught(error)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    promise.fail(WireError.closed)
  }
}
