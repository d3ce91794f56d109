import EngramCore
import EngramCrypto
import EngramFederation
import EngramTLS
import NIOCore
import NIOPosix
import NIOTLS
import Synchronization
import TestSupport
import Testing

/// A client with somebody's certificate and no manners: it speaks frames by hand.
final class Intruder: Sendable {
  struct Seen: Sendable {
    var frames: [LinkFrame] = []
    var exporter: [UInt8]?
    var isClosed = false
  }

  let channel: any Channel
  private let seen: SeenBox
  var frames: [LinkFrame] { seen.value.withLock { $0.frames } }
  var isClosed: Bool { seen.value.withLock { $0.isClosed } }

  private init(_ channel: any Channel, _ seen: SeenBox) { (self.channel, self.seen) = (channel, seen) }

  /// Connects to `target` with the certificate of `owner`, under any protocol.
  static func connect(
    to target: Organisation, as owner: Organisation?, alpn: String = FederationService.applicationProtocol
  ) async throws -> Intruder {
    let anchors = try TrustAnchors(pem: target.authorityPEM)
    let context = try TLSContext(
      .client(identity: owner?.identity, applicationProtocols: [alpn], verifier: anchors.hostVerifier))
    let seen = SeenBox()
    let name = target.name.text
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandlers([
            TLSHandler(context: context, serverName: name), ByteToMessageHandler(FrameDecoder()),
            Recorder(seen),
          ])
        }
      }
      .connect(host: "127.0.0.1", port: target.portNumber).get()
    return Intruder(channel, seen)
  }

  /// The exporter value of this connection, once TLS is up; nil when it never is.
  func exporter() async -> [UInt8]? {
    _ = await eventually { seen.value.withLock { $0.exporter != nil || $0.isClosed } }
    return seen.value.withLock { $0.exporter }
  }

  func send(_ type: FrameType, _ payload: [UInt8] = []) {
    send(bytes: Array(encodeFrame(type, payload, allocator: ByteBufferAllocator()).readableBytesView))
  }

  func send(bytes: [UInt8]) { channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }

  func received(_ type: FrameType) async -> [UInt8]? {
    _ = await eventually { isClosed || frames.contains { $0.type == type.rawValue } }
    return frames.first { $0.type == type.rawValue }.map { Array($0.payload) }
  }

  /// The reason that the other side gave when it closed.
  func dismissal() async -> ErrorCode? {
    guard let payload = await received(.goodbye) else { return nil }
    return try? GoodbyeFrame(parsing: payload[...]).code
  }

  func closed() async -> Bool { await eventually { isClosed } }

  final class SeenBox: Sendable { let value = Mutex(Seen()) }

  private final class Recorder: ChannelInboundHandler {
    typealias InboundIn = LinkFrame
    private let seen: SeenBox
    init(_ seen: SeenBox) { self.seen = seen }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      guard case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent else { return }
      let tls = try? context.pipeline.syncOperations.handler(type: TLSHandler.self)
      let exporter = try? tls?.exporter(label: HelloExporter.label, length: HelloExporter.bytes)
      seen.value.withLock { $0.exporter = exporter }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let frame = unwrapInboundIn(data)
      seen.value.withLock { $0.frames.append(frame) }
    }

    func channelInactive(context: ChannelHandlerContext) { seen.value.withLock { $0.isClosed = true } }
    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
  }
}

extension Federation {
  /// globex is pinned at acme, but no globex runs: the test plays it.
  static func acmeAlone() async throws -> Federation {
    let federation = try Federation()
    try await federation.acme.start()
    try federation.acme.federation.setPeers([federation.globex.card(port: 1)])
    return federation
  }

  func hello(adjust: (inout HelloBody) -> Void = { _ in }) -> HelloBody {
    let (acme, globex) = (acme.test, globex.test)
    var body = HelloBody(
      role: .dialler, name: globex.name, nodeID: globex.id, peerName: acme.name, peerNodeID: acme.id,
      nowMs: clock.nowMs(), epoch: 5, throughEpoch: 0, through: 0, window: 100)
    adjust(&body)
    return body
  }

  /// A connection of "globex" that is through its hello.
  func admitted() async throws -> Intruder {
    let intruder = try await Intruder.connect(to: acme, as: globex)
    let exporter = try #require(await intruder.exporter())
    intruder.send(.hello, signHello(hello(), exporter: exporter, key: globex.test.key))
    #expect(await intruder.received(.hello) != nil)
    return intruder
  }
}
