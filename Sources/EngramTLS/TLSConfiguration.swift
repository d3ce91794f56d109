/// What a `TLSContext` is made of. Always TLS 1.3, never with tickets, session cache or early data.
public struct TLSConfiguration: Sendable {
  /// Which end of the handshake this is.
  public enum Role: Sendable {
    case client, server
  }

  /// A certificate and its private key, both PEM files.
  public struct Identity: Sendable, Hashable {
    /// Leaf first, then intermediates.
    public var certificateChainPath: String
    /// Unencrypted PKCS#8 or SEC 1.
    public var keyPath: String

    /// Names the two files; they are read when a context is made.
    public init(certificateChainPath: String, keyPath: String) {
      self.certificateChainPath = certificateChainPath
      self.keyPath = keyPath
    }
  }

  public var role: Role
  public var identity: Identity?

  /// Protocols in order of preference. The server's order decides.
  public var applicationProtocols: [String]

  /// What a peer that does not negotiate ALPN is taken to speak; without it such a peer is refused with
  /// `no_application_protocol`.
  public var defaultProtocol: String?

  /// Protocols whose clients must show a certificate that `verifier` trusts. Clients of others are not asked.
  public var clientCertificateRequired: Set<String> = []

  /// AES-GCM first: with hardware AES it is about twice as fast as ChaCha20 here.
  public var cipherSuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

  public var groups = "X25519:P-256"

  /// Decides about the certificate that a peer shows.
  public var verifier: PeerVerifier

  /// A server that asks for client certificates only under the protocols of `clientCertificateRequired`.
  public static func server(
    identity: Identity, applicationProtocols: [String], defaultProtocol: String? = nil,
    clientCertificateRequired: Set<String> = [],
    verifier: @escaping PeerVerifier = { _ in .refused(.policy) }
  ) -> TLSConfiguration {
    TLSConfiguration(
      role: .server, identity: identity, applicationProtocols: applicationProtocols,
      defaultProtocol: defaultProtocol, clientCertificateRequired: clientCertificateRequired,
      verifier: verifier)
  }

  /// A client; without `identity` it shows no certificate.
  public static func client(
    identity: Identity? = nil, applicationProtocols: [String], defaultProtocol: String? = nil,
    verifier: @escaping PeerVerifier
  ) -> TLSConfiguration {
    TLSConfiguration(
      role: .client, identity: identity, applicationProtocols: applicationProtocols,
      defaultProtocol: defaultProtocol, verifier: verifier)
  }
}
