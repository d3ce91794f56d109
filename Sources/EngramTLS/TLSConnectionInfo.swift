/// What a finished handshake established. All of it is fixed for the life of the connection.
public struct TLSConnectionInfo: Sendable, Hashable {
  /// The negotiated protocol, or `TLSConfiguration.defaultProtocol` when the peer does not negotiate.
  public let applicationProtocol: String?
  /// The name in OpenSSL's spelling, for instance `TLS_AES_128_GCM_SHA256`.
  public let cipherSuite: String
  /// DNS names in the peer's certificate, lower-case; empty without a certificate. Claims: only
  /// `verifiedPeerName` was checked against anchors.
  public let peerDNSNames: [String]
  /// SHA-256 of the peer's SubjectPublicKeyInfo, 32 bytes; `nil` without a certificate.
  public let peerPublicKeySHA256: [UInt8]?
  /// The name that the verifier proved.
  public let verifiedPeerName: String?
  /// The SNI that the client sent (RFC 6066 section 3).
  public let serverName: String?
}
