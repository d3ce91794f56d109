import EngramTLS
import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// A request as bytes, so that a test can also send what no client library would.
struct RawRequest {
  var method: String
  var path: String
  var headers: [(String, String)]
  var body: [UInt8]

  static func get(_ path: String, bearer: String? = nil, headers: [(String, String)] = []) -> RawRequest {
    RawRequest(method: "GET", path: path, headers: authorization(bearer) + headers, body: [])
  }

  static func post(
    _ path: String, _ type: String? = nil, _ body: [UInt8] = [], bearer: String? = nil,
    headers: [(String, String)] = []
  ) -> RawRequest {
    let all = authorization(bearer) + (type.map { [("content-type", $0)] } ?? []) + headers
    return RawRequest(
      method: "POST", path: path, headers: all + [("content-length", "\(body.count)")], body: body)
  }

  private static func authorization(_ bearer: String?) -> [(String, String)] {
    bearer.map { [("authorization", "Bearer \($0)")] } ?? []
  }

  var bytes: [UInt8] {
    let fields = ([("host", "localhost")] + headers).map { "\($0.0): \($0.1)\r\n" }.joined()
    return Array("\(method) \(path) HTTP/1.1\r\n\(fields)\r\n".utf8) + body
  }
}

struct RawResponse {
  var status: Int
  var headers: [String: String]
  var body: [UInt8]

  var text: String { String(decoding: body, as: UTF8.self) }
  var json: [String: Any] {
    (try? JSONSerialization.jsonObject(with: Data(body)) as? [String: Any]) ?? [:]
  }
  /// The number in a problem document.
  var code: Int? { json["code"] as? Int }
}

enum RawError: Error {
  case closed, timedOut, malformed
}

/// A client that speaks bytes over TLS, or over a Unix socket without.
final class RawConnection: Sendable {
  let channel: any Channel
  private let inbox: Inbox

  private init(channel: any Channel, inbox: Inbox) { (self.channel, self.inbox) = (channel, inbox) }

  static func open(
    port: Int, group: any EventLoopGroup, authority: TrustAnchors, alpn: [String]
  ) async throws -> RawConnection {
    let inbox = Inbox()
    let context = try TLSContext(.client(applicationProtocols: alpn, verifier: authority.hostVerifier))
    let channel = try await ClientBootstrap(group: group).channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandlers([
          Scissors(), TLSHandler(context: context, serverName: "localhost"), InboxHandler(inbox),
        ])
      }
    }.connect(host: "127.0.0.1", port: port).get()
    return RawConnection(channel: channel, inbox: inbox)
  }

  static func open(path: String, group: any EventLoopGroup) async throws -> RawConnection {
    let inbox = Inbox()
    let channel = try await ClientBootstrap(group: group).channelInitializer { channel in
      channel.eventLoop.makeCompletedFuture {
        try channel.pipeline.syncOperations.addHandler(InboxHandler(inbox))
      }
    }.connect(unixDomainSocketPath: path).get()
    return RawConnection(channel: channel, inbox: inbox)
  }

  func send(_ bytes: some Sequence<UInt8> & Sendable) async throws {
    try await channel.writeAndFlush(ByteBuffer(bytes: bytes)).get()
  }

  func send(_ text: String) async throws { try await send(Array(text.utf8)) }

  func ask(_ request: RawRequest) async throws -> RawResponse {
    try await send(request.bytes)
    return try await response()
  }

  /// The next final response.
  func response() async throws -> RawResponse {
    while true {
      let head = String(decoding: try await inbox.take { $0.endOfHeader }, as: UTF8.self)
      var lines = head.components(separatedBy: "\r\n").filter { !$0.isEmpty }
      let status = lines.removeFirst().split(separator: " ")
      guard status.count >= 2, status[0] == "HTTP/1.1", let code = Int(status[1]) else {
        throw RawError.malformed
      }
      var headers: [String: String] = [:]
      for line in lines {
        let parts = line.split(separator: ":", maxSplits: 1)
        guard parts.count == 2 else { throw RawError.malformed }
        headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
      }
      if code == 100 { continue }
      let length = headers["content-length"].flatMap { Int($0) } ?? 0
      let body = try await inbox.take { $0.count >= length ? length : nil }
      return RawResponse(status: code, headers: headers, body: body)
    }
  }

  func take(_ count: Int) async throws -> [UInt8] { try await inbox.take { $0.count >= count ? count : nil } }

  /// Returns once the other side ended the connection; what it still sent is thrown away.
  func ended() async throws {
    do { while true { _ = try await inbox.take { $0.isEmpty ? nil : $0.count } } } catch RawError.closed {}
  }

  /// Ends the transport under TLS, without a word.
  func cut() { channel.triggerUserOutboundEvent(Scissors.Cut(), promise: nil) }

  func close() async throws {
    channel.close(promise: nil)
    try await ended()
  }
}

/// Bytes that came in, for one reader.
final class Inbox: Sendable {
  private struct State {
    var bytes: [UInt8] = []
    var isClosed = false
    var waiter: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())

  func add(_ bytes: ByteBuffer) { update { $0.bytes.append(contentsOf: bytes.readableBytesView) } }
  func close() { update { $0.isClosed = true } }

  private func update(_ change: (inout State) -> Void) {
    let waiter = state.withLock { state in
      change(&state)
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// Removes as many bytes from the front as `enough` says once it says so.
  func take(_ enough: @Sendable ([UInt8]) -> Int?) async throws -> [UInt8] {
    let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .seconds(30)) {
      self.update { $0.isClosed = true }
    }
    defer { timer.cancel() }
    while true {
      let found = state.withLock { state -> (bytes: [UInt8]?, isClosed: Bool) in
        guard let count = enough(state.bytes) else { return (nil, state.isClosed) }
        defer { state.bytes.removeFirst(count) }
        return (Array(state.bytes.prefix(count)), false)
      }
      if let bytes = found.bytes { return bytes }
      if found.isClosed { throw RawError.closed }
      await withCheckedContinuation { continuation in
        let isReady = state.withLock { state in
          if state.isClosed || enough(state.bytes) != nil { return true }
          state.waiter = continuation
          return false
        }
        if isReady { continuation.resume() }
      }
    }
  }
}

/// Below TLS, where closing is only closing.
private final class Scissors: ChannelOutboundHandler {
  typealias OutboundIn = ByteBuffer
  struct Cut: Sendable {}
  func triggerUserOutboundEvent(context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?)
  {
    guard event is Cut else { return context.triggerUserOutboundEvent(event, promise: promise) }
    context.close(promise: promise)
  }
}

private final class InboxHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  private let inbox: Inbox
  init(_ inbox: Inbox) { self.inbox = inbox }
  func channelRead(context: ChannelHandlerContext, data: NIOAny) { inbox.add(unwrapInboundIn(data)) }
  func channelInactive(context: ChannelHandlerContext) { inbox.close() }
  func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}

extension [UInt8] {
  fileprivate var endOfHeader: Int? {
    guard count >= 4 else { return nil }
    for index in 0...(count - 4)
    where self[index] == 13 && self[index + 1] == 10 && self[index + 2] == 13 && self[index + 3] == 10 {
      return index + 4
    }
    return nil
  }
}
