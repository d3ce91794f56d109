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
      // Several addresses may be tried at once, each with a channel; which one won is known only at the
      // end, and by then its handshake may be over already.
      let handshakes = NIOLoopBoundBox.makeBoxSendingValue(
        [ObjectIdentifier: EventLoopFuture<Void>](), eventLoop: loop)
      connected =
        bootstrap
        .channelOption(.tcpOption(.tcp_nodelay), value: 1)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            handshakes.value[ObjectIdentifier(channel)] = try addTLS(to: channel, name: serverName ?? host)
          }
        }
        .connect(host: host, port: port)
        .flatMap { channel in
          let handshake = handshakes.value[ObjectIdentifier(channel)]
          return handshake.map { $0.map { channel } } ?? loop.makeFailedFuture(WireError.closed)
        }
    }
    return connected.flatMapErrorThrowing { error in throw WireError(error, other: .unreachable) }
  }

  /// Puts TLS into a new channel; the future ends with its handshake.
  private func addTLS(to channel: any Channel, name: String) throws -> EventLoopFuture<Void> {
    guard let context else { throw WireError.invalidRequest }
    var bounds = TLSLimits()
    bounds.handshakeTimeout = TimeAmount(limits.connectTimeout)
    try channel.pipeline.syncOperations.addHandler(
      TLSHandler(context: context, serverName: name, limits: bounds))
    let promise = channel.eventLoop.makePromise(of: Void.self)
    do {
      try channel.pipeline.syncOperations.addHandler(HandshakeGate(promise))
    } catch {
      promise.fail(error)
    }
    return promise.futureResult
  }
}

/// Waits for the handshake, so that no request is written towards a peer that may not be the right one.
private final class HandshakeGate: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer

  private let promise: EventLoopPromise<Void>

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
