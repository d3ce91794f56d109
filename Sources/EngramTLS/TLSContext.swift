internal import COpenSSL

/// One `SSL_CTX`: the settings, certificate and policy that connections are made from.
///
/// `@unchecked Sendable`: the `SSL_CTX` is complete when `init` returns and is not changed afterwards;
/// OpenSSL counts its references atomically and locks what connections share.
public final class TLSContext: @unchecked Sendable {
  public let configuration: TLSConfiguration
  let pointer: OpaquePointer

  /// Reads certificate and key from their files now; later changes of the files need a new context.
  public init(_ configuration: TLSConfiguration) throws(TLSSetupError) {
    let isServer = configuration.role == .server
    guard let pointer = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else {
      throw .internalFailure
    }
    self.pointer = pointer
    self.configuration = configuration
    if isServer && configuration.identity == nil { throw .identityMissing }
    defer { ERR_clear_error() }
    try setProtocol()
    if let identity = configuration.identity { try load(identity) }
    try setApplicationProtocols()
    setVerification()
  }

  deinit { SSL_CTX_free(pointer) }

  /// When the certificate that this context shows runs out, in seconds since 1970; nil when it shows none.
  public var certificateNotAfterSeconds: Int64? {
    SSL_CTX_get0_certificate(pointer).map { TLSCertificate.seconds(X509_get0_notAfter($0)) }
  }

  private func setProtocol() throws(TLSSetupError) {
    guard eng_SSL_CTX_set_min_proto_version(pointer, TLS1_3_VERSION) == 1,
      eng_SSL_CTX_set_max_proto_version(pointer, TLS1_3_VERSION) == 1
    else { throw .internalFailure }
    let mode = SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    _ = eng_SSL_CTX_set_mode(pointer, Int(mode))
    let options =
      eng_SSL_OP_NO_TICKET | eng_SSL_OP_NO_COMPRESSION | eng_SSL_OP_CIPHER_SERVER_PREFERENCE
    _ = SSL_CTX_set_options(pointer, options)
    // No resumption: every connection proves its certificate anew, so a removed peer is out at once, and no
    // ticket key exists that could open recorded traffic.
    _ = eng_SSL_CTX_set_session_cache_mode(pointer, Int(SSL_SESS_CACHE_OFF))
    guard SSL_CTX_set_num_tickets(pointer, 0) == 1, SSL_CTX_set_max_early_data(pointer, 0) == 1 else {
      throw .internalFailure
    }
    _ = eng_SSL_CTX_set_max_cert_list(pointer, TLSSizes.certificateListBytesMax)
    guard SSL_CTX_set_ciphersuites(pointer, configuration.cipherSuites) == 1 else { throw .cipherSuites }
    guard eng_SSL_CTX_set1_groups_list(pointer, configuration.groups) == 1 else { throw .groups }
    SSL_CTX_set_info_callback(pointer) { ssl, event, value in
      TLSSession.behind(ssl)?.noteAlert(event: event, value: value)
    }
  }

  private func load(_ identity: TLSConfiguration.Identity) throws(TLSSetupError) {
    // OpenSSL's own callback would ask for a passphrase on the terminal of the process.
    SSL_CTX_set_default_passwd_cb(pointer, PEMFile.noPassphrase)
    guard SSL_CTX_use_certificate_chain_file(pointer, identity.certificateChainPath) == 1 else {
      throw .certificateUnreadable
    }
    guard SSL_CTX_use_PrivateKey_file(pointer, identity.keyPath, SSL_FILETYPE_PEM) == 1 else {
      // A key of the certificate's type that does not match it is refused by this call already.
      let mismatch = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH
      throw mismatch ? .keyMismatch : .privateKeyUnreadable
    }
    guard SSL_CTX_check_private_key(pointer) == 1 else { throw .keyMismatch }
    try PEMFile.checkPrivate(identity.keyPath)
  }

  // MARK: - Application protocols

  private func setApplicationProtocols() throws(TLSSetupError) {
    let names = configuration.applicationProtocols
    guard names.allSatisfy({ (1...255).contains($0.utf8.count) }) else { throw .applicationProtocols }
    guard !names.isEmpty || configuration.defaultProtocol != nil else { throw .applicationProtocols }
    switch configuration.role {
    case .client:
      let wire = names.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
      // Unlike its neighbours this function returns 0 when it worked.
      guard wire.isEmpty || SSL_CTX_set_alpn_protos(pointer, wire, UInt32(wire.count)) == 0 else {
        throw .applicationProtocols
      }
    case .server:
      let context = Unmanaged.passUnretained(self).toOpaque()  // sessions keep `self` alive
      SSL_CTX_set_alpn_select_cb(
        pointer,
        { ssl, output, outputLength, input, inputLength, context in
          guard let ssl, let input, let context else { return SSL_TLSEXT_ERR_ALERT_FATAL }
          let offered = UnsafeBufferPointer(start: input, count: Int(inputLength))
          let this = Unmanaged<TLSContext>.fromOpaque(context).takeUnretainedValue()
          guard let chosen = this.selectProtocol(ssl, offered: offered) else {
            return SSL_TLSEXT_ERR_ALERT_FATAL
          }
          // OpenSSL copies the name, so it may point into the client's list.
          output?.pointee = chosen.baseAddress
          outputLength?.pointee = UInt8(chosen.count)
          return SSL_TLSEXT_ERR_OK
        }, context)
      SSL_CTX_set_client_hello_cb(
        pointer,
        { ssl, alert, context in
          guard let ssl, let context else { return SSL_CLIENT_HELLO_ERROR }
          let this = Unmanaged<TLSContext>.fromOpaque(context).takeUnretainedValue()
          if this.acceptsClientHello(ssl) { return SSL_CLIENT_HELLO_SUCCESS }
          alert?.pointee = TLSAlert.noApplicationProtocol
          return SSL_CLIENT_HELLO_ERROR
        }, context)
    }
  }

  /// The first of our protocols that the client offers, as bytes inside its list.
  private func selectProtocol(
    _ ssl: OpaquePointer, offered: UnsafeBufferPointer<UInt8>
  ) -> UnsafeBufferPointer<UInt8>? {
    for name in configuration.applicationProtocols {
      var index = offered.startIndex
      while index < offered.endIndex {
        let end = index + 1 + Int(offered[index])
        guard end <= offered.endIndex else { return nil }
        let entry = UnsafeBufferPointer(rebasing: offered[(index + 1)..<end])
        if entry.elementsEqual(name.utf8) {
          askForCertificate(ssl, protocol: name)
          return entry
        }
        index = end
      }
    }
    return nil
  }

  /// OpenSSL does not call the selection for clients without ALPN, so they are judged here.
  private func acceptsClientHello(_ ssl: OpaquePointer) -> Bool {
    var data: UnsafePointer<UInt8>?
    var length = 0
    let type = UInt32(TLSEXT_TYPE_application_layer_protocol_negotiation)
    if SSL_client_hello_get0_ext(ssl, type, &data, &length) == 1 { return true }
    guard let assumed = configuration.defaultProtocol else { return false }
    askForCertificate(ssl, protocol: assumed)
    return true
  }

  private func askForCertificate(_ ssl: OpaquePointer, protocol name: String) {
    guard configuration.clientCertificateRequired.contains(name) else { return }
    SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
  }

  // MARK: - Peers

  private func setVerification() {
    // A server asks only once the protocol is known; a client always checks.
    SSL_CTX_set_verify(
      pointer, configuration.role == .client ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nil)
    SSL_CTX_set_cert_verify_callback(
      pointer,
      { store, _ in
        guard let store,
          let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
          let session = TLSSession.behind(OpaquePointer(ssl))
        else { return 0 }
        let code = session.judge(store)
        X509_STORE_CTX_set_error(store, code)
        return code == X509_V_OK ? 1 : 0
      }, nil)
  }
}
