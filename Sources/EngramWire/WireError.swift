package import EngramTLS
internal import Glibc
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOWebSocket

/// Why no answer came. An answer with an error status is an answer, never one of these.
package enum WireError: Error, Sendable, Hashable {
  /// The task that waited was cancelled.
  case cancelled
  /// The connection ended before the answer was complete, or this client was closed.
  case closed
  /// Our caller gave a path, method, header or endpoint that cannot be sent.
  case invalidRequest
  /// Too many requests wait for a connection already.
  case overloaded(limitRequests: Int)
  /// The peer does not keep to HTTP/1.1 (RFC 9112) or WebSocket (RFC 6455).
  case protocolViolation
  /// Nobody listens at the endpoint, or there is no such socket file.
  case refused
  /// Nothing came back in time.
  case timeout
  /// TLS refused the peer, was refused by it, or saw the stream end early.
  case tls(TLSError)
  /// The endpoint's certificate authority cannot be used.
  case tlsSetup(TLSSetupError)
  /// A response or message is larger than the limit.
  case tooLarge(limitBytes: Int)
  /// The host has no address, or no route leads there.
  case unreachable
}

extension WireError {
  /// Whether the peer just went away, with or without TLS's farewell.
  var isEndOfConnection: Bool {
    self == .closed || self == .tls(.truncated)
  }

  /// The case for an error of the layers below; `other` for those that say nothing by themselves.
  init(_ error: any Error, other: WireError = .closed) {
    self =
      switch error {
      case let error as WireError: error
      case let error as TLSError: .tls(error)
      case let error as TLSSetupError: .tlsSetup(error)
      case let error as NIOConnectionError: Self.attempts(error)
      case let error as IOError: Self.system(error.errnoCode, other)
      case ChannelError.connectTimeout: .timeout
      case is CancellationError: .cancelled
      case is HTTPParserError, is NIOHTTPClientUpgradeError, is NIOWebSocketError:
        .protocolViolation
      default: other
      }
  }

  /// A name may have several addresses: a refusal is the most telling of their failures.
  private static func attempts(_ error: NIOConnectionError) -> WireError {
    let attempts = error.connectionErrors.map { WireError($0.error, other: .unreachable) }
    return [.refused, .timeout].first(where: attempts.contains) ?? .unreachable
  }

  private static func system(_ code: CInt, _ other: WireError) -> WireError {
    switch code {
    case ECONNREFUSED, ENOENT: .refused
    case EHOSTUNREACH, ENETUNREACH, EACCES, EADDRNOTAVAIL: .unreachable
    case ETIMEDOUT: .timeout
    default: other
    }
  }
}
