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

      Example:
        engram-node peer-card --config federation.toml > acme.card
      """)

  @OptionGroup var source: ConfigurationOption
  @OptionGroup var identity: PassphraseOption

  @Flag(help: "A card is JSON either way; errors are too then.")
  var json = false

  func run() async throws {
    try await reporting {
      let configuration = try source.load()
      let authority = try readText(configuration.authorityPath, "the authority", .configuration)
      let key = try loadIdentity(configuration, passphraseFile: identity.passphraseFile)
      let endpoint = configuration.advertise ?? configuration.listen
      if endpoint.port == 0 || ["0.0.0.0", "::"].contains(endpoint.host) {
        writeError("note: \(endpoint) is not an address that others can dial")
        writeError("hint: set `advertise` in [node], or let the other side give --endpoint to `peer add`")
      }
      printJSON(
        PeerCard(
          name: configuration.name.text, endpoint: endpoint.description,
          nodeId: NodeID(key.publicKey).description, caPem: authority))
    }
  }
}

struct ConfigurationOption: ParsableArguments {
  @Option(
    help: ArgumentHelp("The node's configuration.", valueName: "file"),
    completion: .file(extensions: ["toml"]))
  var config = "federation.toml"

  func load() throws -> NodeConfiguration {
    do {
      return try NodeConfiguration.load(path: config, environment: ProcessInfo.processInfo.environment)
    } catch { throw Failure(error) }
  }
}

struct PassphraseOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The file with the identity key's passphrase, if `init` was given one.", valueName: "file"),
    completion: .file())
  var passphraseFile: String?
}

func loadIdentity(_ configuration: NodeConfiguration, passphraseFile: String?) throws -> SigningKey {
  let path = configuration.identityKeyPath
  let file: SecretBytes
  do throws(UnreadableSecret) { file = try SecretBytes.read(path: path) } catch {
    throw Failure(
      .configuration, "the identity key \(path) \(SystemFailure(code: error.errno).sentence)",
      hint: "`identity_key` in [node] names it; only a backup brings a lost one back")
  }
  let passphrase = try passphraseFile.map { try readPassphrase($0) }
  do throws(KeyFileError) {
    return SigningKey(seed: try KeyFile.decode(file, kind: nodeKeyKind, passphrase: passphrase))
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
