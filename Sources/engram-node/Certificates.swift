import EngramConfig
import EngramCore
import EngramFederation
import EngramHTTP
import EngramTLS
import Foundation
import Logging

/// The two TLS contexts: the public port's, and the one we dial peers with. Both show the same certificate.
struct TLSSides: Sendable {
  let server: TLSContextBox
  let client: TLSContextBox
  private let configuration: NodeConfiguration

  init(_ configuration: NodeConfiguration, trust: TrustStore) throws(Failure) {
    self.configuration = configuration
    let identity = TLSConfiguration.Identity(
      certificateChainPath: configuration.certificatePath, keyPath: configuration.privateKeyPath)
    let federation = FederationService.applicationProtocol
    do throws(TLSSetupError) {
      server = TLSContextBox(
        try TLSContext(
          .server(
            identity: identity, applicationProtocols: [federation, Listener.httpProtocol],
            defaultProtocol: Listener.httpProtocol, clientCertificateRequired: [federation],
            verifier: trust.verifier)))
      client = TLSContextBox(
        try TLSContext(
          .client(identity: identity, applicationProtocols: [federation], verifier: trust.verifier)))
    } catch { throw Failure(error, configuration) }
  }

  /// Reads certificate and key again, for connections from now on. Both sides change, or neither.
  func reload() throws(Failure) {
    do throws(TLSSetupError) {
      let dialling = try TLSContext(client.current.configuration)
      try server.reload()
      client.replace(with: dialling)
    } catch { throw Failure(error, configuration) }
  }
}

/// How long the certificates of this node are still good.
struct CertificateWatch: Sendable {
  /// Three weeks of work, holidays included, before anybody is shut out.
  static let warningSeconds: Int64 = 30 * 86_400
  /// Between two looks at the clock: a warning a day is seen, and no disk is filled by it.
  static let checkHours: Int64 = 24

  let tls: TLSSides
  /// Of the own authority; nil where its file is not here.
  let authorityNotAfter: Int64?

  init(_ tls: TLSSides, authorityPath: String) {
    self.tls = tls
    authorityNotAfter = (try? TLSCertificate(path: authorityPath))?.notAfterSeconds
  }

  /// Seconds until each certificate runs out, negative afterwards.
  func secondsLeft(nowMs: UInt64) -> [(name: String, seconds: Int64)] {
    let now = Int64(nowMs / 1_000)
    let node = tls.server.current.certificateNotAfterSeconds
    return [("node", node), ("authority", authorityNotAfter)].compactMap { name, end in
      end.map { (name, $0 - now) }
    }
  }

  func samples(nowMs: UInt64) -> [MetricSample] {
    secondsLeft(nowMs: nowMs).map { name, seconds in
      MetricSample(
        "engram_certificate_expires_seconds", .gauge, labels: [("certificate", name)], Double(seconds))
    }
  }

  func warn(_ log: Logger, nowMs: UInt64) {
    for (name, seconds) in secondsLeft(nowMs: nowMs) where seconds < Self.warningSeconds {
      let fields: Logger.Metadata = ["certificate": "\(name)", "days": "\(seconds / 86_400)"]
      if seconds > 0 {
        log.warning("a certificate runs out soon", metadata: fields)
      } else {
        log.error("a certificate has run out", metadata: fields)
      }
    }
  }
}

extension Failure {
  /// Certificate and key of the configuration cannot be used.
  init(_ error: TLSSetupError, _ configuration: NodeConfiguration) {
    let (certificate, key) = (configuration.certificatePath, configuration.privateKeyPath)
    let (message, hint): (String, String) =
      switch error {
      case .certificateUnreadable:
        ("the certificate \(certificate) is missing or is not PEM", "see `certificate` in [node]")
      case .privateKeyUnreadable:
        ("the private key \(key) is missing, is encrypted or is not PEM", "see `private_key` in [node]")
      case .privateKeyExposed:
        ("the private key \(key) may be touched by others than its owner", "chmod 600 \(key)")
      case .keyMismatch:
        (
          "the certificate \(certificate) and the key \(key) do not belong together",
          "see `certificate` and `private_key` in [node]; `engram-node renew` issues a new pair"
        )
      default: ("the certificate or its key: \(error.sentence)", "see certificate and private_key in [node]")
      }
    self.init(.configuration, message, hint: hint)
  }
}

extension TLSSetupError {
  /// For a message: lower case, no final stop.
  var sentence: String {
    switch self {
    case .applicationProtocols, .cipherSuites, .groups: "OpenSSL does not take the settings of this version"
    case .certificateOfOtherAuthority: "the certificate was issued by another authority"
    case .certificateUnreadable: "the certificate is missing or is not PEM"
    case .fileExists: "a file is there already that is never overwritten"
    case .fileUnwritable(let code): "a file \(SystemFailure(code: code).sentence)"
    case .identityMissing: "certificate and key are missing"
    case .internalFailure: "OpenSSL failed"
    case .invalidName: "a name is neither a DNS name nor an IP address"
    case .keyMismatch: "certificate and key do not belong together"
    case .privateKeyExposed: "the private key may be touched by others than its owner"
    case .privateKeyUnreadable: "the private key is missing, is encrypted or is not PEM"
    case .trustAnchorUnreadable: "the certificate is not one of an authority"
    }
  }
}
