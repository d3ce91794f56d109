internal import COpenSSL

/// A fixed set of certificate authorities, for chains of one peer or of one server.
///
/// `@unchecked Sendable`: an `X509_STORE` locks itself, and nothing is added after `init`.
public final class TrustAnchors: @unchecked Sendable {
  private let store: OpaquePointer

  /// Reads every certificate of a PEM text; at least one is needed.
  public init(pem: String) throws(TLSSetupError) {
    guard let store = X509_STORE_new() else { throw .internalFailure }
    self.store = store
    guard try Self.add(pem, to: store) > 0 else { throw .trustAnchorUnreadable }
  }

  /// Reads every certificate of a PEM file; at least one is needed.
  public convenience init(path: String) throws(TLSSetupError) {
    guard let pem = PEMFile.read(path) else { throw .trustAnchorUnreadable }
    try self.init(pem: pem)
  }

  /// The authorities that the operating system trusts.
  public init(system: Void) throws(TLSSetupError) {
    guard let store = X509_STORE_new() else { throw .internalFailure }
    self.store = store
    guard X509_STORE_set_default_paths(store) == 1 else { throw .trustAnchorUnreadable }
  }

  deinit { X509_STORE_free(store) }

  private static func add(_ pem: String, to store: OpaquePointer) throws(TLSSetupError) -> Int {
    let bytes = Array(pem.utf8)
    guard let bio = BIO_new_mem_buf(bytes, Int32(clamping: bytes.count)) else { throw .internalFailure }
    defer { BIO_free(bio) }
    // The BIO borrows the bytes, so they must outlive the loop.
    return try withExtendedLifetime(bytes) { () throws(TLSSetupError) -> Int in
      var count = 0
      while let certificate = PEM_read_bio_X509(bio, nil, PEMFile.noPassphrase, nil) {
        defer { X509_free(certificate) }
        guard X509_check_ca(certificate) != 0, X509_STORE_add_cert(store, certificate) == 1 else {
          throw .trustAnchorUnreadable
        }
        count += 1
      }
      ERR_clear_error()
      return count
    }
  }

  /// Whether the chain leads to one of these anchors, is valid now, and may be used on the peer's side of
  /// TLS. Names are not looked at.
  func verify(_ chain: PeerChain) -> PeerVerdict {
    guard let untrusted = eng_sk_X509_new(), let check = X509_STORE_CTX_new() else {
      return .refused(.untrusted(code: X509_V_ERR_OUT_OF_MEM))
    }
    defer {
      X509_STORE_CTX_free(check)
      eng_sk_X509_free(untrusted)
    }
    for certificate in chain.intermediates {
      guard eng_sk_X509_push(untrusted, certificate.pointer) > 0 else {
        return .refused(.untrusted(code: X509_V_ERR_OUT_OF_MEM))
      }
    }
    let purpose = chain.relation == .client ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER
    guard X509_STORE_CTX_init(check, store, chain.leaf.pointer, untrusted) == 1,
      X509_STORE_CTX_set_purpose(check, purpose) == 1,
      let parameters = X509_STORE_CTX_get0_param(check)
    else { return .refused(.untrusted(code: X509_V_ERR_UNSPECIFIED)) }
    X509_VERIFY_PARAM_set_depth(parameters, TLSSizes.chainDepthMax)
    X509_VERIFY_PARAM_set_auth_level(parameters, TLSSizes.authenticationLevel)
    let valid = withExtendedLifetime(chain) { X509_verify_cert(check) == 1 }
    return valid
      ? .trusted(name: nil) : .refused(.untrusted(code: X509_STORE_CTX_get_error(check)))
  }

  /// A verifier for clients of ordinary servers: the chain must lead here and the certificate must cover the
  /// host name or address that was dialled.
  public var hostVerifier: PeerVerifier {
    { chain in
      guard case .server(let expected?) = chain.relation else { return .refused(.nameMissing) }
      guard chain.leaf.covers(host: expected) else { return .refused(.nameMismatch) }
      guard case .refused(let refusal) = self.verify(chain) else { return .trusted(name: expected) }
      return .refused(refusal)
    }
  }
}
