import ArgumentParser
import EngramConfig
import EngramCore
import EngramTLS
import Foundation

struct RenewCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "renew",
    abstract: "Issue the node's TLS certificate anew, under the organisation's own authority.",
    discussion: """
      Replaces certificate and key by a new pair with the same names. Peers and clients trust the authority, \
      so they notice nothing. A running node goes on with the old certificate until it is told to read the \
      new one, which it then uses for new connections; no restart is needed.

      Examples:
        engram-node renew --config federation.toml && systemctl reload engram-node
        engram-node renew --config federation.toml && kill -HUP PID

      It needs the authority's key, ca.key beside ca.pem. Where that is kept off the machine, bring it back \
      for as long as this takes, or name it with --ca-key. A certificate that somebody else issued is not \
      touched.
      """)

  @OptionGroup var source: ConfigurationOption

  @Option(
    help: ArgumentHelp("The authority's key, when it is not ca.key beside ca.pem.", valueName: "file"),
    completion: .file())
  var caKey: String?

  @Option(
    help: ArgumentHelp(
      "Days until the new certificate runs out, 1 to \(CertificateLimits.leafDaysMax).", valueName: "count"))
  var days = CertificateLimits.leafDays

  @Option(
    name: .customLong("san"),
    help: ArgumentHelp(
      "A further DNS name or IP address for the certificate; those of the old one stay.", valueName: "name"))
  var alternativeNames: [String] = []

  @Flag(help: "Print the result as JSON.")
  var json = false

  private struct Report: Encodable {
    var certificate: String
    var dnsNames: [String]
    var ipAddresses: [String]
    var notAfterMs: UInt64
  }

  func run() async throws {
    try await reporting {
      guard (1...CertificateLimits.leafDaysMax).contains(days) else {
        throw Failure(.usage, "--days is 1 to \(CertificateLimits.leafDaysMax)")
      }
      guard alternativeNames.allSatisfy(CertificateAuthority.accepts) else {
        throw Failure(.usage, "--san: this is neither a DNS name nor an IP address")
      }
      umask(0o077)
      let configuration = try source.load()
      try renew(configuration)
      let fresh = try TLSCertificate(path: configuration.certificatePath)
      let report = Report(
        certificate: configuration.certificatePath, dnsNames: fresh.dnsNames, ipAddresses: fresh.ipAddresses,
        notAfterMs: UInt64(max(0, fresh.notAfterSeconds)) * 1_000)
      if json { return printJSON(report) }
      let names = (report.dnsNames + report.ipAddresses).joined(separator: ", ")
      print("renewed \(report.certificate)\n  names  \(names)")
      print("  until  \(timeText(report.notAfterMs))")
      print("next: systemctl reload engram-node, or kill -HUP of the process; without either it is used from")
      print("      the next start")
    }
  }

  private func renew(_ configuration: NodeConfiguration) throws(Failure) {
    let folder = (configuration.authorityPath as NSString).deletingLastPathComponent
    let keyPath = caKey ?? (folder as NSString).appendingPathComponent("ca.key")
    guard FileManager.default.fileExists(atPath: keyPath) else {
      throw Failure(
        .configuration, "the authority's key \(keyPath) does not exist",
        hint: "bring it back from where it is kept, or name it with --ca-key")
    }
    do throws(TLSSetupError) {
      let authority = try CertificateAuthority.load(
        certificatePath: configuration.authorityPath, keyPath: keyPath)
      let addresses = alternativeNames.filter(isAddress)
      try authority.renew(
        commonName: commonName(configuration.name.text, or: "engram-node"),
        adding: (
          dnsNames: [configuration.name.text] + alternativeNames.filter { !isAddress($0) },
          ipAddresses: addresses
        ), validDays: days, certificatePath: configuration.certificatePath,
        keyPath: configuration.privateKeyPath)
    } catch {
      switch error {
      case .certificateOfOtherAuthority:
        throw Failure(
          .configuration,
          "\(configuration.certificatePath) was not issued by the authority \(configuration.authorityPath)",
          hint: "renew it where it comes from, then `systemctl reload engram-node`")
      case .keyMismatch, .privateKeyUnreadable, .privateKeyExposed:
        throw Failure(
          .configuration, "the authority's key \(keyPath): \(error.sentence)",
          hint: "it belongs to \(configuration.authorityPath) and has mode 0600")
      case .fileUnwritable, .fileExists: throw Failure(.cannotCreate, "renewal: \(error.sentence)")
      default: throw Failure(error, configuration)
      }
    }
  }
}
