import EngramCore
import EngramCrypto
import EngramTLS
import NIOCore
import NIOPosix
import NIOTLS
import Synchronization
import TestSupport
import Testing

/// A frame as it came, `length u32 | type u8 | payload`.
struct RawFrame: Sendable {
  let type: UInt8
  let payload: [UInt8]
}

/// A TLS connection to a node's port on which a test says what it likes, byte for byte. It shares no code
/// with the federation's own frame codec.
final class RawLink: Sendable {
  private let channel: any Channel
  private let tape: Tape

  private init(_ channel: any Channel, _ tape: Tape) { (self.channel, self.tape) = (channel, tape) }

  deinit { channel.close(promise: nil) }

  /// Connects and finishes the handshake, as far as this side can tell: a TLS 1.3 server may still refuse.
  static func connect(
    to organisation: Organisation, as identity: TLSConfiguration.Identity?, protocols: [String] = ["engram/1"]
  ) async throws -> RawLink {
    let anchors = try TrustAnchors(path: organisation.authority)
    let context = try TLSContext(
      .client(identity: identity, applicationProtocols: protocols, verifier: anchors.hostVerifier))
    let (name, tape) = (organisation.name.text, Tape())
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers(
            TLSHandler(context: context, serverName: name), FrameTap(tape))
        }
      }
      .connect(host: "127.0.0.1", port: organisation.port).get()
    _ = await eventually { tape.seen.withLock { $0.exporter != nil || $0.hasEnded } }
    return RawLink(channel, tape)
  }

  // MARK: - Out

  func send(_ type: FrameType, _ payload: [UInt8] = []) async throws {
    try await send(type.rawValue, payload)
  }

  func send(_ type: UInt8, _ payload: [UInt8]) async throws {
    var writer = FieldWriter(capacity: payload.count + 5)
    writer.raw(UInt32(payload.count + 1))
    writer.raw(type)
    writer.raw(payload)
    await send(raw: writer.bytes)
  }

  /// Bytes as they are. Whether the other side still wants them shows in what it says.
  func send(raw bytes: [UInt8]) async {
    try? await channel.writeAndFlush(ByteBuffer(bytes: bytes))
  }

  func close() async { try? await channel.close() }

  // MARK: - In

  /// The secret of this very connection that a hello is signed over.
  var exporter: [UInt8]? { tape.seen.withLock { $0.exporter } }
  var error: TLSError? { tape.seen.withLock { $0.error } }

  /// The next frame of that type, skipping others; nil when the connection ends first.
  func next(_ type: FrameType) async -> [UInt8]? {
    let found: RawFrame?? = await eventually(within: .seconds(30)) {
      tape.seen.withLock { seen in
        while seen.taken < seen.frames.count {
          seen.taken += 1
          if seen.frames[seen.taken - 1].type == type.rawValue { return .some(seen.frames[seen.taken - 1]) }
        }
        return seen.hasEnded ? .some(nil) : nil
      }
    }
    return found.flatMap { $0 }?.payload
  }

  /// Waits for the end of the connection; the code of the goodbye before it, if there was one.
  func goodbye() async -> ErrorCode? {
    let ended = await eventually(within: .seconds(30)) { tape.seen.withLock { $0.hasEnded } }
    guard ended else { return nil }
    let last = tape.seen.withLock { $0.frames.last { $0.type == FrameType.goodbye.rawValue } }
    return last.flatMap { try? GoodbyeFrame(parsing: $0.payload[...]).code }
  }

  /// Types of all frames so far, in order.
  var frameTypes: [UInt8] { tape.seen.withLock { $0.frames.map(\.type) } }
}

/// What came out of a connection; written on its event loop, read by the test.
private final class Tape: Sendable {
  struct Seen {
    var buffered: [UInt8] = []
    var frames: [RawFrame] = []
    var taken = 0
    var error: TLSError?
    var exporter: [UInt8]?
    var hasEnded = false
  }
  let seen = Mutex(Seen())
}

/// Puts what arrives on record, cut into frames.
private final class FrameTap: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let tape: Tape

  init(_ tape: Tape) { self.tape = tape }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = Array(unwrapInboundIn(data).readableBytesView)
    tape.seen.withLock { seen in
      seen.buffered += bytes
      while seen.buffered.count >= 5 {
        let length = seen.buffered.prefix(4).reduce(0) { $0 << 8 | Int($1) }
        guard length >= 1, seen.buffered.count >= 4 + length else { return }
        seen.frames.append(RawFrame(type: seen.buffered[4], payload: Array(seen.buffered[5..<(4 + length)])))
        seen.buffered.removeFirst(4 + length)
      }
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent,
      let tls = try? context.pipeline.syncOperations.handler(type: TLSHandler.self),
      let exporter = try? tls.exporter(label: HelloExporter.label, length: HelloExporter.bytes)
    {
      tape.seen.withLock { $0.exporter = exporter }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let error = error as? TLSError
    tape.seen.withLock { $0.error = $0.error ?? error }
  }

  func channelInactive(context: ChannelHandlerContext) { tape.seen.withLock { $0.hasEnded = true } }
}
