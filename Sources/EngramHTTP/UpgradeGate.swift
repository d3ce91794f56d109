import EngramCore
import EngramNode
import NIOCore
import NIOHTTP1
import NIOWebSocket

/// Looks at the first request of a connection. An upgrade to `…/realtime` by a client that may have it turns
/// the connection into a WebSocket; anything else, refused upgrades included, goes to the routes and is
/// answered there. So authentication comes before the upgrade, and a refusal is an ordinary problem document.
final class UpgradeGate: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private enum State {
    case awaitingHead
    /// The rest of the request to upgrade, then of the codec's leftovers, is collected.
    case upgrading(HTTPRequestHead, RealtimeHandler)
    case leaving
  }

  private let edge: Edge
  private let codec: HTTPCodec
  private let http: HTTPConnection
  private var state = State.awaitingHead
  private var held: [NIOAny] = []

  init(edge: Edge, codec: HTTPCodec, http: HTTPConnection) {
    (self.edge, self.codec, self.http) = (edge, codec, http)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch state {
    case .awaitingHead:
      guard case .head(let head) = unwrapInboundIn(data) else { return context.close(promise: nil) }
      if let handler = permitted(head, context.eventLoop) {
        state = .upgrading(head, handler)
      } else {
        held.append(data)
        serve(context)
      }
    case .upgrading(let head, let handler):
      guard case .end = unwrapInboundIn(data) else { return }
      state = .leaving
      upgrade(head, handler, context)
    // Untyped: once the decoder is gone these are its leftover bytes.
    case .leaving: held.append(data)
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed? = event as? ChannelEvent { return context.close(promise: nil) }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    if case .upgrading(_, let handler) = state { handler.abandon() }
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  func removeHandler(context: ChannelHandlerContext, removalToken: ChannelHandlerContext.RemovalToken) {
    for data in held { context.fireChannelRead(data) }
    if !held.isEmpty { context.fireChannelReadComplete() }
    held = []
    context.leavePipeline(removalToken: removalToken)
  }

  // MARK: - Decision

  /// The handler to be, for a well-formed upgrade request of a session for its own `…/realtime`.
  private func permitted(_ head: HTTPRequestHead, _ loop: any EventLoop) -> RealtimeHandler? {
    guard isWebSocketUpgrade(head), !edge.isDraining, let address = realtimeAddress(head.uri),
      let bearer = bearerToken(head.headers), case .success(let session) = edge.node.session(bearer),
      session.address == address
    else { return nil }
    let handler = RealtimeHandler(edge: edge, session: session, loop: loop)
    // The client may have been disabled after the first look and before the handler began to watch.
    if case .success = edge.node.session(bearer) { return handler }
    handler.abandon()
    return nil
  }

  private func serve(_ context: ChannelHandlerContext) {
    state = .leaving
    do {
      try http.serve(context.channel)
      context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
    } catch { context.close(promise: nil) }
  }

  // MARK: - Upgrade

  private func upgrade(
    _ head: HTTPRequestHead, _ handler: RealtimeHandler, _ context: ChannelHandlerContext
  ) {
    let channel = context.channel
    let this = NIOLoopBound((gate: self, handler: handler, context: context), eventLoop: context.eventLoop)
    acceptHeaders(head, channel).flatMap { headers in
      this.value.gate.leaveHTTP(headers, this.value.context)
    }.flatMapThrowing {
      try this.value.gate.enterWebSocket(this.value.handler, this.value.context)
    }.whenFailure { _ in
      this.value.handler.abandon()
      channel.close(promise: nil)
    }
  }

  /// `Sec-WebSocket-Accept` and what goes with it.
  private func acceptHeaders(_ head: HTTPRequestHead, _ channel: any Channel) -> EventLoopFuture<HTTPHeaders>
  {
    let upgrader = NIOWebSocketServerUpgrader(
      automaticErrorHandling: false,
      shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture(HTTPHeaders()) },
      upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() })
    return upgrader.buildUpgradeResponse(
      channel: channel, upgradeRequest: head, initialResponseHeaders: HTTPHeaders())
  }

  /// Answers 101 and takes HTTP out of the pipeline: the guard first, since it understands only HTTP.
  private func leaveHTTP(_ headers: HTTPHeaders, _ context: ChannelHandlerContext) -> EventLoopFuture<Void> {
    let response = HTTPResponseHead(version: .http1_1, status: .switchingProtocols, headers: headers)
    let operations = NIOLoopBound(context.pipeline.syncOperations, eventLoop: context.eventLoop)
    let this = NIOLoopBound((gate: self, context: context), eventLoop: context.eventLoop)
    return operations.value.removeHandler(codec.connectionGuard).flatMap {
      let (gate, context) = this.value
      context.write(gate.wrapOutboundOut(.head(response)), promise: nil)
      context.writeAndFlush(gate.wrapOutboundOut(.end(nil)), promise: nil)
      return operations.value.removeHandler(gate.codec.decoder)
    }.flatMap { operations.value.removeHandler(this.value.gate.codec.encoder) }
  }

  private func enterWebSocket(_ handler: RealtimeHandler, _ context: ChannelHandlerContext) throws {
    let operations = context.pipeline.syncOperations
    let partial = PartialBytes(edge.partials)
    try operations.addHandlers([
      WebSocketFrameEncoder(), PartialBytesEntry(partial, edge.metrics),
      ByteToMessageHandler(WebSocketFrameDecoder(maxFrameSize: HTTPLimits.batchBytesMax)),
      PartialBytesExit(partial), handler,
    ])
    try context.channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: false)
    edge.connections.set(.realtime, for: context.channel)
    operations.removeHandler(context: context, promise: nil)
  }
}

/// RFC 6455 section 4.2.1, as far as it decides whether this is one.
private func isWebSocketUpgrade(_ head: HTTPRequestHead) -> Bool {
  head.method == .GET && head.version == .http1_1
    && head.headers[canonicalForm: "upgrade"].contains { $0.lowercased() == "websocket" }
    && head.headers[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
    && head.headers["sec-websocket-key"].count == 1 && head.headers["sec-websocket-version"] == ["13"]
}

/// The address in `/api/v1/agents/{id}/realtime`.
func realtimeAddress(_ uri: String) -> Address? {
  let path = uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).first ?? ""
  let parts = path.split(separator: "/", omittingEmptySubsequences: false)
  guard parts.count == 6, parts[0].isEmpty, parts[1...3] == ["api", "v1", "agents"], parts[5] == "realtime"
  else {
    return nil
  }
  return address(inPath: parts[4])
}
