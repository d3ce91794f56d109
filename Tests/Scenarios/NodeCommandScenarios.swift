import Foundation
import TestSupport
import Testing

@Suite("The engram-node command")
struct NodeCommandScenarios {
  @Test("every command explains itself and all of its options, has an example and --json, and completes")
  func allCommands() async throws {
    let dump = try await Program.node.run(["--experimental-dump-help"]).expected()
    let leaves = try DescribedCommand.leaves(of: dump)
    #expect(
      leaves.count >= 18 && leaves.contains { $0.path == "engram-node admin queue drop" }, "the control")
    for (path, command) in leaves {
      #expect(command.abstract?.hasSuffix(".") == true, "\(path)")
      #expect(command.discussion?.contains(path) == true, "\(path) has no example")
      #expect(command.options.contains { $0.label == "json" }, "\(path) --json")
      if path.hasPrefix("engram-node admin ") {
        #expect(command.options.contains { $0.label == "config" && $0.isPath }, "\(path) --config")
      }
      for option in command.options {
        #expect(option.abstract?.isEmpty == false, "\(path): \(option.label) is not explained")
        if option.isPath { #expect(option.isCompleted, "\(path): \(option.label) is not completed") }
      }
    }
  }

  @Test("its shells complete commands, options and configuration files", arguments: ["bash", "zsh", "fish"])
  func completions(shell: String) async throws {
    let script = try await Program.node.run(["--generate-completion-script", shell]).expected()
    for word in ["invite", "requeue", "advertise", "toml"] { #expect(script.contains(word), "\(word)") }
  }

  @Test(
    "mistakes on the command line end with 64, before the node is asked, also in JSON",
    arguments: [
      ["admin", "queue", "list", "x"], ["admin", "queue", "list", "17", "--max", "0"],
      ["admin", "queue", "list", "17", "--max", "1001"], ["admin", "queue", "list", "17", "--after", "x"],
      ["admin", "queue", "list", "--max", "5"], ["admin", "queue", "list", "17", "--dead"],
      ["admin", "queue", "drop", "17"], ["admin", "client", "invite"], ["admin", "fly"], ["init"],
    ])
  func usage(_ words: [String]) async throws {
    let plain = try await Program.node.run(words)
    #expect(plain.exit == .code(64) && !plain.errors.isEmpty && plain.output.isEmpty)
    let json = try await Program.node.run(words + ["--json"])
    #expect(json.exit == .code(64) && json.errors.hasPrefix("{\"error\":{"), "\(json.errors)")
  }

  @Test("the last page may be as small as one message: what is right reaches the node")
  func control() async throws {
    let right = try await Program.node.run([
      "admin", "queue", "list", "17", "--max", "1", "--after", "3", "--config", "/nowhere/federation.toml",
    ])
    #expect(right.exit == .code(78), "there is no configuration, which is looked at after the words")
  }
}
