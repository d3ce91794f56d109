internal import COpenSSL

/// A private certificate authority for one organisation: a P-256 key and a self-signed certificate.
///
/// Not `Sendable`: it is made, used and dropped by one task of an administrator.
public final class CertificateAuthority {
  private let certificate: OpaquePointer
  private let key: OpaquePointer

  private init(owning certificate: OpaquePointer, key: OpaquePointer) {
    self.certificate = certificate
    self.key = key
  }

  deinit {
    X509_free(certificate)
    EVP_PKEY_free(key)
  }

  /// Makes a new authority and writes both files, the key with mode 0600. Never overwrites: losing an
  /// authority's key means new certificates for everybody who trusts it.
  public static func create(
    commonName: String, certificatePath: String, keyPath: String
  ) throws(TLSSetupError) -> CertificateAuthority {
    guard CertificateName.isCommonName(commonName) else { throw .invalidName }
    let key = try makeKey()
    guard let certificate = X509_new() else {
      EVP_PKEY_free(key)
      throw .internalFailure
    }
    let authority = CertificateAuthority(owning: certificate, key: key)
    try authority.fill(
      certificate, key: key, commonName: commonName, validDays: CertificateLimits.authorityDays)
    try authority.add(
      [
        (NID_basic_constraints, "critical,CA:TRUE,pathlen:0"),
        (NID_key_usage, "critical,keyCertSign,cRLSign"),
        (NID_subject_key_identifier, "hash"),
      ], to: certificate)
    try authority.sign(certificate)
    try PEMFile.write(key: key, to: keyPath, replacing: false)
    try PEMFile.write(certificates: [certificate], to: certificatePath, replacing: false)
    return authority
  }

  /// Reads an authority that was made before.
  public static func load(
    certificatePath: String, keyPath: String
  ) throws(TLSSetupError) -> CertificateAuthority {
    defer { ERR_clear_error() }
    guard let certificateFile = BIO_new_file(certificatePath, "r") else { throw .certificateUnreadable }
    defer { BIO_free(certificateFile) }
    guard let certificate = PEM_read_bio_X509(certificateFile, nil, PEMFile.noPassphrase, nil) else {
      throw .certificateUnreadable
    }
    guard let keyFile = BIO_new_file(keyPath, "r") else {
      X509_free(certificate)
      throw .privateKeyUnreadable
    }
    defer { BIO_free(keyFile) }
    guard let key = PEM_read_bio_PrivateKey(keyFile, nil, PEMFile.noPassphrase, nil) else {
      X509_free(certificate)
      throw .privateKeyUnreadable
    }
    let authority = CertificateAuthority(owning: certificate, key: key)
    guard X509_check_private_key(certificate, key) == 1 else { throw .keyMismatch }
    guard X509_check_ca(certificate) == 1 else { throw .trustAnchorUnreadable }
    try PEMFile.checkPrivate(keyPath)
    return authority
  }

  /// Issues a certificate for both sides of TLS with a key of its own, replacing the files if they exist.
  /// `certificatePath` receives the leaf alone: peers hold the authority itself.
  public func issue(
    commonName: String, dnsNames: [String], ipAddresses: [String] = [],
    validDays: Int = CertificateLimits.leafDays, certificatePath: String, keyPath: String
  ) throws(TLSSetupError) {
    guard CertificateName.isCommonName(commonName), !(dnsNames.isEmpty && ipAddresses.isEmpty),
      dnsNames.allSatisfy(CertificateName.isDNSName), ipAddresses.allSatisfy(IPAddress.isLiteral)
    else { throw .invalidName }
    let leafKey = try Self.makeKey()
    defer { EVP_PKEY_free(leafKey) }
    guard let leaf = X509_new() else { throw .internalFailure }
    defer { X509_free(leaf) }
    try fill(leaf, key: leafKey, commonName: commonName, validDays: validDays)
    // The names were checked above: none holds a comma, which would start another entry here.
    let names = dnsNames.map { "DNS:" + $0.lowercased() } + ipAddresses.map { "IP:" + $0 }
    try add(
      [
        (NID_basic_constraints, "critical,CA:FALSE"),
        (NID_key_usage, "critical,digitalSignature"),
        (NID_ext_key_usage, "serverAuth,clientAuth"),
        (NID_subject_key_identifier, "hash"),
        (NID_authority_key_identifier, "keyid:always"),
        (NID_subject_alt_name, names.joined(separator: ",")),
      ], to: leaf)
    try sign(leaf)
    try PEMFile.write(key: leafKey, to: keyPath, replacing: true)
    try PEMFile.write(certificates: [leaf], to: certificatePath, replacing: true)
  }

  /// Issues a certificate in place of the one at `certificatePath`: the same names and `more`, a new key, a
  /// new life time. Both files are replaced.
  /// - Throws: `certificateOfOtherAuthority` when this authority did not issue the one that is there.
  public func renew(
    commonName: String, adding more: (dnsNames: [String], ipAddresses: [String]) = ([], []),
    validDays: Int = CertificateLimits.leafDays, certificatePath: String, keyPath: String
  ) throws(TLSSetupError) {
    let old = try TLSCertificate(path: certificatePath)
    guard X509_verify(old.pointer, key) == 1 else {
      ERR_clear_error()
      throw .certificateOfOtherAuthority
    }
    func adding(_ more: [String], to names: [String]) -> [String] {
      names + more.filter { !names.contains($0) }
    }
    try issue(
      commonName: commonName, dnsNames: adding(more.dnsNames.map { $0.lowercased() }, to: old.dnsNames),
      ipAddresses: adding(more.ipAddresses, to: old.ipAddresses), validDays: validDays,
      certificatePath: certificatePath, keyPath: keyPath)
  }

  /// Whether `issue` takes this as a DNS name or an IP address, so that a caller can ask before it begins.
  public static func accepts(name: String) -> Bool {
    CertificateName.isDNSName(name) || IPAddress.isLiteral(name)
  }

  // MARK: - Parts

  private static func makeKey() throws(TLSSetupError) -> OpaquePointer {
    guard let key = eng_EVP_EC_gen("P-256") else { throw .internalFailure }
    return key
  }

  private func fill(
    _ subject: OpaquePointer, key: OpaquePointer, commonName: String, validDays: Int
  ) throws(TLSSetupError) {
    guard let name = X509_get_subject_name(subject), let issuer = X509_get_subject_name(certificate),
      X509_set_version(subject, Int(X509_VERSION_3)) == 1,
      X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_FLAG, commonName, -1, -1, 0) == 1,
      X509_set_issuer_name(subject, issuer) == 1,
      X509_set_pubkey(subject, key) == 1,
      X509_gmtime_adj(X509_getm_notBefore(subject), -CertificateLimits.backdatedSeconds) != nil,
      X509_time_adj_ex(X509_getm_notAfter(subject), Int32(clamping: validDays), 0, nil) != nil
    else { throw .internalFailure }
    try setSerial(subject)
  }

  /// 128 random bits: unpredictable, unique without a counter, and within the 20 bytes of RFC 5280 section
  /// 4.1.2.2.
  private func setSerial(_ subject: OpaquePointer) throws(TLSSetupError) {
    guard let number = BN_new() else { throw .internalFailure }
    defer { BN_free(number) }
    guard BN_rand(number, 128, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1,
      BN_to_ASN1_INTEGER(number, X509_get_serialNumber(subject)) != nil
    else { throw .internalFailure }
  }

  private func add(
    _ extensions: [(Int32, String)], to subject: OpaquePointer
  ) throws(TLSSetupError) {
    var context = X509V3_CTX()
    eng_X509V3_set_ctx(&context, certificate, subject)
    for (kind, value) in extensions {
      guard let made = X509V3_EXT_conf_nid(nil, &context, kind, value) else { throw .internalFailure }
      defer { X509_EXTENSION_free(made) }
      guard X509_add_ext(subject, made, -1) == 1 else { throw .internalFailure }
    }
  }

  private func sign(_ subject: OpaquePointer) throws(TLSSetupError) {
    guard X509_sign(subject, key, EVP_sha256()) > 0 else { throw .internalFailure }
  }
}

/// Life times of certificates.
public enum CertificateLimits {
  /// Ten years: replacing an authority means asking every peer to change its configuration.
  public static let authorityDays = 3650

  /// A year. Renewal is one command and needs no restart, so an operator may well choose less.
  public static let leafDays = 365

  /// The longest that `issue` should be asked for: 398 days is what browsers accept, and a year and a bit is
  /// as long as anybody remembers how it was done.
  public static let leafDaysMax = 398

  /// Certificates start five minutes in the past, for peers whose clocks are a little behind.
  static let backdatedSeconds = 300
}
