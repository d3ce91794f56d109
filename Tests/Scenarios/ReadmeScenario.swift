import Foundation
import TestSupport
import Testing

@Suite("README.md can be followed by hand", .serialized, .timeLimit(.minutes(5)))
struct ReadmeScenario {
  /// The fenced commands of "By hand", as they stand there, and how it says to end.
  private func commands() throws -> [String] {
    let text = try String(contentsOf: Program.repository.appendingPathComponent("README.md"), encoding: .utf8)
    let start = try #require(text.range(of: "## By hand")).upperBound
    let end = try #require(text.range(of: "\n## ", range: start..<text.endIndex)).lowerBound
    let parts = text[start..<end].components(separatedBy: "```")
    let blocks = stride(from: 1, to: parts.count, by: 2).map { parts[$0] }
    return blocks.joined(separator: "\n").split(separator: "\n").map(String.init)
  }

  /// What a person adds: the programs are built already, ports may be taken, a node takes a moment to start
  /// and a message to arrive, the token is copied from the invite, and the terminal asks for a passphrase.
  private func script(_ lines: [String], ports: (Int, Int), home: String) -> String {
    let programs = URL(fileURLWithPath: Program.node.path).deletingLastPathComponent().path
    var script = [
      "set -eu", "export PATH='\(programs)':$PATH", "cd '\(home)'", "trap 'kill $(jobs -p) || true' EXIT",
      "echo correct horse > passphrase", "export ENGRAM_PASSPHRASE_FILE='\(home)/passphrase'",
    ]
    var invites = 0
    var registrations = 0
    for line in lines {
      var line = line.replacing(":7443", with: ":\(ports.0)").replacing(":7444", with: ":\(ports.1)")
      if line == "make build" || line.hasPrefix("export PATH") || line.contains("/tmp/engram") { continue }
      if line.contains("client invite") {
        invites += 1
        line = "TOKEN_\(invites)=$(\(line) | sed -nE 's/^  ([A-Za-z0-9_-]{20,})$/\\1/p')"
      }
      if line.contains("--invite TOKEN") {
        registrations += 1
        line = line.replacing("TOKEN", with: "$TOKEN_\(registrations)")
      }
      if line.hasPrefix("engram inbox") { line += " --wait 30s" }
      script.append(line)
      let config = line.split(separator: " ").first { $0.hasSuffix(".toml") }
      if line.contains(" serve "), let config {
        let ask = "engram-node admin --config \(config) status > /dev/null 2>&1"
        script.append("for _ in $(seq 300); do \(ask) && break; sleep 0.1; done")
      }
    }
    // What was set up by hand has to outlive its processes, started as it stands there.
    let status = "engram-node admin --config acme/federation.toml status > /dev/null 2>&1"
    let again = [
      "engram-node serve --config acme/federation.toml &", "again=$!",
      "for _ in $(seq 300); do \(status) && break; sleep 0.1; done",
      "engram-node admin --config acme/federation.toml peer list | sed 's/^/again: /'",
      "kill $again", "wait $again",
    ]
    return (script + ["kill %1 %2", "wait %1", "wait %2"] + again + ["trap - EXIT", "echo the end"]).joined(
      separator: "\n")
  }

  @Test("an administrator who types what it says ends with a message on the other side")
  func byHand() async throws {
    let directory = try TemporaryDirectory()
    let lines = try commands()
    #expect(lines.count > 12, "the commands were not found")
    let script = script(lines, ports: (try freePort(), try freePort()), home: directory.path)
    try Data(script.utf8).write(to: URL(fileURLWithPath: directory.file("by-hand")))
    let ended = try await runTool("/bin/bash", [directory.file("by-hand")])
    #expect(ended.succeeded, "\(ended.exit)\n\(ended.errors)\n\(ended.output)")
    for words in ["created acme.example", "pinned globex.example", "safety number", "state: accepted"] {
      #expect(ended.output.contains(words), "\(words)")
    }
    for words in ["the report is due on Friday", "count the chairs", "0 9 * * 1-5"] {
      #expect(ended.output.contains(words), "\(words)")
    }
    #expect(ended.output.contains("again: globex.example"), "the peer is gone after a restart")
    #expect(ended.output.hasSuffix("the end\n"))
  }
}
