internal import COpenSSL
internal import NIOCore

/// Alert numbers that are chosen or recognised here, RFC 8446 section 6.
enum TLSAlert {
  static let closeNotify: UInt8 = 0
  static let userCancelled: UInt8 = 90
  static let certificateRequired: UInt8 = 116
  static let noApplicationProtocol: Int32 = 120
}

/// One `SSL` with its transport. Used on one event loop; owns what `init` made.
///
/// OpenSSL keeps errors in a queue per thread, which all connections of an event loop share: every call that
/// can fail is preceded by `ERR_clear_error`, or one connection would report another one's failure.
final class TLSSession {
  enum HandshakeStep {
    case done, failed, needsInput
  }

  enum ReadStep {
    case ended, failed, needsInput
  }

  let context: TLSContext
  let transport = BufferBIO()
  private let ssl: OpaquePointer
  private let expectedName: String?
  private var verifiedPeerName: String?
  private var refusal: PeerRefusal?
  private var alertReceived: UInt8?
  private(set) var alertSent: UInt8?

  init(context: TLSContext, serverName: String?) throws(TLSError) {
    guard let ssl = SSL_new(context.pointer) else { throw .internalFailure }
    self.context = context
    self.ssl = ssl
    self.expectedName = serverName
    guard let bio = transport.makeBIO() else { throw .internalFailure }
    SSL_set_bio(ssl, bio, bio)
    SSL_set_ex_data(ssl, Self.exDataIndex, Unmanaged.passUnretained(self).toOpaque())
    switch context.configuration.role {
    case .server: SSL_set_accept_state(ssl)
    case .client:
      SSL_set_connect_state(ssl)
      guard let serverName, !IPAddress.isLiteral(serverName) else { break }
      guard CertificateName.isDNSName(serverName), eng_SSL_set_tlsext_host_name(ssl, serverName) == 1 else {
        throw .invalidServerName
      }
    }
  }

  deinit { SSL_free(ssl) }

  /// Index 0 is the one that OpenSSL reserves for the application (`SSL_set_app_data`).
  private static let exDataIndex: Int32 = 0

  static func behind(_ ssl: OpaquePointer?) -> TLSSession? {
    guard let ssl, let data = SSL_get_ex_data(ssl, exDataIndex) else { return nil }
    return Unmanaged<TLSSession>.fromOpaque(data).takeUnretainedValue()
  }

  // MARK: - Steps

  func handshake() -> HandshakeStep {
    ERR_clear_error()
    let result = SSL_do_handshake(ssl)
    if result == 1 { return .done }
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .needsInput
    default: return .failed
    }
  }

  /// Appends all plaintext that the received records hold.
  func read(into plaintext: inout ByteBuffer) -> ReadStep {
    // Asking OpenSSL once more when nothing is left would only grow `plaintext` for an answer known here.
    while transport.inbound.readableBytes > 0 || SSL_pending(ssl) > 0 {
      ERR_clear_error()
      var count: Int32 = 0
      let room = max(Int(SSL_pending(ssl)), min(transport.inbound.readableBytes, TLSSizes.recordPayloadMax))
      plaintext.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { target in
        count = SSL_read(ssl, target.baseAddress, Int32(clamping: target.count))
        return max(0, Int(count))
      }
      if count > 0 { continue }
      switch SSL_get_error(ssl, count) {
      case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .needsInput
      case SSL_ERROR_ZERO_RETURN: return .ended
      default: return .failed
      }
    }
    return .needsInput
  }

  /// Seals all bytes into records in `transport.outbound`; false when the connection is broken.
  func write(_ plaintext: ByteBuffer) -> Bool {
    let length = plaintext.readableBytes
    if length == 0 { return true }
    let records = (length + TLSSizes.recordPayloadMax - 1) / TLSSizes.recordPayloadMax
    transport.reserveOutbound(length + records * TLSSizes.recordOverhead)
    ERR_clear_error()
    // Without partial writes, over a transport that never blocks, it is all or an error.
    return plaintext.withUnsafeReadableBytes { bytes in
      SSL_write(ssl, bytes.baseAddress, Int32(clamping: bytes.count)) == Int32(clamping: length)
    }
  }

  func sendCloseNotify() {
    ERR_clear_error()
    _ = SSL_shutdown(ssl)
  }

  // MARK: - Results

  /// What the handshake established; `nil` when the protocols do not meet.
  func connectionInfo() -> TLSConnectionInfo? {
    guard let name = selectedProtocol() ?? context.configuration.defaultProtocol else { return nil }
    let certificate = SSL_get0_peer_certificate(ssl).map(TLSCertificate.init(retaining:))
    return TLSConnectionInfo(
      applicationProtocol: name,
      cipherSuite: eng_SSL_cipher_name(ssl).map { String(cString: $0) } ?? "",
      peerDNSNames: certificate?.dnsNames ?? [],
      peerPublicKeySHA256: certificate?.publicKeySHA256,
      verifiedPeerName: verifiedPeerName,
      serverName: SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) })
  }

  private func selectedProtocol() -> String? {
    var name: UnsafePointer<UInt8>?
    var length: UInt32 = 0
    SSL_get0_alpn_selected(ssl, &name, &length)
    guard let name, length > 0 else { return nil }
    return String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
  }

  /// Keying material bound to this connection, RFC 8446 section 7.5, with an empty context.
  func exporter(label: String, length: Int) -> [UInt8]? {
    var output = [UInt8](repeating: 0, count: length)
    ERR_clear_error()
    let done = SSL_export_keying_material(ssl, &output, length, label, label.utf8.count, nil, 0, 0)
    return done == 1 ? output : nil
  }

  /// The reason of a failed handshake step.
  func handshakeFailure() -> TLSError {
    ERR_clear_error()
    if let refusal { return .peerNotTrusted(refusal) }
    if let alertReceived {
      return Int32(alertReceived) == TLSAlert.noApplicationProtocol
        ? .noApplicationProtocol : .handshakeRefused(alert: alertReceived)
    }
    if alertSent == TLSAlert.certificateRequired { return .peerCertificateMissing }
    if alertSent.map(Int32.init) == TLSAlert.noApplicationProtocol { return .noApplicationProtocol }
    return .handshakeFailed(alert: alertSent)
  }

  /// The reason of a failed read or write.
  func failure() -> TLSError {
    ERR_clear_error()
    if let alertReceived { return .alertReceived(alert: alertReceived) }
    return .protocolViolation(alert: alertSent)
  }

  // MARK: - Called back by OpenSSL

  func noteAlert(event: Int32, value: Int32) {
    guard event & SSL_CB_ALERT != 0 else { return }
    let alert = UInt8(truncatingIfNeeded: value)
    guard alert != TLSAlert.closeNotify && alert != TLSAlert.userCancelled else { return }
    if event & SSL_CB_READ != 0 { alertReceived = alert } else { alertSent = alert }
  }

  /// Asks the policy; the answer is an `X509_V_*` code, from which OpenSSL derives the alert.
  func judge(_ store: OpaquePointer) -> Int32 {
    guard let leaf = X509_STORE_CTX_get0_cert(store) else { return X509_V_ERR_UNSPECIFIED }
    let others = X509_STORE_CTX_get0_untrusted(store)
    let count = others.map { eng_sk_X509_num($0) } ?? 0
    let chain = PeerChain(
      leaf: TLSCertificate(retaining: leaf),
      intermediates: (0..<max(0, count)).compactMap { index in
        eng_sk_X509_value(others, index).map(TLSCertificate.init(retaining:))
      },
      relation: context.configuration.role == .server ? .client : .server(expected: expectedName))
    switch context.configuration.verifier(chain) {
    case .trusted(let name):
      verifiedPeerName = name
      return X509_V_OK
    case .refused(let reason):
      refusal = reason
      return reason.verificationCode
    }
  }
}

extension PeerRefusal {
  fileprivate var verificationCode: Int32 {
    switch self {
    case .ambiguousName, .nameMismatch, .nameMissing: X509_V_ERR_HOSTNAME_MISMATCH
    case .policy: X509_V_ERR_APPLICATION_VERIFICATION
    case .unknownPeer: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    // A custom verifier might carry X509_V_OK by mistake; a refusal must never read as success.
    case .untrusted(let code): code == X509_V_OK ? X509_V_ERR_APPLICATION_VERIFICATION : code
    }
  }
}
