/// One request to the home node.
struct NodeRequest: Sendable {
  var method: String
  var path: String
  var headers: [(name: String, value: String)] = []
  var body: [UInt8] = []

  init(_ method: String, _ path: String, contentType: String? = nil, body: [UInt8] = []) {
    (self.method, self.path, self.body) = (method, path, body)
    if let contentType { headers.append(("content-type", contentType)) }
  }
}

struct NodeReply: Sendable {
  var status: Int
  var body: [UInt8]
}

/// An open WebSocket: binary messages both ways.
struct RealtimeSocket: Sendable {
  var send: @Sendable ([UInt8]) async throws -> Void
  var messages: AsyncStream<[UInt8]>
  var close: @Sendable () async -> Void
}

/// How requests travel: over TLS (`NodeTransport.tls`), or inside one process in tests. Throws `EngramError`
/// when no answer came.
struct NodeTransport: Sendable {
  var exchange: @Sendable (NodeRequest) async throws -> NodeReply
  /// Opens the WebSocket; an HTTP answer other than the upgrade comes back as `declined`.
  var realtime: @Sendable (NodeRequest) async throws -> RealtimeOpening
  var close: @Sendable () async -> Void

  enum RealtimeOpening: Sendable {
    case declined(NodeReply)
    case open(RealtimeSocket)
  }
}
