internal import COpenSSL

/// One X.509 certificate as OpenSSL parsed it.
///
/// `@unchecked Sendable`: an `X509` is reference-counted with atomics and locked inside OpenSSL, and nothing
/// here changes it after it was parsed.
public final class TLSCertificate: @unchecked Sendable {
  let pointer: OpaquePointer

  /// Shares ownership with the handshake that the certificate came from.
  init(retaining pointer: OpaquePointer) {
    X509_up_ref(pointer)
    self.pointer = pointer
  }

  deinit { X509_free(pointer) }

  /// The DNS names of the subject alternative names, lower-case. Names with bytes outside printable ASCII
  /// (a NUL would end a C string early) are left out, so they match nothing.
  public var dnsNames: [String] {
    guard let raw = X509_get_ext_d2i(pointer, NID_subject_alt_name, nil, nil) else { return [] }
    let names = OpaquePointer(raw)
    defer { GENERAL_NAMES_free(names) }
    return (0..<eng_sk_GENERAL_NAME_num(names)).compactMap { index in
      guard let name = eng_sk_GENERAL_NAME_value(names, index) else { return nil }
      return Self.dnsName(UnsafePointer(name))
    }
  }

  private static func dnsName(_ name: UnsafePointer<GENERAL_NAME>) -> String? {
    var kind: Int32 = 0
    guard let value = GENERAL_NAME_get0_value(name, &kind), kind == GEN_DNS else { return nil }
    let text = value.assumingMemoryBound(to: ASN1_STRING.self)
    guard let bytes = ASN1_STRING_get0_data(text) else { return nil }
    let name = UnsafeBufferPointer(start: bytes, count: Int(ASN1_STRING_length(text)))
    guard !name.isEmpty, name.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
    return String(decoding: name, as: UTF8.self).lowercased()
  }

  /// SHA-256 of the DER SubjectPublicKeyInfo, the usual pin of a key (RFC 7469 section 2.4): 32 bytes.
  public var publicKeySHA256: [UInt8] {
    var der: UnsafeMutablePointer<UInt8>?
    let length = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(pointer), &der)
    guard length > 0, let der else { return [] }
    defer { CRYPTO_free(der, nil, 0) }
    return [UInt8](unsafeUninitializedCapacity: Int(SHA256_DIGEST_LENGTH)) { output, count in
      SHA256(der, Int(length), output.baseAddress)
      count = Int(SHA256_DIGEST_LENGTH)
    }
  }

  /// Whether the subject alternative names cover `host`: an IP address exactly, a DNS name with whole-label
  /// wildcards (RFC 6125 section 6.4). The common name is never consulted.
  public func covers(host: String) -> Bool {
    if IPAddress.isLiteral(host) {
      return X509_check_ip_asc(pointer, host, 0) == 1
    }
    let flags = UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
    return X509_check_host(pointer, host, host.utf8.count, flags, nil) == 1
  }
}

/// Tells IP addresses from DNS names, which TLS treats differently: addresses are never sent as SNI
/// (RFC 6066 section 3).
enum IPAddress {
  static func isLiteral(_ text: String) -> Bool {
    guard let parsed = a2i_IPADDRESS(text) else {
      ERR_clear_error()
      return false
    }
    ASN1_OCTET_STRING_free(parsed)
    return true
  }
}
