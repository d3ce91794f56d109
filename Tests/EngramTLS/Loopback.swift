import EngramTLS
import Foundation
import NIOCore
import NIOPosix
import NIOTLS
import Synchronization
import Testing

/// Certificates in a directory of their own, removed with the object.
final class TestPKI: Sendable {
  let directory: String

  init() throws {
    directory = NSTemporaryDirectory() + "tls-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  func path(_ name: String) -> String { directory + "/" + name }

  func text(_ name: String) throws -> String {
    try String(contentsOfFile: path(name), encoding: .utf8)
  }

  /// Makes the authority `NAME.ca` and returns it; its certificate is `NAME.ca.pem`.
  @discardableResult
  func authority(_ name: String) throws -> CertificateAuthority {
    try CertificateAuthority.create(
      commonName: name + " CA", certificatePath: path(name + ".ca.pem"), keyPath: path(name + ".ca.key"))
  }

  /// A leaf with these names under an authority that was made before.
  func leaf(
    _ file: String, under authority: String, dns: [String], ip: [String] = []
  ) throws -> TLSConfiguration.Identity {
    let issuer = try CertificateAuthority.load(
      certificatePath: path(authority + ".ca.pem"), keyPath: path(authority + ".ca.key"))
    try issuer.issue(
      commonName: file, dnsNames: dns, ipAddresses: ip, certificatePath: path(file + ".pem"),
      keyPath: path(file + ".key"))
    return TLSConfiguration.Identity(
      certificateChainPath: path(file + ".pem"), keyPath: path(file + ".key"))
  }
}

/// What the end of a pipeline saw, readable from the test's task.
final class Seen: Sendable {
  struct Values {
    var received: [UInt8] = []
    var receivedBytes = 0
    var errors: [TLSError] = []
    var negotiated: [String?] = []
    var inputClosed = 0
    var inactive = false
    var channel: (any Channel)?
  }

  private let values = Mutex(Values())
  func update(_ change: (inout Values) -> Void) { values.withLock { change(&$0) } }
  var now: Values { values.withLock { $0 } }
  var text: String { String(decoding: now.received, as: UTF8.self) }
}

final class Recorder: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  /// What it does with what it reads, inside `channelRead`.
  enum Reaction {
    case close, echo, none
  }

  private let seen: Seen
  private let reaction: Reaction

  init(_ seen: Seen, _ reaction: Reaction = .none) {
    self.seen = seen
    self.reaction = reaction
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let channel = context.channel
    seen.update { $0.channel = channel }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data)
    seen.update {
      $0.receivedBytes += bytes.readableBytes
      $0.received += bytes.readableBytesView
    }
    switch reaction {
    case .close: context.close(promise: nil)
    case .echo: context.writeAndFlush(wrapOutboundOut(bytes), promise: nil)
    case .none: break
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted(let name)? = event as? TLSUserEvent {
      seen.update { $0.negotiated.append(name) }
    }
    if case ChannelEvent.inputClosed? = event as? ChannelEvent { seen.update { $0.inputClosed += 1 } }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if let error = error as? TLSError { seen.update { $0.errors.append(error) } }
  }

  func channelInactive(context: ChannelHandlerContext) {
    seen.update { $0.inactive = true }
  }
}

/// A listener on an ephemeral loopback port, which records all its connections in one place.
struct LoopbackServer {
  let channel: any Channel
  let seen: Seen
  var port: Int { channel.localAddress?.port ?? 0 }

  static func start(
    _ box: TLSContextBox, limits: TLSLimits = TLSLimits(), halfClosure: Bool = false,
    reaction: Recorder.Reaction = .echo
  ) async throws -> LoopbackServer {
    let seen = Seen()
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .childChannelOption(.allowRemoteHalfClosure, value: halfClosure)
      .childChannelInitializer { child in
        child.eventLoop.makeCompletedFuture {
          try child.pipeline.syncOperations.addHandlers(
            box.makeHandler(limits: limits), Recorder(seen, reaction))
        }
      }
      .bind(host: "127.0.0.1", port: 0).get()
    return LoopbackServer(channel: channel, seen: seen)
  }

  static func start(_ configuration: TLSConfiguration) async throws -> LoopbackServer {
    try await start(TLSContextBox(TLSContext(configuration)))
  }

  func stop() async { try? await channel.close() }
}

struct LoopbackClient {
  let channel: any Channel
  let seen: Seen

  static func connect(
    port: Int, _ configuration: TLSConfiguration, serverName: String?, limits: TLSLimits = TLSLimits(),
    halfClosure: Bool = false, autoRead: Bool = true, below: (@Sendable () -> any ChannelHandler)? = nil
  ) async throws -> LoopbackClient {
    let context = try TLSContext(configuration)
    let seen = Seen()
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .channelOption(.allowRemoteHalfClosure, value: halfClosure)
      .channelOption(.autoRead, value: autoRead)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let below { try channel.pipeline.syncOperations.addHandler(below()) }
          try channel.pipeline.syncOperations.addHandlers(
            TLSHandler(context: context, serverName: serverName, limits: limits), Recorder(seen))
        }
      }
      .connect(host: "127.0.0.1", port: port).get()
    return LoopbackClient(channel: channel, seen: seen)
  }

  func send(_ text: String) async throws {
    try await channel.writeAndFlush(ByteBuffer(string: text))
  }

  /// A round trip proves that both sides accepted each other: in TLS 1.3 a client alone cannot know.
  func echoes(_ text: String) async throws -> Bool {
    channel.writeAndFlush(ByteBuffer(string: text), promise: nil)
    return await eventually { self.seen.text.contains(text) || self.seen.now.inactive }
      && seen.text.contains(text)
  }
}

extension Channel {
  /// Runs `body` with the channel's TLS handler, on its event loop.
  func withTLS<Value: Sendable>(_ body: @escaping @Sendable (TLSHandler) throws -> Value) async throws
    -> Value
  {
    try await eventLoop.submit {
      try body(self.pipeline.syncOperations.handler(type: TLSHandler.self))
    }.get()
  }

  /// Closes the transport below TLS, so that no `close_notify` is sent.
  func closeBelowTLS() async throws {
    try await eventLoop.flatSubmit {
      do {
        let context = try self.pipeline.syncOperations.context(handlerType: TLSHandler.self)
        let promise = self.eventLoop.makePromise(of: Void.self)
        context.close(mode: .all, promise: promise)
        return promise.futureResult
      } catch {
        return self.eventLoop.makeFailedFuture(error)
      }
    }.get()
  }
}

/// Polls until the condition holds, for at most 20 seconds.
func eventually(_ condition: () -> Bool) async -> Bool {
  for _ in 0..<2000 {
    if condition() { return true }
    try? await Task.sleep(for: .milliseconds(10))
  }
  return condition()
}
