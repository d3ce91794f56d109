package import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOWebSocket

/// How an attempt to open a WebSocket ended, when the server answered.
package enum WebSocketOpening: Sendable {
  /// The server declined with an ordinary response, for instance 401 or 404.
  case declined(WireResponse)
  case open(WebSocketConnection)
}

/// How a WebSocket ended.
package enum WebSocketEnd: Sendable, Hashable {
  /// A close frame came, with this code (1005 when it had none, RFC 6455 section 7.1.5) and the peer's
  /// reason.
  case closed(code: UInt16, reason: String)
  case failed(WireError)
}

/// Where received messages go.
package enum WebSocketDelivery: Sendable {
  /// To a function on the event loop, one call per message: for hot paths. It must not block.
  case callback(@Sendable (ByteBuffer) -> Void)
  /// To `WebSocketConnection.messages`; while their reader lags behind, the socket is not read.
  case stream
}

/// An open WebSocket (RFC 6455), client side. Pings are answered, silence is noticed, fragments are joined.
/// It is dropped with its last reference; `messages` counts as one.
package final class WebSocketConnection: Sendable {
  private let channel: any Channel
  private let limits: WireLimits
  private let handler: NIOLoopBound<WebSocketHandler>
  private let ended: EventLoopFuture<WebSocketEnd>
  private let inbox: Inbox

  /// Payloads of binary and text messages, for one reader; ends with the connection. Empty with a callback.
  package var messages: AsyncStream<[UInt8]> {
    AsyncStream { await self.inbox.next() }
  }

  init(_ channel: any Channel, _ handler: WebSocketHandler, _ inbox: Inbox, limits: WireLimits) {
    self.channel = channel
    self.limits = limits
    self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
    self.ended = handler.ended
    self.inbox = inbox
  }

  deinit { channel.close(promise: nil) }

  /// Sends one binary message; returns when the socket took it, which is how a sender feels back pressure.
  package func send(binary bytes: [UInt8]) async throws(WireError) {
    try await send(.binary, ByteBuffer(bytes: bytes))
  }

  /// Sends one text message; returns when the socket took it.
  package func send(text: String) async throws(WireError) {
    try await send(.text, ByteBuffer(string: text))
  }

  /// Sends one binary message without waiting, from any thread; small messages of one event-loop turn share
  /// TLS records. The promise fails with `WireError` or `ChannelError`.
  package func post(binary bytes: ByteBuffer, promise: EventLoopPromise<Void>? = nil) {
    guard bytes.readableBytes <= limits.messageBytesMax else {
      promise?.fail(WireError.tooLarge(limitBytes: limits.messageBytesMax))
      return
    }
    channel.writeAndFlush(WebSocketHandler.frame(.binary, bytes), promise: promise)
  }

  /// Whether the socket takes more now; a poster that ignores it fills memory.
  package var isWritable: Bool { channel.isWritable }

  /// Sends a close frame and waits for the peer's, at most `WireLimits.closeTimeout`.
  @discardableResult
  package func close(code: UInt16 = 1000, reason: String = "") async -> WebSocketEnd {
    channel.eventLoop.execute { [handler] in handler.value.startClosing(code: code, reason: reason) }
    return await end()
  }

  /// Waits for the end, however it comes.
  package func end() async -> WebSocketEnd {
    (try? await ended.get()) ?? .failed(.closed)
  }

  private func send(_ opcode: WebSocketOpcode, _ bytes: ByteBuffer) async throws(WireError) {
    guard bytes.readableBytes <= limits.messageBytesMax else {
      throw .tooLarge(limitBytes: limits.messageBytesMax)
    }
    do {
      try await channel.writeAndFlush(WebSocketHandler.frame(opcode, bytes))
    } catch {
      throw WireError(error)
    }
  }
}

// MARK: - Opening

extension WebSocketConnection {
  private enum Outcome: Sendable {
    case declining(EventLoopFuture<WireResponse>)
    case open(WebSocketConnection)
  }

  /// Asks for a WebSocket at `path`.
  package static func connect(
    endpoint: Endpoint, path: String, headers: [WireHeader] = [], delivery: WebSocketDelivery = .stream,
    limits: WireLimits = WireLimits(),
    eventLoopGroup: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
  ) async throws(WireError) -> WebSocketOpening {
    let head = try WireRequest("GET", path, headers: headers).head(authority: endpoint.authority)
    let dialler = try Dialler(endpoint, limits: limits)
    let loop = eventLoopGroup.next()
    let opening = loop.makePromise(of: WebSocketOpening.self)
    let dialled = dialler.dial(on: loop)
    let deadline = loop.scheduleTask(in: TimeAmount(limits.requestTimeout)) {
      opening.fail(WireError.timeout)
    }
    dialled.flatMap { channel in
      opening.futureResult.whenFailure { _ in channel.close(promise: nil) }
      return upgrade(channel, head, delivery, limits)
    }.cascade(to: opening)
    opening.futureResult.whenComplete { _ in deadline.cancel() }
    do {
      return try await withTaskCancellationHandler {
        try await opening.futureResult.get()
      } onCancel: {
        opening.fail(WireError.cancelled)
      }
    } catch {
      throw WireError(error)
    }
  }

  private static func upgrade(
    _ channel: any Channel, _ head: HTTPRequestHead, _ delivery: WebSocketDelivery, _ limits: WireLimits
  ) -> EventLoopFuture<WebSocketOpening> {
    let upgrader = NIOTypedWebSocketClientUpgrader<Outcome>(
      maxFrameSize: limits.messageBytesMax, enableAutomaticErrorHandling: false
    ) {
      channel, _ in
      channel.eventLoop.makeCompletedFuture { .open(try attach(to: channel, delivery, limits)) }
    }
    let configuration = NIOTypedHTTPClientUpgradeConfiguration<Outcome>(
      upgradeRequestHead: head, upgraders: [upgrader]
    ) { channel in
      channel.eventLoop.makeCompletedFuture { .declining(try collect(from: channel, limits)) }
    }
    var pipeline = NIOUpgradableHTTPClientPipelineConfiguration(upgradeConfiguration: configuration)
    // A server may speak right behind its 101; the default would drop what came in the same read.
    pipeline.leftOverBytesStrategy = .forwardBytes
    do {
      return try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(
        configuration: pipeline
      )
      .flatMap { outcome in
        // The response is parsed only once the upgrade handler has let go, hence the future in the outcome.
        switch outcome {
        case .declining(let response): response.map { .declined($0) }
        case .open(let connection): channel.eventLoop.makeSucceededFuture(.open(connection))
        }
      }
    } catch {
      return channel.eventLoop.makeFailedFuture(WireError.closed)
    }
  }

  private static func attach(
    to channel: any Channel, _ delivery: WebSocketDelivery, _ limits: WireLimits
  ) throws -> WebSocketConnection {
    let inbox = Inbox(bytesMax: limits.inboxBytesMax)
    let handler = WebSocketHandler(
      delivery: delivery, inbox: inbox, limits: limits, ended: channel.eventLoop.makePromise())
    try channel.pipeline.syncOperations.addHandler(handler)
    return WebSocketConnection(channel, handler, inbox, limits: limits)
  }

  private static func collect(
    from channel: any Channel, _ limits: WireLimits
  ) throws -> EventLoopFuture<WireResponse> {
    let promise = channel.eventLoop.makePromise(of: WireResponse.self)
    let connection = HTTPConnection(limits: limits)
    try channel.pipeline.syncOperations.addHandler(connection)
    connection.awaitResponse { end in
      switch end {
      case .answered(let response, _): promise.succeed(response)
      case .failed(let error, _): promise.fail(error)
      }
      channel.close(promise: nil)
    }
    return promise.futureResult
  }
}
