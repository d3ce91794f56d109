import ArgumentParser
import EngramConfig
import EngramCore
import EngramCrypto
import EngramTLS
import Foundation

struct InitCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Create a node: identity key, certificate authority, certificate, configuration.",
    discussion: """
      Creates DIR (mode 0700) with federation.toml, data/keys/node.key (the identity that peers pin), and \
      data/tls/ with a private certificate authority and this node's certificate. Refuses to overwrite; when \
      it fails, it removes what it has made.

      Example:
        engram-node init --name acme.example --dir /var/lib/engram --listen 0.0.0.0:7443
      """)

  @Option(
    help: ArgumentHelp(
      "The organisation's name, a lower-case DNS name. It cannot change later.", valueName: "node"))
  var name: String

  @Option(help: ArgumentHelp("The directory to create.", valueName: "dir"), completion: .directory)
  var dir: String

  @Option(help: ArgumentHelp("Where to listen.", valueName: "host:port"))
  var listen = "127.0.0.1:7443"

  @Option(
    help: ArgumentHelp(
      "Where others reach this node, when it differs from --listen.", valueName: "host:port"))
  var advertise: String?

  @Option(
    name: .customLong("san"),
    help: ArgumentHelp(
      "A further DNS name or IP address for the certificate. The node's name and the listen host are there.",
      valueName: "name"))
  var alternativeNames: [String] = []

  @Option(
    help: ArgumentHelp(
      "Encrypt the identity key with the passphrase in this file (Argon2id). `serve` then needs it too.",
      valueName: "file"),
    completion: .file())
  var passphraseFile: String?

  @Flag(help: "Print the result as JSON.")
  var json = false

  func run() async throws {
    try await reporting {
      let node = try NewNode(self)
      umask(0o077)
      let id = try node.create()
      report(node, id)
    }
  }

  private func report(_ node: NewNode, _ id: NodeID) {
    let layout = node.layout
    if json {
      printJSON(
        InitReport(
          name: node.name.text, nodeId: id.description, config: layout.configuration, ca: layout.authority))
      return
    }
    print(
      """
      created \(node.name)
        node id        \(id)
        configuration  \(layout.configuration)
        authority      \(layout.authority) (give this file to clients)
      """)
    if passphraseFile == nil {
      print("note: the identity key is not encrypted; file mode 0600 is all that protects it")
    }
    print("next: engram-node serve --config \(layout.configuration)")
  }
}

private struct InitReport: Encodable {
  var name: String
  var nodeId: String
  var config: String
  var ca: String
}

/// What `init` was asked for, checked as a whole before anything is written.
struct NewNode {
  let name: NodeName
  let layout: NodeLayout
  private let listen: HostPort
  private let advertise: HostPort?
  private let alternativeNames: [String]
  private let passphrase: [UInt8]?

  init(_ command: InitCommand) throws(Failure) {
    guard let name = try? NodeName(command.name) else {
      throw Failure(
        .usage, "--name: a node's name is a lower-case DNS name", hint: "for example acme.example")
    }
    self.name = name
    listen = try Self.endpoint(command.listen, "--listen")
    advertise = try command.advertise.map { text throws(Failure) in
      let endpoint = try Self.endpoint(text, "--advertise")
      guard endpoint.port > 0 else {
        throw Failure(.usage, "--advertise: nobody can dial port 0", hint: "give the port that others dial")
      }
      return endpoint
    }
    alternativeNames = command.alternativeNames
    guard alternativeNames.allSatisfy(CertificateAuthority.accepts) else {
      throw Failure(
        .usage, "--san: this is neither a DNS name nor an IP address",
        hint: "one name for each --san, without a port and without a wildcard")
    }
    passphrase = try command.passphraseFile.map { path throws(Failure) in try readPassphrase(path) }
    layout = NodeLayout(dir: command.dir)
    try layout.refuseExisting()
  }

  private static func endpoint(_ text: String, _ option: String) throws(Failure) -> HostPort {
    guard let endpoint = HostPort(text) else {
      throw Failure(
        .usage, "\(option): an endpoint is HOST:PORT", hint: "for example 127.0.0.1:7443 or [::1]:7443")
    }
    return endpoint
  }

  /// Writes everything, the configuration last: a folder without one was never a node.
  func create() throws -> NodeID {
    let key = SigningKey()
    var made = NewFiles()
    do {
      try made.makeFolder(layout.keys)
      try made.makeFolder(layout.tls)
      for path in layout.files { made.expect(path) }
      try writeKey(key)
      try issueCertificate()
      try writeNew(layout.configuration, configurationText)
      try made.syncFolders()
    } catch {
      made.undo()
      guard let error = error as? TLSSetupError else { throw error }
      throw Failure(.cannotCreate, "the certificate could not be made: \(error.sentence)")
    }
    return NodeID(key.publicKey)
  }

  private func writeKey(_ key: SigningKey) throws {
    let file: SecretBytes
    do throws(KeyFileError) {
      file = try KeyFile.encode(key.seed(), kind: nodeKeyKind, passphrase: passphrase)
    } catch {
      throw Failure(.temporary, "there is not enough memory to encrypt the key (256 MiB)")
    }
    try file.withUnsafeBytes { try writeNew(layout.identityKey, $0) }
  }

  private func issueCertificate() throws(TLSSetupError) {
    let authority = try CertificateAuthority.create(
      commonName: commonName("\(name) CA", or: "Engram CA"), certificatePath: layout.authority,
      keyPath: layout.authorityKey)
    let hosts = [listen.host] + alternativeNames + [advertise?.host].compactMap { $0 }
    let addresses = hosts.filter(isAddress) + ["127.0.0.1", "::1"]
    let names = [name.text, "localhost"] + hosts.filter { !isAddress($0) }
    try authority.issue(
      commonName: commonName(name.text, or: "engram-node"), dnsNames: unique(names),
      ipAddresses: unique(addresses.filter { $0 != "0.0.0.0" && $0 != "::" }),
      certificatePath: layout.certificate, keyPath: layout.certificateKey)
  }

  private var configurationText: String {
    """
    # The configuration of this node. The example that comes with the software shows every key, its meaning
    # and its default; `engram-node admin peer add` writes peers into peers.d beside this file.
    [node]
    name = "\(name)"
    data_dir = "data"
    listen = "\(listen)"
    \(advertise.map { "advertise = \"\($0)\"" } ?? "# advertise = \"node.\(name):7443\"")
    log_level = "info"
    log_format = "text"

    """
  }
}

/// Where `init` puts things; `federation.toml` may say otherwise later.
struct NodeLayout {
  let dir: String
  private func path(_ tail: String) -> String { (dir as NSString).appendingPathComponent(tail) }
  var configuration: String { path("federation.toml") }
  var keys: String { path("data/keys") }
  var tls: String { path("data/tls") }
  var identityKey: String { path("data/keys/node.key") }
  var authority: String { path("data/tls/ca.pem") }
  var authorityKey: String { path("data/tls/ca.key") }
  var certificate: String { path("data/tls/node.pem") }
  var certificateKey: String { path("data/tls/node.key") }

  var files: [String] {
    [identityKey, authority, authorityKey, certificate, certificateKey, configuration]
  }

  func refuseExisting() throws(Failure) {
    guard !FileManager.default.fileExists(atPath: configuration) else {
      throw Failure(.cannotCreate, "\(configuration) is there already", hint: "choose another --dir")
    }
    guard let file = files.first(where: FileManager.default.fileExists(atPath:)) else { return }
    throw Failure(
      .cannotCreate, "\(file) is there already, without a configuration beside it",
      hint: "if no node uses these keys, an init was cut off: remove \(keys) and \(tls), then repeat it")
  }
}

let nodeKeyKind = "node-identity"

/// A certificate's common name holds 64 characters (RFC 5280, appendix A.1); nothing is decided by it, names
/// are in the SAN.
func commonName(_ text: String, or fallback: String) -> String {
  text.utf8.count <= 64 ? text : fallback
}

func isAddress(_ host: String) -> Bool {
  var (four, six) = (in_addr(), in6_addr())
  return inet_pton(AF_INET, host, &four) == 1 || inet_pton(AF_INET6, host, &six) == 1
}

private func unique(_ values: [String]) -> [String] {
  var seen: Set<String> = []
  return values.filter { seen.insert($0).inserted }
}
