/// Bounds of a client; every one can be set per client.
package struct WireLimits: Sendable {
  /// For the TCP or Unix connection, and again for the TLS handshake. A dead address is noticed in ten
  /// seconds; three SYN retransmissions fit in.
  package var connectTimeout: Duration = .seconds(10)

  /// From `send` to the last byte of the response, waiting for a connection included. Long polls of 20 s fit
  /// in.
  package var requestTimeout: Duration = .seconds(30)

  /// Connections of one client at a time. HTTP/1.1 carries one request per connection; eight keep a node's
  /// commit loop busy without one client taking many of its slots.
  package var connectionsMax = 8

  /// Requests that wait for a connection; more are refused at once instead of timing out later.
  package var waitingMax = 1024

  /// An unused connection is closed after a minute, before most servers and middle boxes forget it.
  package var idleTimeout: Duration = .seconds(60)

  /// Body bytes of one response, held in memory as a whole.
  package var responseBytesMax = 64 << 20

  /// Payload bytes of one WebSocket message, sent or received: two envelopes of the largest size.
  package var messageBytesMax = 32 << 20

  /// Bytes of messages that wait for their reader before the socket is no longer read. One more message of
  /// any permitted size may be on top.
  package var inboxBytesMax = 1 << 20

  /// A WebSocket that heard nothing for this long sends a ping, and ends when the next interval is silent
  /// too.
  package var pingInterval: Duration = .seconds(20)

  /// From our close frame to the peer's answer.
  package var closeTimeout: Duration = .seconds(2)

  /// The limits as documented on each property.
  package init() {}
}
