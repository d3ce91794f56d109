import EngramTLS
import Foundation
import Glibc
import Testing

@Suite("Certificate authority")
struct CertificateAuthorityTests {
  let pki: TestPKI

  init() throws { pki = try TestPKI() }

  func mode(_ name: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: pki.path(name))
    return try #require(attributes[.posixPermissions] as? Int)
  }

  @Test("openssl accepts what it issues, for both sides of TLS")
  func chain() async throws {
    try pki.authority("home")
    _ = try pki.leaf("leaf", under: "home", dns: ["Home.example", "localhost"], ip: ["127.0.0.1", "::1"])
    for purpose in ["sslserver", "sslclient"] {
      let tool = try OpenSSLTool(
        [
          "verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", "home.example", "-CAfile",
          pki.path("home.ca.pem"), pki.path("leaf.pem"),
        ], in: pki)
      #expect(await tool.prints("leaf.pem: OK"))
    }
    let text = try OpenSSLTool(["x509", "-in", pki.path("leaf.pem"), "-noout", "-text"], in: pki)
    #expect(await text.prints("DNS:home.example, DNS:localhost, IP Address:127.0.0.1"))
    #expect(text.output.contains("TLS Web Server Authentication, TLS Web Client Authentication"))
    let authority = try OpenSSLTool(["x509", "-in", pki.path("home.ca.pem"), "-noout", "-text"], in: pki)
    #expect(await authority.prints("CA:TRUE, pathlen:0"))
    #expect(authority.output.contains("Certificate Sign, CRL Sign"))
  }

  @Test("control: openssl refuses a leaf under another authority of the same name")
  func otherAuthority() async throws {
    try pki.authority("home")
    _ = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    _ = try CertificateAuthority.create(
      commonName: "home CA", certificatePath: pki.path("x.ca.pem"), keyPath: pki.path("x.ca.key"))
    let tool = try OpenSSLTool(["verify", "-CAfile", pki.path("x.ca.pem"), pki.path("leaf.pem")], in: pki)
    #expect(await tool.prints("verification failed"))
  }

  @Test("keys are for the owner alone, whatever the umask, and no temporary file stays")
  func modes() throws {
    let before = umask(0)
    defer { umask(before) }
    try pki.authority("home")
    _ = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    #expect(try mode("home.ca.key") == 0o600 && mode("leaf.key") == 0o600)
    #expect(try mode("home.ca.pem") == 0o644 && mode("leaf.pem") == 0o644)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: pki.directory).sorted()
        == ["home.ca.key", "home.ca.pem", "leaf.key", "leaf.pem"])
  }

  @Test("an authority is never overwritten, a leaf is renewed in place with a new serial and key")
  func renewal() async throws {
    try pki.authority("home")
    let key = try pki.text("home.ca.key")
    #expect(throws: TLSSetupError.fileExists) { try pki.authority("home") }
    #expect(try pki.text("home.ca.key") == key)
    _ = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    let first = try (pki.text("leaf.pem"), pki.text("leaf.key"))
    _ = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    #expect(try pki.text("leaf.pem") != first.0 && pki.text("leaf.key") != first.1)
  }

  @Test("a renewed certificate has the old names and a new life; one of another authority is not touched")
  func renewedNames() async throws {
    let home = try pki.authority("home")
    let leaf = try pki.leaf(
      "leaf", under: "home", dns: ["home.example", "localhost"], ip: ["127.0.0.1", "::1"])
    func renew(_ authority: CertificateAuthority) throws {
      try authority.renew(
        commonName: "home", adding: (dnsNames: ["New.example", "localhost"], ipAddresses: ["10.0.0.1"]),
        validDays: 7, certificatePath: leaf.certificateChainPath, keyPath: leaf.keyPath)
    }
    let before = try TLSCertificate(path: leaf.certificateChainPath)
    let other = try pki.authority("other")
    #expect(throws: TLSSetupError.certificateOfOtherAuthority) { try renew(other) }
    #expect(try TLSCertificate(path: leaf.certificateChainPath).publicKeySHA256 == before.publicKeySHA256)
    try renew(home)
    let after = try TLSCertificate(path: leaf.certificateChainPath)
    #expect(after.publicKeySHA256 != before.publicKeySHA256)
    #expect(after.dnsNames == ["home.example", "localhost", "new.example"])
    #expect(after.ipAddresses == ["127.0.0.1", "::1", "10.0.0.1"])
    let context = try TLSContext(.server(identity: leaf, applicationProtocols: ["http/1.1"]))
    #expect(context.certificateNotAfterSeconds == after.notAfterSeconds)
    let days = Double(after.notAfterSeconds) / 86_400 - Date.now.timeIntervalSince1970 / 86_400
    #expect((6.5...7.5).contains(days) && before.notAfterSeconds > after.notAfterSeconds)
    let tool = try OpenSSLTool(
      ["verify", "-x509_strict", "-CAfile", pki.path("home.ca.pem"), pki.path("leaf.pem")], in: pki)
    #expect(await tool.prints("leaf.pem: OK"))
  }

  @Test("files that do not belong together, or are not there, are refused by name")
  func mismatch() throws {
    try pki.authority("a")
    try pki.authority("b")
    let leaf = try pki.leaf("leaf", under: "a", dns: ["a.example"])
    let other = try pki.leaf("other", under: "a", dns: ["a.example"])
    func load(_ certificate: String, _ key: String) throws {
      _ = try CertificateAuthority.load(certificatePath: pki.path(certificate), keyPath: pki.path(key))
    }
    try load("a.ca.pem", "a.ca.key")
    #expect(throws: TLSSetupError.keyMismatch) { try load("a.ca.pem", "b.ca.key") }
    #expect(throws: TLSSetupError.certificateUnreadable) { try load("c.ca.pem", "a.ca.key") }
    #expect(throws: TLSSetupError.privateKeyUnreadable) { try load("a.ca.pem", "a.ca.pem") }
    #expect(throws: TLSSetupError.trustAnchorUnreadable) { try load("leaf.pem", "leaf.key") }

    func context(_ certificate: String, _ key: String) throws {
      let identity = TLSConfiguration.Identity(certificateChainPath: certificate, keyPath: key)
      _ = try TLSContext(.server(identity: identity, applicationProtocols: ["http/1.1"]))
    }
    try context(leaf.certificateChainPath, leaf.keyPath)
    #expect(throws: TLSSetupError.keyMismatch) { try context(leaf.certificateChainPath, other.keyPath) }
    #expect(throws: TLSSetupError.certificateUnreadable) { try context(pki.path("no"), leaf.keyPath) }
    #expect(throws: TLSSetupError.privateKeyUnreadable) {
      try context(leaf.certificateChainPath, pki.path("no"))
    }
  }

  @Test("a private key that others can read is refused; a certificate may be read by all")
  func exposedKeys() throws {
    try pki.authority("home")
    let leaf = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    func context() throws {
      _ = try TLSContext(.server(identity: leaf, applicationProtocols: ["http/1.1"]))
    }
    func load() throws {
      _ = try CertificateAuthority.load(
        certificatePath: pki.path("home.ca.pem"), keyPath: pki.path("home.ca.key"))
    }
    for mode: mode_t in [0o640, 0o604, 0o660, 0o601] {
      try #require(chmod(leaf.keyPath, mode) == 0 && chmod(pki.path("home.ca.key"), mode) == 0)
      #expect(throws: TLSSetupError.privateKeyExposed) { try context() }
      #expect(throws: TLSSetupError.privateKeyExposed) { try load() }
    }
    for mode: mode_t in [0o600, 0o400] {
      try #require(chmod(leaf.keyPath, mode) == 0 && chmod(pki.path("home.ca.key"), mode) == 0)
      try #require(chmod(leaf.certificateChainPath, 0o644) == 0)
      try context()
      try load()
    }
  }

  @Test("a name that could carry a second name is refused")
  func names() throws {
    let authority = try pki.authority("home")
    func issue(_ dns: [String], _ ip: [String] = [], commonName: String = "leaf") throws {
      try authority.issue(
        commonName: commonName, dnsNames: dns, ipAddresses: ip, certificatePath: pki.path("x.pem"),
        keyPath: pki.path("x.key"))
    }
    try issue(["a.example"])
    for name in ["a.example,DNS:b.example", "*.example", "", "a..example", "-a.example", "a b"] {
      #expect(throws: TLSSetupError.invalidName) { try issue([name]) }
    }
    #expect(throws: TLSSetupError.invalidName) { try issue([]) }
    #expect(throws: TLSSetupError.invalidName) { try issue([], ["127.0.0.1,DNS:b.example"]) }
    #expect(throws: TLSSetupError.invalidName) {
      try issue(["a.example"], commonName: String(repeating: "a", count: 65))
    }
  }

  @Test("settings that OpenSSL does not know are refused")
  func settings() throws {
    try pki.authority("home")
    let identity = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    let good = TLSConfiguration.server(identity: identity, applicationProtocols: ["http/1.1"])
    func refusal(_ change: (inout TLSConfiguration) -> Void) -> TLSSetupError? {
      var configuration = good
      change(&configuration)
      do { _ = try TLSContext(configuration) } catch { return error }
      return nil
    }
    #expect(refusal { _ in } == nil)
    #expect(refusal { $0.cipherSuites = "TLS_NULL" } == .cipherSuites)
    #expect(refusal { $0.groups = "P-1" } == .groups)
    #expect(refusal { $0.identity = nil } == .identityMissing)
    #expect(refusal { $0.applicationProtocols = [""] } == .applicationProtocols)
    #expect(refusal { $0.applicationProtocols = [] } == .applicationProtocols)
  }

  @Test("a reload serves the new certificate to new connections, and a failed one keeps the old")
  func reload() async throws {
    try pki.authority("home")
    let identity = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    let box = try TLSContextBox(
      TLSContext(.server(identity: identity, applicationProtocols: ["http/1.1"])))
    let listener = try await LoopbackServer.start(box)
    let anchors = try TrustAnchors(pem: pki.text("home.ca.pem"))
    func key() async throws -> [UInt8]? {
      let client = try await LoopbackClient.connect(
        port: listener.port,
        .client(applicationProtocols: ["http/1.1"], verifier: anchors.hostVerifier),
        serverName: "home.example")
      #expect(try await client.echoes("hello"))
      return try await client.channel.withTLS { $0.connectionInfo?.peerPublicKeySHA256 }
    }
    let first = try await key()
    _ = try pki.leaf("leaf", under: "home", dns: ["home.example"])
    #expect(try await key() == first, "files alone change nothing")
    try box.reload()
    let second = try await key()
    #expect(second != first)
    try FileManager.default.removeItem(atPath: identity.keyPath)
    #expect(throws: TLSSetupError.privateKeyUnreadable) { try box.reload() }
    #expect(try await key() == second)
    await listener.stop()
  }
}
