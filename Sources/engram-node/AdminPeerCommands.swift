import ArgumentParser
import EngramCore
import Foundation

struct PeerAnswer: Decodable {
  struct Failure: Decodable {
    var name: String
  }
  var name: String
  var nodeId: String
  var endpoint: String
  var state: String
  var sinceMs: UInt64
  var queued: Int
  var inFlight: Int
  var lastError: Failure?
  var attempts: Int
  var nextDialMs: UInt64?
}

func printPeers(_ peers: [PeerAnswer]) {
  printTable(
    ["PEER", "STATE", "ENDPOINT", "QUEUED", "IN FLIGHT", "SINCE", "LAST ERROR"],
    peers.map {
      [
        $0.name, $0.state, $0.endpoint, "\($0.queued)", "\($0.inFlight)", timeText($0.sinceMs),
        $0.lastError?.name ?? "-",
      ]
    })
}

private func checkPeerName(_ name: String) throws(Failure) {
  guard (try? NodeName(name)) == nil else { return }
  throw Failure(.usage, "a peer's name is a lower-case DNS name", hint: "`admin peer list` shows them")
}

/// All peers in a table, or the node's JSON as it came.
private func showPeers(_ connection: AdminConnection) async throws {
  struct Answer: Decodable { var peers: [PeerAnswer] }
  let data = try await connection.raw("GET", "peers")
  if connection.json { return print(String(decoding: data, as: UTF8.self)) }
  let peers = try connection.decode(data, as: Answer.self).peers
  guard !peers.isEmpty else { return print("no peers yet; `admin peer add CARD` pins one") }
  printPeers(peers)
}

struct PeerCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "peer", abstract: "Pin, list and remove the organisations that this node federates with.",
    subcommands: [AddCommand.self, ListCommand.self, RemoveCommand.self, StatusCommand.self])
  @ParentCommand var admin: AdminCommand

  struct AddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "add", abstract: "Pin a peer from its card, at once and for good.",
      discussion: """
        Writes peers.d/NAME.toml and peers.d/NAME.pem beside the configuration and dials the peer. The card \
        comes from `engram-node peer-card` on the other side.

        A card that says another node id or authority than the pinned one is refused: either the peer was \
        set up anew, or somebody poses as it. --replace takes it all the same.

        Examples:
          engram-node admin peer add globex.card
          engram-node admin peer add - < globex.card
        """)
    @ParentCommand var peer: PeerCommand
    @OptionGroup var options: AdminOptions
    @Argument(
      help: ArgumentHelp("The peer's card, - for standard input.", valueName: "file"), completion: .file())
    var card: String
    @Option(help: ArgumentHelp("Dial this and not the card's endpoint.", valueName: "host:port"))
    var endpoint: String?
    @Flag(help: "Take another node id or authority for a peer that is pinned already.") var replace = false

    private struct Request: Encodable {
      var name: String
      var endpoint: String
      var nodeId: String
      var caPem: String
      var replace: Bool
    }

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(peer.admin.options, options)
        var card = try readCard()
        if let endpoint { card.endpoint = endpoint }
        let request = Request(
          name: card.name, endpoint: card.endpoint, nodeId: card.nodeId, caPem: card.caPem, replace: replace)
        try await connection.raw("POST", "peers", body: request)
        if connection.json { return printJSON(card) }
        print("pinned \(card.name) at \(card.endpoint)\n  node id \(card.nodeId)")
        print("hint: compare the node id with the peer's administrator by voice")
      }
    }

    private func readCard() throws -> PeerCard {
      let data =
        card == "-"
        ? FileHandle.standardInput.readDataToEndOfFile()
        : Data(try readText(card, "the card", .failed).utf8)
      guard let parsed = try? wireDecoder().decode(PeerCard.self, from: data), parsed.engramPeerCard == 1
      else {
        throw Failure(.failed, "this is not a peer card", hint: "`engram-node peer-card` prints one")
      }
      return parsed
    }
  }

  struct ListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "list", abstract: "All peers and how they are.",
      discussion: """
        Example:
          engram-node admin peer list --json
        """)
    @ParentCommand var peer: PeerCommand
    @OptionGroup var options: AdminOptions

    func run() async throws {
      try await reporting {
        try await showPeers(try AdminConnection(peer.admin.options, options))
      }
    }
  }

  struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "status", abstract: "One peer in detail, or all peers in a table.",
      discussion: """
        Example:
          engram-node admin peer status globex.example
        """)
    @ParentCommand var peer: PeerCommand
    @OptionGroup var options: AdminOptions
    @Argument(help: "The peer's name; left out, all peers are listed.") var name: String?

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(peer.admin.options, options)
        guard let name else { return try await showPeers(connection) }
        try checkPeerName(name)
        let data = try await connection.raw("GET", "peers/\(name)")
        if connection.json { return print(String(decoding: data, as: UTF8.self)) }
        let status = try connection.decode(data, as: PeerAnswer.self)
        print("peer        \(status.name)\nnode id     \(status.nodeId)\nendpoint    \(status.endpoint)")
        print("state       \(status.state) since \(timeText(status.sinceMs))")
        print("queued      \(status.queued)\nin flight   \(status.inFlight)\nattempts    \(status.attempts)")
        print("last error  \(status.lastError?.name ?? "-")")
        if let next = status.nextDialMs { print("next dial   \(timeText(next))") }
      }
    }
  }

  struct RemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "remove", abstract: "Forget a peer: its link ends and nothing goes either way.",
      discussion: """
        Messages that wait for the peer stay queued until they expire, or until it is added again.

        Example:
          engram-node admin peer remove globex.example --yes
        """)
    @ParentCommand var peer: PeerCommand
    @OptionGroup var options: AdminOptions
    @Argument(help: "The peer's name.") var name: String
    @Flag(name: .shortAndLong, help: "Do not ask.") var yes = false

    func run() async throws {
      try await reporting {
        try checkPeerName(name)
        let connection = try AdminConnection(peer.admin.options, options)
        guard yes || confirm("forget \(name)? [y/N] ") else { throw Failure(.failed, "nothing was changed") }
        try await connection.raw("DELETE", "peers/\(name)")
        say("\(name) is forgotten", done: "removed", json: connection.json)
      }
    }
  }
}
