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
      data/tls/ with a private certificate authority and this node's certificate. Refuses to overwrite.

        engram-node init --name acme.example --dir /var/lib/engram --listen 0.0.0.0:7443
      """)

  @Option(help: "The organisation's name, a lower-case DNS name. It cannot change later.")
  var name: String

  @Option(help: "The directory to create.", completion: .directory)
  var dir: String

  @Option(help: "Where to listen, HOST:PORT.")
  var listen = "127.0.0.1:7443"

  @Option(help: "Where others reach this node, HOST:PORT, when it differs from --listen.")
  var advertise: String?

  @Option(
    name: .customLong("san"),
    help:
      "A further DNS name or IP address for the certificate. The node's name and the listen host are there.")
  var alternativeNames: [String] = []

  @Option(
    help: "Encrypt the identity key with the passphrase in FILE (Argon2id). `serve` then needs it too.",
    completion: .file())
  var passphraseFile: String?

  @Flag(help: "Print the result as JSON.")
  var json = false

  func run() async throws { try await reporting { try create() } }

  private func create() throws {
    guard let nodeName = try? NodeName(name) else {
      throw Failure(
        .configuration, "a node's name is a lower-case DNS name", hint: "for example acme.example")
    }
    guard let listenAt = HostPort(listen), advertise.map({ HostPort($0) != nil }) ?? true else {
      throw Failure(
        .configuration, "an endpoint is HOST:PORT", hint: "for example 127.0.0.1:7443 or [::1]:7443")
    }
    umask(0o077)
    let layout = NodeLayout(dir: dir)
    guard !FileManager.default.fileExists(atPath: layout.configuration) else {
      throw Failure(.cannotCreate, "\(layout.configuration) is there already", hint: "choose another --dir")
    }
    let key = SigningKey()
    do {
      for folder in [layout.keys, layout.tls] {
        try FileManager.default.createDirectory(
          atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
      }
      try writeKey(key, to: layout.identityKey)
      try issueCertificate(nodeName, listenAt, layout)
      try writeNew(layout.configuration, configurationText(nodeName))
    } catch let error as TLSSetupError {
      throw Failure(.cannotCreate, "the certificate could not be made: \(error)")
    } catch let error as CocoaError {
      throw Failure(.cannotCreate, "\(dir) could not be written (\(error.code.rawValue))")
    }
    report(nodeName, NodeID(key.publicKey), layout)
  }

  private func writeKey(_ key: SigningKey, to path: String) throws {
    let passphrase = try passphraseFile.map { try readPassphrase($0) }
    let text: String
    do throws(KeyFileError) {
      text = try KeyFile.encode(key.seed(), kind: nodeKeyKind, passphrase: passphrase)
    } catch { throw Failure(.failed, "the key could not be encrypted: \(error)") }
    try writeNew(path, text)
  }

  private func issueCertificate(_ nodeName: NodeName, _ listenAt: HostPort, _ layout: NodeLayout) throws {
    let authority = try CertificateAuthority.create(
      commonName: commonName("\(nodeName) CA", or: "Engram CA"), certificatePath: layout.authority,
      keyPath: layout.authorityKey)
    let hosts =
      ([listenAt.host] + alternativeNames + [advertise.flatMap { HostPort($0)?.host }].compactMap { $0 })
    let addresses = hosts.filter(isAddress) + ["127.0.0.1", "::1"]
    let names = [nodeName.text, "localhost"] + hosts.filter { !isAddress($0) }
    try authority.issue(
      commonName: commonName(nodeName.text, or: "engram-node"), dnsNames: unique(names),
      ipAddresses: unique(addresses.filter { $0 != "0.0.0.0" && $0 != "::" }),
      certificatePath: layout.certificate, keyPath: layout.certificateKey)
  }

  private func configurationText(_ nodeName: NodeName) -> String {
    """
    # The configuration of this node. The example that comes with the software shows every key, its meaning
    # and its default; `engram-node admin peer add` writes peers into peers.d beside this file.
    [node]
    name = "\(nodeName)"
    data_dir = "data"
    listen = "\(listen)"
    \(advertise.map { "advertise = \"\($0)\"" } ?? "# advertise = \"node.\(nodeName):7443\"")
    log_level = "info"
    log_format = "text"

    """
  }

  private func report(_ nodeName: NodeName, _ id: NodeID, _ layout: NodeLayout) {
    if json {
      printJSON(
        InitReport(
          name: nodeName.text, nodeId: id.description, config: layout.configuration, ca: layout.authority))
      return
    }
    print(
      """
      created \(nodeName)
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
}

let nodeKeyKind = "node-identity"

/// Writes a file that must not exist yet, mode 0600 from the first byte on.
func writeNew(_ path: String, _ text: String) throws {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw Failure(.cannotCreate, "\(path) cannot be created: \(systemError())") }
  let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
  do {
    try file.write(contentsOf: Data(text.utf8))
    try file.synchronize()
  } catch { throw Failure(.cannotCreate, "\(path) cannot be written: \(systemError())") }
}

func readPassphrase(_ path: String) throws -> [UInt8] {
  guard let data = FileManager.default.contents(atPath: path), !data.isEmpty else {
    throw Failure(.configuration, "\(path) holds no passphrase")
  }
  return Array(data.last == UInt8(ascii: "\n") ? data.dropLast() : data)
}

func systemError() -> String { String(cString: strerror(errno)) }

func printJSON(_ value: some Encodable) {
  let encoder = wireEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  if let data = try? encoder.encode(value) { print(String(decoding: data, as: UTF8.self)) }
}

/// A certificate's common name holds 64 characters (RFC 5280, appendix A.1); nothing is decided by it, names
/// are in the SAN.
private func commonName(_ text: String, or fallback: String) -> String {
  text.utf8.count <= 64 ? text : fallback
}

private func isAddress(_ host: String) -> Bool {
  var (four, six) = (in_addr(), in6_addr())
  return inet_pton(AF_INET, host, &four) == 1 || inet_pton(AF_INET6, host, &six) == 1
}

private func unique(_ values: [String]) -> [String] {
  var seen: Set<String> = []
  return values.filter { seen.insert($0).inserted }
}
