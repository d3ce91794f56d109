/// Where a server listens.
package enum Endpoint: Sendable, Hashable {
  /// TLS 1.3 over TCP. The certificate must cover `serverName`, or `host` where that is `nil`, under the
  /// authorities of `caFile` (PEM), or of the operating system where that is `nil`.
  case tls(host: String, port: Int, caFile: String?, serverName: String? = nil)
  /// A Unix domain socket; the file system decides who may connect.
  case unix(path: String)

  /// The value of the `Host` header, RFC 9110 section 7.2.
  var authority: String {
    switch self {
    case .tls(let host, let port, _, let serverName):
      let name = serverName ?? host
      let bracketed = name.contains(":") ? "[\(name)]" : name
      return port == 443 ? bracketed : "\(bracketed):\(port)"
    case .unix: return "localhost"
    }
  }
}
