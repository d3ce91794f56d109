internal import COpenSSL
internal import Glibc

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

  /// Reads the first certificate of a PEM file.
  /// - Throws: `certificateUnreadable`.
  public init(path: String) throws(TLSSetupError) {
    defer { ERR_clear_error() }
    guard let file = BIO_new_file(path, "r") else { throw .certificateUnreadable }
    defer { BIO_free(file) }
    guard let certificate = PEM_read_bio_X509(file, nil, PEMFile.noPassphrase, nil) else {
      throw .certificateUnreadable
    }
    pointer = certificate
  }

  deinit { X509_free(pointer) }

  /// When it runs out, in seconds since 1970 (RFC 5280 section 4.1.2.5); the past for a date beyond `time_t`.
  public var notAfterSeconds: Int64 { Self.seconds(X509_get0_notAfter(pointer)) }

  static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
    var parts = tm()
    guard ASN1_TIME_to_tm(time, &parts) == 1 else { return 0 }
    return Int64(timegm(&parts))
  }

  /// The IP addresses of the subject alternative names, as text.
  public var ipAddresses: [String] {
    alternativeNames { name in
      var kind: Int32 = 0
      guard let value = GENERAL_NAME_get0_value(name, &kind), kind == GEN_IPADD else { return nil }
      let octets = value.assumingMemoryBound(to: ASN1_OCTET_STRING.self)
      guard let bytes = ASN1_STRING_get0_data(octets) else { return nil }
      let family: Int32
      switch ASN1_STRING_length(octets) {
      case 4: family = AF_INET
      case 16: family = AF_INET6
      default: return nil
      }
      var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
      guard inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else { return nil }
      return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
  }

  /// The DNS names of the subject alternative names, lower-case. Names with bytes outside printable ASCII
  /// (a NUL would end a C string early) are left out, so they match nothing.
  public var dnsNames: [String] { alternativeNames(Self.dnsName) }

  private func alternativeNames(_ text: (UnsafePointer<GENERAL_NAME>) -> String?) -> [String] {
    guard let raw = X509_get_ext_d2i(pointer, NID_subject_alt_name, nil, nil) else { return [] }
    let names = OpaquePointer(raw)
    defer { GENERAL_NAMES_free(names) }
    return (0..<eng_sk_GENERAL_NAME_num(names)).compactMap { index in
      eng_sk_GENERAL_NAME_value(names, index).flatMap { text(UnsafePointer($0)) }
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
