import EngramTLS
import EngramWire
import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// A request as the scripted server read it.
struct SeenRequest: Sendable {
  var method: String
  var path: String
  var headers: [String: String]
  var body: [UInt8]
  /// Which connection of the server it came on, from 1.
  var connection: Int
}

/// What the server does about a request. It writes bytes by hand, so that it can misbehave.
enum Reaction: Sendable {
  case drop
  case nothing
  case send(String, thenClose: Bool = false)
  case upgrade(WebSocketScript)
}

func ok(_ body: String, status: String = "200 OK", headers: String = "") -> Reaction {
  .send("HTTP/1.1 \(status)\r\n\(headers)content-length: \(body.utf8.count)\r\n\r\n\(body)")
}

/// Listens on TLS or a Unix socket and answers by a script.
final class ScriptedServer: Sendable {
  typealias Script = @Sendable (SeenRequest) -> Reaction

  enum Transport: CaseIterable, Sendable {
    case tls, unix
  }

  let endpoint: Endpoint
  let directory: String
  private let channel: any Channel
  private let log: Log

  final class Log: Sendable {
    struct Values {
      var requests: [SeenRequest] = []
      var connections = 0
      var frames: [SeenFrame] = []
      var sentBytes = 0
      var errors: [TLSError] = []
    }
    private let values = Mutex(Values())
    func update<Result: Sendable>(_ change: (inout Values) -> Result) -> Result {
      values.withLock { change(&$0) }
    }
    var now: Values { values.withLock { $0 } }
  }

  var seen: Log.Values { log.now }

  private init(_ endpoint: Endpoint, _ directory: String, _ channel: any Channel, _ log: Log) {
    self.endpoint = endpoint
    self.directory = directory
    self.channel = channel
    self.log = log
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  static func start(
    _ transport: Transport, on group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
    _ script: @escaping Script
  ) async throws -> ScriptedServer {
    let directory = NSTemporaryDirectory() + "wire-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let log = Log()
    let box = transport == .tls ? try makeContext(in: directory) : nil
    let bootstrap = ServerBootstrap(group: group)
      .childChannelInitializer { child in
        child.eventLoop.makeCompletedFuture {
          if let box { try child.pipeline.syncOperations.addHandler(box.makeHandler()) }
          try child.pipeline.syncOperations.addHandler(ScriptHandler(script, log))
        }
      }
    switch transport {
    case .tls:
      let channel = try await bootstrap.bind(host: "127.0.0.1", port: 0).get()
      let port = channel.localAddress?.port ?? 0
      return ScriptedServer(
        .tls(host: "127.0.0.1", port: port, caFile: directory + "/ca.pem", serverName: "node.example"),
        directory, channel, log)
    case .unix:
      let channel = try await bootstrap.bind(unixDomainSocketPath: directory + "/s").get()
      return ScriptedServer(.unix(path: directory + "/s"), directory, channel, log)
    }
  }

  private static func makeContext(in directory: String) throws -> TLSContextBox {
    let authority = try CertificateAuthority.create(
      commonName: "test CA", certificatePath: directory + "/ca.pem", keyPath: directory + "/ca.key")
    let identity = TLSConfiguration.Identity(
      certificateChainPath: directory + "/leaf.pem", keyPath: directory + "/leaf.key")
    try authority.issue(
      commonName: "node", dnsNames: ["node.example"], certificatePath: identity.certificateChainPath,
      keyPath: identity.keyPath)
    return try TLSContextBox(TLSContext(.server(identity: identity, applicationProtocols: ["http/1.1"])))
  }

  func stop() async { try? await channel.close() }
}

/// Reads requests of HTTP/1.1 with `content-length` bodies, which is all that the client under test sends.
final class ScriptHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let script: ScriptedServer.Script
  private let log: ScriptedServer.Log
  private let number: Int
  private var input = ByteBuffer()
  private var webSocket: WebSocketPeer?

  init(_ script: @escaping ScriptedServer.Script, _ log: ScriptedServer.Log) {
    self.script = script
    self.log = log
    number = log.update {
      $0.connections += 1
      return $0.connections
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    input.writeImmutableBuffer(unwrapInboundIn(data))
    while webSocket == nil, let request = nextRequest() {
      log.update { $0.requests.append(request) }
      react(context, script(request), request)
    }
    webSocket?.read(context, &input)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if let error = error as? TLSError { log.update { $0.errors.append(error) } }
  }

  private func react(_ context: ChannelHandlerContext, _ reaction: Reaction, _ request: SeenRequest) {
    switch reaction {
    case .drop: Self.closeWithoutNotice(context)
    case .nothing: break
    case .send(let text, let thenClose):
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
      if thenClose { context.close(promise: nil) }
    case .upgrade(let script):
      let peer = WebSocketPeer(script, log)
      webSocket = peer
      peer.accept(context, key: request.headers["sec-websocket-key"] ?? "")
    }
  }

  /// Ends TCP below TLS, where there is TLS.
  static func closeWithoutNotice(_ context: ChannelHandlerContext) {
    let below = try? context.pipeline.syncOperations.context(handlerType: TLSHandler.self)
    (below ?? context).close(promise: nil)
  }

  private func nextRequest() -> SeenRequest? {
    let bytes = input.readableBytesView
    guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
    let lines = String(decoding: bytes[bytes.startIndex..<end.lowerBound], as: UTF8.self)
      .components(separatedBy: "\r\n")
    let words = lines[0].split(separator: " ").map(String.init)
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      headers[line[..<colon].lowercased()] =
        line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    let length = Int(headers["content-length"] ?? "0") ?? 0
    guard bytes.endIndex - end.upperBound >= length else { return nil }
    let body = Array(bytes[end.upperBound..<(end.upperBound + length)])
    input.moveReaderIndex(forwardBy: end.upperBound - bytes.startIndex + length)
    return SeenRequest(
      method: words[0], path: words[1], headers: headers, body: body, connection: number)
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
