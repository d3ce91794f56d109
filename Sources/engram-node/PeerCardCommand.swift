import ArgumentParser
import EngramConfig
import EngramCore
import EngramCrypto
import Foundation

/// What another organisation needs to pin this node: passed on over a channel that both administrators trust.
struct PeerCard: Codable {
  var engramPeerCard = 1
  var name: String
  var endpoint: String
  var nodeId: String
  var caPem: String
}

struct PeerCardCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "peer-card",
    abstract: "Print what a peer needs to pin this node: name, endpoint, node id, certificate authority.",
    discussion: """
      The card holds nothing secret, but whoever can change it on the way can pose as you: send it over a \
      channel that both administrators trust, and compare node ids by voice.

        engram-node peer-card --config federation.toml > acme.card
      """)

  @OptionGroup var source: ConfigurationOption

  func run() async throws {
    try await reporting {
      let configuration = try source.load()
      guard let pem = FileManager.default.contents(atPath: configuration.authorityPath) else {
        throw Failure(.configuration, "\(configuration.authorityPath) cannot be read: \(systemError())")
      }
      let key = try loadIdentity(configuration, passphraseFile: source.passphraseFile)
      printJSON(
        PeerCard(
          name: configuration.name.text,
          endpoint: (configuration.advertise ?? configuration.listen).description,
          nodeId: NodeID(key.publicKey).description, caPem: String(decoding: pem, as: UTF8.self)))
    }
  }
}

struct ConfigurationOption: ParsableArguments {
  @Option(help: "The node's configuration.", completion: .file(extensions: ["toml"]))
  var config = "federation.toml"

  @Option(
    help: "The file with the identity key's passphrase, if `init` was given one.", completion: .file())
  var passphraseFile: String?

  func load() throws -> NodeConfiguration {
    do {
      return try NodeConfiguration.load(path: config, environment: ProcessInfo.processInfo.environment)
    } catch { throw Failure(error) }
  }
}

func loadIdentity(_ configuration: NodeConfiguration, passphraseFile: String?) throws -> SigningKey {
  let path = configuration.identityKeyPath
  guard let data = FileManager.default.contents(atPath: path) else {
    throw Failure(.configuration, "the identity key \(path) cannot be read: \(systemError())")
  }
  let passphrase = try passphraseFile.map { try readPassphrase($0) }
  do throws(KeyFileError) {
    let text = String(decoding: data, as: UTF8.self)
    return SigningKey(seed: try KeyFile.decode(text, kind: nodeKeyKind, passphrase: passphrase))
  } catch {
    switch error {
    case .passphraseNeeded:
      throw Failure(.notAllowed, "the identity key is encrypted", hint: "give --passphrase-file")
    case .wrongPassphrase: throw Failure(.notAllowed, "the passphrase does not open the identity key")
    case .malformed, .wrongKind: throw Failure(.configuration, "\(path) is not a node's identity key")
    case .outOfMemory: throw Failure(.temporary, "not enough memory to derive the key")
    }
  }
}
