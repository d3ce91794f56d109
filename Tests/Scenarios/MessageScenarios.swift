import Foundation
import TestSupport
import Testing

/// A message says in its first line what is wrong, in words; what to do stands in its hint; and no name of a
/// type or case of this program gets into it.
@Suite("what goes wrong is said in sentences", .serialized, .timeLimit(.minutes(5)))
struct MessageScenarios {
  private struct Told: Decodable {
    struct Fields: Decodable {
      let code: UInt16
      let name: String
      let message: String
      let hint: String?
    }
    let error: Fields
  }

  /// Runs a command twice: for people, and with `--json`, which has to say the same.
  private func expect(
    _ program: Program, _ arguments: [String], _ code: Int32, says words: String..., input: String? = nil,
    environment: [String: String] = [:], sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let ended = try await program.run(arguments, environment: environment, input: input)
    let text = ended.errors
    #expect(ended.exit == .code(code), "\(arguments): \(ended.exit) \(text)", sourceLocation: sourceLocation)
    for word in words {
      #expect(text.contains(word), "\(arguments): \(text)", sourceLocation: sourceLocation)
    }
    // camelCase is how cases are written in the code, and never how words are.
    let sentence = text.replacing(/\/[^ ]*|engram-node:[a-z2-7]+|NAME|HOST:PORT/, with: "")
    #expect(
      sentence.firstMatch(of: /[a-z][A-Z][a-z]/) == nil, "\(arguments): \(text)",
      sourceLocation: sourceLocation)
    let json = try await program.run(arguments + ["--json"], environment: environment, input: input)
    #expect(json.exit == .code(code), sourceLocation: sourceLocation)
    let told = try? JSONDecoder().decode(Told.self, from: Data(json.errors.utf8))
    let message = (told?.error.message ?? "") + (told?.error.hint ?? "") + (told?.error.name ?? "")
    for word in words {
      #expect(message.contains(word), "\(arguments): \(json.errors)", sourceLocation: sourceLocation)
    }
  }

  @Test("by the administration")
  func administration() async throws {
    let acme = try await Organisation.running("acme.example")
    func admin(
      _ arguments: String..., code: Int32, says words: String, input: String? = nil,
      sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
      try await expect(
        .node, ["admin", "--config", acme.config] + arguments, code, says: words, input: input,
        sourceLocation: sourceLocation)
    }
    try await admin("client", "invite", "Not A Name", code: 64, says: "cannot be a client's name")
    try await admin("client", "invite", "planner", "--hours", "0", code: 64, says: "--hours is 1 to 720")
    try await admin("client", "disable", "a b", "--yes", code: 64, says: "cannot be a client's name")
    try await admin("client", "disable", "ghost", "--yes", code: 1, says: "no client of that name")
    try await admin("peer", "remove", "x y", "--yes", code: 64, says: "lower-case DNS name")
    try await admin("peer", "remove", "ghost.example", "--yes", code: 1, says: "no peer of that name")
    try await admin("peer", "status", "ghost.example", code: 1, says: "no peer of that name")
    try await admin("peer", "add", "/nope", code: 1, says: "does not exist")
    let card = try await acme.card()
    try await admin("peer", "add", "-", code: 1, says: "the card of acme.example itself", input: card)
    let other = try await Organisation("globex.example").card()
    let noPort = other.replacing(/127.0.0.1:[0-9]+/, with: "127.0.0.1")
    try await admin("peer", "add", "-", code: 1, says: "is not HOST:PORT", input: noPort)
    try await admin("dance", code: 64, says: "dance")
    // The control: what is right is done.
    #expect(try await acme.admin("client", "invite", "planner").succeeded)
  }

  @Test("by a node that does not start")
  func starting() async throws {
    let acme = try await Organisation("acme.example")
    func serve(
      _ code: Int32, says words: String, _ environment: [String: String] = [:],
      sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
      try await expect(
        .node, ["serve", "--config", acme.config], code, says: words, environment: environment,
        sourceLocation: sourceLocation)
    }
    try await serve(78, says: "not an address of this machine", ["ENGRAM_NODE_LISTEN": "192.0.2.1:7443"])
    try await serve(78, says: "has no address", ["ENGRAM_NODE_LISTEN": "nowhere.invalid:7443"])
    let open = acme.directory.file("open")
    try FileManager.default.createDirectory(atPath: open, withIntermediateDirectories: true)
    #expect(chmod(open, 0o777) == 0)
    try await serve(77, says: "chmod go-w", ["ENGRAM_NODE_ADMIN_SOCKET": open + "/admin.sock"])
    try await serve(78, says: "/nope/node.pem is missing", ["ENGRAM_NODE_CERTIFICATE": "/nope/node.pem"])
    try await serve(78, says: "does not exist", ["ENGRAM_NODE_IDENTITY_KEY": "/nope/node.key"])
    let identity = acme.data + "/keys/node.key"
    try await serve(
      73, says: "the folder /proc/nope",
      ["ENGRAM_NODE_DATA_DIR": "/proc/nope", "ENGRAM_NODE_IDENTITY_KEY": identity])

    let text = try String(contentsOfFile: acme.config, encoding: .utf8)
    let peer = """
      [[peer]]
      name = "globex.example"
      endpoint = "127.0.0.1:1"
      node_id = "\(try await Organisation("globex.example").nodeID)"
      ca = "gone.pem"
      """
    try Data((text + peer).utf8).write(to: URL(fileURLWithPath: acme.config))
    try await serve(78, says: "peer.ca: \(acme.folder)/gone.pem does not exist")
    let failed = try await Program.node.run(["serve", "--config", acme.config])
    let line = text.split(separator: "\n", omittingEmptySubsequences: false).count
    #expect(failed.errors.contains("federation.toml:\(line): "), "\(failed.errors)")
    #expect(!failed.errors.contains("drained"), "the end is told before its reason: \(failed.errors)")
    try Data(text.utf8).write(to: URL(fileURLWithPath: acme.config))

    try Data(repeating: 7, count: 8_192).write(to: URL(fileURLWithPath: acme.data + "/node.db"))
    try await serve(65, says: "is damaged, or is not a store")
    try FileManager.default.removeItem(atPath: acme.data + "/node.db")
    // The control, and how an IPv6 address is shown.
    _ = try await acme.start()
    #expect(acme.running?.output.contains("listens on 127.0.0.1:\(acme.port)\n") == true)
  }

  @Test("by init, renew and peer-card")
  func files() async throws {
    let acme = try await Organisation("acme.example")
    let elsewhere = acme.directory.file("elsewhere")
    let start = ["init", "--name", "acme.example", "--dir"]
    try await expect(.node, start + ["/proc/nope"], 73, says: "the folder /proc/nope")
    try await expect(
      .node, start + [elsewhere, "--passphrase-file", "/nope"], 78,
      says: "passphrase file /nope does not exist")
    try await expect(.node, start + [elsewhere, "--san", "bad name"], 64, says: "--san")
    let card = try await Program.node.run(["peer-card", "--config", acme.config, "--json"])
    #expect(try card.expected() == (try await acme.card()))
    let renew = ["renew", "--config", acme.config]
    try await expect(.node, renew + ["--days", "0"], 64, says: "--days is 1 to 398")
    try await expect(.node, renew + ["--ca-key", "/nope"], 78, says: "authority's key /nope does not exist")
    let globex = try await Organisation("globex.example")
    let foreign = ["ENGRAM_NODE_CERTIFICATE": globex.data + "/tls/node.pem"]
    try await expect(.node, renew, 78, says: "was not issued by the authority", environment: foreign)
    _ = try await Program.node.run(renew).expected()
  }

  @Test("by the client's command")
  func client() async throws {
    let acme = try await Organisation.running("acme.example")
    struct Invite: Decodable { let token: String }
    let invite: Invite = try await acme.admin("--json", "client", "invite", "planner").json()
    let home = acme.directory.file("planner")
    let node = ["--node", "127.0.0.1:\(acme.port)", "--invite", invite.token, "--home", home]
    try await expect(
      .client, ["init", "--ca", acme.authority, "--passphrase-file", "/nope"] + node, 64,
      says: "passphrase file /nope does not exist")
    _ = try await Program.client.run(["init", "--ca", acme.authority, "--no-passphrase"] + node).expected()
    let send = ["send", "--home", home, "--to"]
    try await expect(
      .client, send + ["planner@acme.example", "--file", acme.folder], 64, says: "is a folder")
    try await expect(
      .client, send + ["planner@acme.example", "--file", "/nope"], 64, says: "/nope does not exist")
    try await expect(
      .client, send + ["ghost@acme.example", "--text", "x"], 4,
      says: "there is no client ghost@acme.example")
    try await expect(
      .client, ["trust", "--home", home, "ghost@acme.example"], 4,
      says: "there is no client ghost@acme.example", "check the address")
    try await expect(
      .client, ["directory", "--home", home, "ghost@globex.example"], 4,
      says: "ask the administrator of your node")
    try await expect(.client, ["inbox", "--home", home, "--max", "0"], 64, says: "--max")
    // The control: what is right is done, and says nothing on standard error.
    let whoami = try await Program.client.run(["whoami", "--home", home, "--json"])
    #expect(whoami.succeeded && whoami.errors.isEmpty)
  }
}
