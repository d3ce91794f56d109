/// Decides about a peer's certificate, on the thread of the connection, in the middle of the handshake: it
/// must be quick and must not block.
public typealias PeerVerifier = @Sendable (PeerChain) -> PeerVerdict

/// What a peer showed during a handshake, before anybody trusts it.
public struct PeerChain: Sendable {
  /// Who the peer is to us.
  public enum Relation: Sendable, Hashable {
    /// It connected to us; its names are only what its certificate says.
    case client
    /// We connected to it and expect this name: a DNS name, or an IP address in text form.
    case server(expected: String?)
  }

  public let leaf: TLSCertificate
  /// The other certificates that it sent, in its order, unchecked; may repeat the leaf.
  public let intermediates: [TLSCertificate]
  public let relation: Relation

  /// Whether the chain leads to one of these anchors, is valid now, and may be used on the peer's side of
  /// TLS.
  public func leads(to anchors: TrustAnchors) -> PeerVerdict {
    anchors.verify(self)
  }
}

/// The answer of a `PeerVerifier`.
public enum PeerVerdict: Sendable, Hashable {
  case refused(PeerRefusal)
  /// The peer is who it claims; `name` is the name that was proved, where the policy knows names.
  case trusted(name: String?)
}

/// Why a certificate was refused.
public enum PeerRefusal: Sendable, Hashable {
  /// The certificate names several peers that are configured, so it does not say which one this is.
  case ambiguousName
  /// The certificate is for other names than the one expected.
  case nameMismatch
  /// The certificate has no DNS name that could name a peer, or no name to compare with is known.
  case nameMissing
  /// A custom policy said no.
  case policy
  /// No peer of this name is configured.
  case unknownPeer
  /// The chain does not hold; the code is one of OpenSSL's `X509_V_ERR_*`.
  case untrusted(code: Int32)
}
