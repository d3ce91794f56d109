import Foundation
import TestSupport
import Testing

@Suite("the programs as they are installed", .serialized, .timeLimit(.minutes(5)))
struct ProgramScenarios {
  @Test("engram-node does not even link what opens messages")
  func cannotOpen() async throws {
    func openers(_ path: String) async throws -> [Substring] {
      let symbols = try await runTool("/usr/bin/nm", ["-D", path]).expected()
      return symbols.split(separator: "\n").filter { $0.contains("crypto_box_seal_open") }
    }
    #expect(try await openers(Program.node.path) == [])
    // The control: the client's program opens messages, and the tool sees it.
    #expect(try await !openers(Program.client.path).isEmpty)
  }

  @Test(
    "version, help and completions are there",
    arguments: [
      (Program.node, [[], ["init"], ["serve"], ["peer-card"], ["admin"], ["admin", "peer", "add"]]),
      (Program.client, [[], ["init"], ["send"], ["inbox"], ["trust"], ["receipts"]]),
    ])
  func conveniences(program: Program, commands: [[String]]) async throws {
    let version = try await program.run(["--version"]).expected()
    #expect(version.wholeMatch(of: /[0-9]+\.[0-9]+\.[0-9]+\n/) != nil, "\(version)")
    for command in commands {
      let help = try await program.run(command + ["--help"]).expected()
      #expect(help.contains("OVERVIEW") && help.contains("USAGE"), "\(command)")
    }
    for shell in ["bash", "zsh", "fish"] {
      let script = try await program.run(["--generate-completion-script", shell]).expected()
      #expect(script.contains(program.rawValue) && script.contains("init"), "\(shell)")
    }
    let bash = try await program.run(["--generate-completion-script", "bash"]).expected()
    #expect(try await runTool("/bin/bash", ["-n"], input: bash).succeeded, "not a script that bash takes")
  }

  @Test("exit codes are the documented ones")
  func exitCodes() async throws {
    let acme = try await Organisation("acme.example")
    let documented = try await Program.node.run(["--help"]).expected()
    func expect(_ code: Int32, _ arguments: [String]) async throws {
      let ended = try await Program.node.run(arguments)
      #expect(ended.exit == .code(code), "\(arguments): \(ended.exit) \(ended.errors)")
      #expect(documented.contains("\(code) "), "\(code) is not documented")
    }
    try await expect(0, ["peer-card", "--config", acme.config])
    try await expect(64, ["serve", "--no-such-option"])
    try await expect(64, ["dance"])
    try await expect(69, ["admin", "--config", acme.config, "status"])
    try await expect(73, ["init", "--name", "acme.example", "--dir", acme.folder])
    try await expect(78, ["serve", "--config", acme.folder + "/none.toml"])
    try await acme.start()
    try await expect(0, ["admin", "--config", acme.config, "status"])
    try await expect(1, ["admin", "--config", acme.config, "peer", "status", "globex.example"])
    try await expect(1, ["admin", "--config", acme.config, "client", "invite", "Not A Name"])
  }

  @Test("an encrypted identity key needs its passphrase")
  func passphrase() async throws {
    let directory = try TemporaryDirectory()
    let (right, wrong) = (directory.file("right"), directory.file("wrong"))
    try Data("correct horse\n".utf8).write(to: URL(fileURLWithPath: right))
    try Data("battery staple\n".utf8).write(to: URL(fileURLWithPath: wrong))
    _ = try await Program.node.run(
      ["init", "--name", "acme.example", "--dir", directory.file("node"), "--passphrase-file", right]
    ).expected()
    let config = ["peer-card", "--config", directory.file("node/federation.toml")]
    #expect(try await Program.node.run(config).exit == .code(77))
    #expect(try await Program.node.run(config + ["--passphrase-file", wrong]).exit == .code(77))
    #expect(try await Program.node.run(config + ["--passphrase-file", right]).succeeded)
  }

  @Test("log lines are structured on request, and never hold what clients say or are called")
  func logs() async throws {
    let acme = try await Organisation.running(
      "acme.example", settings: "\n[limits]\ndrain_seconds = 2\n")
    _ = try await acme.stop()
    let text = try String(contentsOfFile: acme.config, encoding: .utf8)
      .replacing("log_format = \"text\"", with: "log_format = \"json\"")
      .replacing("log_level = \"info\"", with: "log_level = \"trace\"")
    try Data(text.utf8).write(to: URL(fileURLWithPath: acme.config))
    let before = acme.log.count
    try await acme.start()
    let bystanders = try await Bystanders(of: acme)
    try await bystanders.expectUnharmed(after: "something that must not be logged")
    _ = try await acme.stop()
    let lines = acme.log.dropFirst(before).split(separator: "\n")
    #expect(lines.count > 3)
    struct Line: Decodable {
      let time: String
      let level: String
      let message: String
    }
    for line in lines {
      #expect(throws: Never.self) { try JSONDecoder().decode(Line.self, from: Data(line.utf8)) }
      for secret in ["must not be logged", "bea@", "ben@", bystanders.sender.session] {
        #expect(!line.contains(secret), "\(line)")
      }
    }
  }
}
