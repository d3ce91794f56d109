internal import NIOCore
internal import NIOHTTP1

/// One HTTP/1.1 connection, at the end of its pipeline: one exchange at a time.
final class HTTPConnection: ChannelInboundHandler {
  typealias InboundIn = HTTPClientResponsePart
  typealias OutboundOut = HTTPClientRequestPart

  /// How an exchange ended for the connection.
  enum End {
    case answered(WireResponse, reusable: Bool)
    /// `silently`: not one byte of an answer came before.
    case failed(WireError, silently: Bool)
  }

  private struct Exchange {
    var assembly: ResponseAssembly
    let completion: (End) -> Void
  }

  private let limits: WireLimits
  private var exchange: Exchange?
  private var context: ChannelHandlerContext?
  /// Called once, when the connection cannot be used any more while no exchange is under way.
  var onIdleClose: (() -> Void)?

  init(limits: WireLimits) { self.limits = limits }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }
  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  var isUsable: Bool { exchange == nil && context?.channel.isActive == true }

  /// Sends a request and waits for its answer.
  func run(_ head: HTTPRequestHead, body: [UInt8], completion: @escaping (End) -> Void) {
    awaitResponse(completion: completion)
    guard let context else { return end(.failed(.closed, silently: true)) }
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if !body.isEmpty {
      let bytes = context.channel.allocator.buffer(bytes: body)
      context.write(wrapOutboundOut(.body(.byteBuffer(bytes))), promise: nil)
    }
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }

  /// Waits for the answer to a request that somebody else wrote.
  func awaitResponse(completion: @escaping (End) -> Void) {
    exchange = Exchange(
      assembly: ResponseAssembly(bytesMax: limits.responseBytesMax), completion: completion)
  }

  /// Gives the connection up, with whatever is under way on it.
  func close(_ error: WireError = .closed) {
    let context = context
    fail(error)
    context?.close(promise: nil)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard exchange != nil else { return close(.protocolViolation) }  // nobody asked
    switch exchange?.assembly.take(unwrapInboundIn(data)) {
    case .failed(let error): close(error)
    case .finished(let response, let keepsAlive):
      // In this order: closing may end the channel at once, and the exchange is over before that.
      end(.answered(response, reusable: keepsAlive))
      if !keepsAlive { context.close(promise: nil) }
    case .unfinished, nil: break
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    close(WireError(error))
  }

  func channelInactive(context: ChannelHandlerContext) {
    fail(.closed)
    context.fireChannelInactive()
  }

  private func fail(_ error: WireError) {
    if let exchange {
      end(.failed(error, silently: !exchange.assembly.hasBegun))
    } else {
      onIdleClose?()
      onIdleClose = nil
    }
  }

  private func end(_ end: End) {
    let completion = exchange?.completion
    exchange = nil
    completion?(end)
  }
}
