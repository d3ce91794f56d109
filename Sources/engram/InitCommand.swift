internal import ArgumentParser
internal import EngramClient

struct InitCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Make the keys of a new client and register it with its node.",
    discussion: """
      The keys are made here and never leave this machine. The key file is protected by a passphrase, or \
      with --no-passphrase by its mode alone (0600). An init that was cut off can be run again as it was.

      Examples:
        engram init --node node.acme.example:7443 --ca ca.pem --invite TOKEN
        engram init --node 127.0.0.1:7443 --ca certs/acme.example/ca.pem --invite TOKEN \\
          --home ~/agents/planner --no-passphrase
      """)

  @Option(help: ArgumentHelp("Where the node listens.", valueName: "host:port"))
  var node: String

  @Option(
    help: ArgumentHelp("PEM file of the certificate authority that vouches for the node.", valueName: "file"),
    completion: .file())
  var ca: String

  @Option(
    help: ArgumentHelp(
      "The one-time token from `engram-node admin client invite NAME`; it fixes this client's name.",
      valueName: "token"))
  var invite: String

  @Option(
    help: ArgumentHelp("The name in the node's certificate, where that is not HOST.", valueName: "name"))
  var nodeName: String?

  @Flag(help: "Leave the key file without a passphrase.")
  var noPassphrase = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard !noPassphrase || common.passphraseFile == nil else {
      throw ValidationError("--no-passphrase and --passphrase-file contradict each other")
    }
  }

  func run() async throws {
    let passphrase = noPassphrase ? nil : try Passphrase(file: common.passphraseFile).chosen()
    let client: EngramClient
    do {
      client = try await EngramClient.register(
        home: common.homePath, node: node, caFile: ca, invite: invite, passphrase: passphrase,
        nodeName: nodeName)
    } catch let error as EngramError where error.kind != .badInput {
      if !common.json {
        Terminal.note("note: nothing was registered; `engram init` may be run again with the same home")
      }
      throw error
    }
    let account = client.whoami()
    await client.close()
    if passphrase == nil {
      Terminal.note(
        "note: the key file has no passphrase; whoever can read \(common.homePath)/client.key is this client")
    }
    try Terminal.write(
      common.json
        ? jsonLine(AccountForm(account))
        : """
        registered \(account.address) with \(account.node)
        node id: \(account.nodeID)
        home: \(account.home)

        """
    )
  }
}

struct WhoamiCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "whoami",
    abstract: "Show this client's address, keys and node.",
    discussion: """
      Example:
        engram whoami --home ~/agents/planner
      """)

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      let account = client.whoami()
      let text = """
        address: \(account.address)
        identity key: \(account.identityKey)
        device: \(account.device)
        node: \(account.node) at \(account.endpoint)
        node id: \(account.nodeID)
        home: \(account.home)

        """
      try Terminal.write(common.json ? jsonLine(AccountForm(account)) : text)
    }
  }
}

struct AccountForm: Encodable {
  let address: String
  let identityKey: String
  let device: String
  let node: String
  let nodeID: String
  let endpoint: String
  let home: String
  init(_ account: Account) {
    (address, identityKey, device) = (account.address, account.identityKey, account.device)
    (node, nodeID, endpoint, home) = (account.node, account.nodeID, account.endpoint, account.home)
  }
}
