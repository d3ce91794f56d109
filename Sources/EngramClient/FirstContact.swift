internal import EngramClientStore

/// The node that a home without an account is to speak to, and who vouches for it.
struct FirstContact: Sendable {
  /// `HOST:PORT`, as it was given.
  let endpoint: String
  /// The name in the node's certificate.
  let serverName: String
  /// PEM text of the authority, for the home to keep.
  let authority: [UInt8]
  let transport: NodeTransport

  /// - Parameter name: the name in the node's certificate where that is not HOST.
  init(_ node: String, caFile: String, name: String?) throws {
    let place = try HostPort(node)
    do { authority = try readFile(caFile, maxBytes: 1 << 20) } catch {
      throw EngramError(
        .badInput, name: "ca-file", "the CA file cannot be read", hint: "check the path given to --ca")
    }
    (endpoint, serverName) = (node, name ?? place.host)
    transport = try NodeTransport.tls(
      host: place.host, port: place.port, serverName: serverName, caFile: caFile)
  }
}
