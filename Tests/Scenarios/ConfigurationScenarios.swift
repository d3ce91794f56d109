import EngramCore
import Foundation
import TestSupport
import Testing

@Suite("a node that cannot start says why", .serialized, .timeLimit(.minutes(5)))
struct ConfigurationScenarios {
  /// A change of federation.toml, and what the message about it names.
  private struct Mistake: Sendable {
    let change: @Sendable (String) -> String
    let names: [String]

    static func append(_ text: String, names: String...) -> Mistake {
      Mistake(change: { $0 + "\n" + text + "\n" }, names: names)
    }
    static func replace(_ old: String, by new: String, names: String...) -> Mistake {
      Mistake(change: { $0.replacing(old, with: new) }, names: names)
    }

    static let all = [
      append("[limits]\ndrain_second = 3", names: "limits.drain_second", "drain_seconds"),
      append("[limits]\ndrain_seconds = 0", names: "limits.drain_seconds", "1"),
      append("[limits]\ndrain_seconds = \"ten\"", names: "limits.drain_seconds"),
      append("[limit]\ndrain_seconds = 3", names: "limit", "[limits]"),
      append("[[peer]]\nname = \"globex.example\"", names: "peer"),
      append("[limits", names: "federation.toml"),
      replace("name = \"acme.example\"", by: "name = \"Acme Example\"", names: "node.name"),
      replace("listen = ", by: "listens = ", names: "node.listen"),
      replace("log_level = \"info\"", by: "log_level = \"chatty\"", names: "node.log_level"),
    ]
  }

  @Test("a mistake in federation.toml is named with file, line and key")
  func mistakes() async throws {
    let acme = try await Organisation("acme.example")
    let good = try String(contentsOfFile: acme.config, encoding: .utf8)
    for mistake in Mistake.all {
      let text = mistake.change(good)
      try Data(text.utf8).write(to: URL(fileURLWithPath: acme.config))
      let ended = try await Program.node.run(["serve", "--config", acme.config])
      #expect(ended.exit == .code(78), "\(mistake.names): \(ended.errors)")
      for name in mistake.names { #expect(ended.errors.contains(name), "\(ended.errors)") }
      let place = "federation.toml:" + #"[0-9]+"#
      #expect(ended.errors.range(of: place, options: .regularExpression) != nil, "no line: \(ended.errors)")
    }
    let none = try await Program.node.run(["serve", "--config", acme.folder + "/none.toml"])
    #expect(none.exit == .code(78) && none.errors.contains("none.toml"))
    // The control: the file as `init` wrote it starts.
    try Data(good.utf8).write(to: URL(fileURLWithPath: acme.config))
    try await acme.start()
  }

  @Test("files that cannot be used are named")
  func files() async throws {
    let acme = try await Organisation("acme.example")
    let key = acme.data + "/tls/node.key"
    let good = try Data(contentsOf: URL(fileURLWithPath: key))
    try Data("not a key".utf8).write(to: URL(fileURLWithPath: key))
    let unreadable = try await Program.node.run(["serve", "--config", acme.config])
    #expect(unreadable.exit == .code(78) && unreadable.errors.contains("private_key"), "\(unreadable.errors)")
    try good.write(to: URL(fileURLWithPath: key))

    let other = try await Organisation("globex.example")
    let foreign = try Data(contentsOf: URL(fileURLWithPath: other.data + "/tls/node.key"))
    try foreign.write(to: URL(fileURLWithPath: key))
    let mismatch = try await Program.node.run(["serve", "--config", acme.config])
    #expect(mismatch.exit == .code(78), "\(mismatch.errors)")
    try good.write(to: URL(fileURLWithPath: key))

    let identity = acme.data + "/keys/node.key"
    try FileManager.default.moveItem(atPath: identity, toPath: identity + ".away")
    let missing = try await Program.node.run(["serve", "--config", acme.config])
    #expect(missing.exit == .code(78) && missing.errors.contains("node.key"), "\(missing.errors)")
  }

  @Test("a second process on the same data directory, or on the same port, stops at once")
  func twice() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let second = try await Program.node.run(["serve", "--config", acme.config])
    #expect(second.exit == .code(69) && second.errors.contains("another process"), "\(second.errors)")

    let other = try await Organisation("globex.example")
    let samePort = try await Program.node.run(
      ["serve", "--config", other.config], environment: ["ENGRAM_NODE_LISTEN": "127.0.0.1:\(acme.port)"])
    #expect(samePort.exit == .code(69) && samePort.errors.contains("\(acme.port)"), "\(samePort.errors)")
    try await bystanders.expectUnharmed(after: "a second process")
    #expect(try await acme.admin("status").succeeded, "the second process took the admin socket away")
  }

  @Test("init never overwrites, and says what is wrong with its arguments")
  func initialisation() async throws {
    let acme = try await Organisation("acme.example")
    let before = try Data(contentsOf: URL(fileURLWithPath: acme.data + "/keys/node.key"))
    let again = try await Program.node.run(["init", "--name", "acme.example", "--dir", acme.folder])
    #expect(again.exit == .code(73) && again.errors.contains("hint:"))
    #expect(try Data(contentsOf: URL(fileURLWithPath: acme.data + "/keys/node.key")) == before)
    let elsewhere = acme.directory.file("elsewhere")
    let badName = try await Program.node.run(["init", "--name", "Acme", "--dir", elsewhere])
    #expect(badName.exit == .code(64) && badName.errors.contains("DNS name"))
    let badListen = try await Program.node.run(
      ["init", "--name", "acme.example", "--dir", elsewhere, "--listen", "7443"])
    #expect(badListen.exit == .code(64) && badListen.errors.contains("HOST:PORT"))
    #expect(!FileManager.default.fileExists(atPath: elsewhere))
  }

  @Test("an init that failed leaves nothing behind, and works when it is repeated")
  func repeatedInitialisation() async throws {
    let directory = try TemporaryDirectory()
    let folder = directory.file("node")
    func start(_ options: [String]) async throws -> Finished {
      try await Program.node.run(["init", "--name", "acme.example", "--dir", folder] + options)
    }
    let wrong: [(options: [String], code: Int32)] = [
      (["--san", "bad name"], 64), (["--san", "*.acme.example"], 64),
      (["--advertise", "node.acme.example:0"], 64),
      (["--passphrase-file", directory.file("none")], 78),
    ]
    for (options, code) in wrong {
      let ended = try await start(options)
      #expect(ended.exit == .code(code), "\(options): \(ended.errors)")
      #expect(!FileManager.default.fileExists(atPath: folder), "\(options)")
    }
    // Half-way through: the keys can be written, the authority cannot, not even by root.
    try FileManager.default.createDirectory(atPath: folder + "/data", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: folder + "/data/tls", withDestinationPath: "/proc/self")
    let half = try await start([])
    #expect(half.exit == .code(73) && half.errors.contains("certificate"), "\(half.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/data") == ["tls"])
    try FileManager.default.removeItem(atPath: folder + "/data/tls")
    _ = try await start([]).expected()
    // The control: what belongs to a node is not removed by an init that fails beside it.
    #expect(try await start([]).exit == .code(73))
    #expect(FileManager.default.fileExists(atPath: folder + "/data/keys/node.key"))
    try FileManager.default.removeItem(atPath: folder + "/federation.toml")
    let orphaned = try await start([])
    #expect(orphaned.exit == .code(73) && orphaned.errors.contains("was cut off"), "\(orphaned.errors)")
    #expect(FileManager.default.fileExists(atPath: folder + "/data/keys/node.key"))
  }

  @Test("a data directory keeps to the node that it was made for")
  func ownership() async throws {
    let acme = try await Organisation.running("acme.example")
    #expect(try await acme.stop() == .code(0))
    let good = try String(contentsOfFile: acme.config, encoding: .utf8)
    try Data(good.replacing("name = \"acme.example\"", with: "name = \"other.example\"").utf8)
      .write(to: URL(fileURLWithPath: acme.config))
    let renamed = try await Program.node.run(["serve", "--config", acme.config])
    #expect(renamed.exit == .code(78) && renamed.errors.contains("belongs to the node acme.example"))
    try Data(good.utf8).write(to: URL(fileURLWithPath: acme.config))

    let other = try await Organisation("globex.example")
    let key = try Data(contentsOf: URL(fileURLWithPath: acme.data + "/keys/node.key"))
    let foreign = try Data(contentsOf: URL(fileURLWithPath: other.data + "/keys/node.key"))
    try foreign.write(to: URL(fileURLWithPath: acme.data + "/keys/node.key"))
    let exchanged = try await Program.node.run(["serve", "--config", acme.config])
    #expect(
      exchanged.exit == .code(78) && exchanged.errors.contains(acme.nodeID.description), "\(exchanged.errors)"
    )
    // The control.
    try key.write(to: URL(fileURLWithPath: acme.data + "/keys/node.key"))
    try await acme.start()
  }
}
