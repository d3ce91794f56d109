import NIOCore

/// Who may see how the node is doing without authentication: `/metrics`, and why it is not ready.
package enum MetricsAccess: Sendable {
  /// Connections from this machine.
  case local
  case off
  case open

  func admits(_ remote: SocketAddress?) -> Bool {
    switch self {
    case .local: remote.map(isLocal) ?? false
    case .off: false
    case .open: true
    }
  }
}

/// Loopback (127.0.0.0/8, ::1, and the former as an IPv4-mapped address), or a Unix socket.
func isLocal(_ address: SocketAddress) -> Bool {
  switch SourceAddress(address) {
  case .v4(let value): value >> 24 == 127
  case .v6(let high, let low): high == 0 && low == 1
  case .none: true
  }
}

/// An address as its bytes say it, port and scope left out. IPv4-mapped IPv6 addresses are IPv4 addresses.
enum SourceAddress: Hashable, Sendable {
  /// Of a Unix socket.
  case none
  case v4(UInt32)
  /// The first and the last 64 bits.
  case v6(UInt64, UInt64)

  init(_ address: SocketAddress) {
    let bytes = address.withSockAddr { Array(UnsafeRawBufferPointer(start: $0, count: $1)) }
    // `sockaddr_in` has the address behind family and port, `sockaddr_in6` behind the flow label too (ip(7),
    // ipv6(7)).
    func number(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
    switch address {
    case .v4: self = .v4(UInt32(number(4..<8)))
    case .v6:
      let (high, low) = (number(8..<16), number(16..<24))
      self = high == 0 && low >> 32 == 0xffff ? .v4(UInt32(truncatingIfNeeded: low)) : .v6(high, low)
    case .unixDomainSocket: self = .none
    }
  }

  /// Whom one allowance is for: an IPv4 address, or the /64 that one customer of a provider is given.
  var allowanceKey: SourceAddress {
    if case .v6(let high, _) = self { .v6(high, 0) } else { self }
  }
}
