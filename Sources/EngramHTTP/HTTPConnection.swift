import EngramNode
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1

/// Serves requests of HTTP/1.1 connections with a Hummingbird router, over any channel that carries plaintext
/// bytes.
struct HTTPConnection: HTTPChannelHandler {
  let responder: Responder
  private let log: Logger

  init<R: HTTPResponder>(responder: R, nowMs: @escaping @Sendable () -> UInt64, log: Logger)
  where R.Context: InitializableFromSource<ApplicationRequestContextSource> {
    self.log = log
    self.responder = { request, writer, channel in
      let context = R.Context(source: ApplicationRequestContextSource(channel: channel, logger: log))
      var response = try await responder.respond(to: request, context: context)
      response.headers[.date] = httpDate(nowMs())
      try await writer.write(response: response.head, body: response.body)
    }
  }

  typealias Value = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

  /// Adds what turns HTTP/1.1 parts into Hummingbird's at the end of the pipeline. On the channel's event
  /// loop.
  func wrap(_ channel: any Channel) throws -> Value {
    try channel.pipeline.syncOperations.addHandler(HTTP1ToHTTPServerCodec(secure: true))
    return try Value(
      wrappingChannelSynchronously: channel, configuration: .init(isOutboundHalfClosureEnabled: true))
  }

  /// Serves requests until the connection ends.
  func serve(_ channel: any Channel) throws {
    let connection = try wrap(channel)
    Task { await handle(value: connection, logger: log) }
  }

  func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
    channel.eventLoop.makeCompletedFuture { try wrap(channel) }
  }

  func handle(value: Value, logger: Logger) async { await handleHTTP(asyncChannel: value, logger: logger) }
}

/// The handlers between bytes and HTTP/1.1 parts.
struct HTTPCodec {
  let encoder = HTTPResponseEncoder()
  let decoder: ByteToMessageHandler<HTTPRequestDecoder>
  let connectionGuard: ConnectionGuard

  /// Adds them at the end of the pipeline of `channel`, on its event loop.
  init(
    addingTo channel: any Channel, timeouts: ConnectionGuard.Timeouts, metrics: HTTPMetrics
  ) throws {
    var limits = NIOHTTPDecoderLimitConfiguration()
    limits.maxHeaderFieldSize = HTTPLimits.headerBytesMax
    limits.maxHeaderListSize = HTTPLimits.headerBytesMax
    limits.maxHeaderFieldCount = HTTPLimits.headerFieldsMax
    decoder = ByteToMessageHandler(
      HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: limits))
    connectionGuard = ConnectionGuard(
      timeouts: timeouts, bodyBytesMax: HTTPLimits.batchBytesMax, metrics: metrics)
    try channel.pipeline.syncOperations.addHandlers([encoder, decoder, connectionGuard])
  }
}
