import ArgumentParser
import EngramClient
import Foundation

@main
struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engram-demo",
    abstract: "Two organisations on this machine exchange real files, sealed, and compare every byte.",
    discussion: """
      Creates acme.example and globex.example under --dir, starts both nodes, federates them, registers \
      one client each, and sends every chosen file both ways. Exits with 1 if a single byte or receipt is
      missing.
      """)

  @Option(
    help: "Where the two organisations are put; what an earlier run left there is replaced, nothing else.",
    completion: .directory)
  var dir = "demo-data"

  @Option(help: "How many files, chosen evenly over all sizes; the largest ones are always among them.")
  var files = 400

  @Option(name: .customLong("from"), help: "Folders to take the files from.", completion: .directory)
  var folders = ["/usr/share/doc", "/usr/share/common-licenses"]

  @Flag(help: "Leave both nodes running and say how to send a message by hand.")
  var keep = false

  func run() async throws {
    var nodes: [Organisation] = []
    do {
      let corpus = try Corpus(folders: folders, count: files)
      say("files      \(corpus.files.count), \(byteText(corpus.byteCount)), \(corpus.sizeRange)")
      let (acme, globex) = try await prepare(&nodes)
      let started = ContinuousClock.now
      let there = try await Exchange(from: acme.client("alice"), to: globex.client("bob"), corpus).run()
      let back = try await Exchange(from: globex.client("bob"), to: acme.client("alice"), corpus).run()
      report([there, back], seconds: (ContinuousClock.now - started).seconds)
      if keep { sayHow(acme, globex) } else { stop(nodes) }
      guard there.isComplete, back.isComplete else { throw ExitCode.failure }
    } catch let error as ExitCode {
      throw error
    } catch {
      stop(nodes)
      let (message, hint) =
        switch error {
        case let error as DemoFailure: (error.message, String?.none)
        case let error as EngramError: (error.message, error.hint)
        default: ((error as NSError).localizedDescription, String?.none)
        }
      let lines = [message] + (hint.map { ["hint: \($0)"] } ?? [])
      FileHandle.standardError.write(Data("engram-demo: \(lines.joined(separator: "\n"))\n".utf8))
      throw ExitCode.failure
    }
  }

  private func prepare(_ nodes: inout [Organisation]) async throws -> (
    acme: Organisation, globex: Organisation
  ) {
    let root = try emptyFolder()
    let acme = try Organisation("acme.example", root: root)
    let globex = try Organisation("globex.example", root: root)
    for organisation in [acme, globex] {
      try organisation.start()
      nodes.append(organisation)
      say("started    \(organisation.name) on \(organisation.endpoint)")
    }
    try acme.federate(with: globex)
    try globex.federate(with: acme)
    try acme.awaitPeer(globex.name)
    say("federated  mutual TLS 1.3, identities pinned on both sides")
    try acme.register("alice")
    try globex.register("bob")
    say("registered alice@\(acme.name) and bob@\(globex.name)\n")
    return (acme, globex)
  }

  /// Says that a folder is this program's own, to be removed by its next run.
  private static let mark = ".engram-demo"

  /// Empties the folder of an earlier run; any other one that holds something is somebody's data.
  private func emptyFolder() throws -> String {
    let root = URL(fileURLWithPath: dir).path
    let mark = root + "/" + Self.mark
    let files = FileManager.default
    if files.fileExists(atPath: root) {
      let content = try files.contentsOfDirectory(atPath: root)
      guard content.isEmpty || content.contains(Self.mark) else {
        throw DemoFailure(
          "\(root) holds something that no demo has put there; nothing was removed\n"
            + "hint: name an empty or new folder with --dir")
      }
      for name in content where name != Self.mark { try files.removeItem(atPath: root + "/" + name) }
    }
    try files.createDirectory(
      atPath: root, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    guard files.createFile(atPath: mark, contents: nil) else {
      throw DemoFailure("\(root) cannot be written")
    }
    return root
  }

  private func stop(_ nodes: [Organisation]) {
    for node in nodes { node.stop() }
  }

  private func report(_ exchanges: [ExchangeResult], seconds: Double) {
    say("")
    for result in exchanges {
      say(
        "\(result.direction)  \(result.identical) of \(result.sent) files identical, "
          + "\(byteText(result.bytes)), "
          + "p50 \(milliseconds(result.latency(0.50))), p99 \(milliseconds(result.latency(0.99))), "
          + "\(result.receiptsVerified) receipts verified")
      for problem in result.problems.prefix(10) { say("  problem: \(problem)") }
    }
    let bytes = exchanges.reduce(0) { $0 + $1.bytes }
    let failed = exchanges.contains { !$0.isComplete }
    say(
      "\(failed ? "FAILED" : "done")       \(exchanges.reduce(0) { $0 + $1.identical }) messages, "
        + "\(byteText(bytes)) in \(String(format: "%.1f", seconds)) s, every one sealed, signed, "
        + "federated, opened and compared")
  }

  private func sayHow(_ acme: Organisation, _ globex: Organisation) {
    say(
      """

      Both nodes keep running. By hand:
        \(tool("engram").path) send --home \(acme.home("alice")) --to bob@\(globex.name) --text 'hello'
        \(tool("engram").path) inbox --home \(globex.home("bob")) --ack
        \(tool("engram").path) trust --home \(acme.home("alice")) bob@\(globex.name)
        \(tool("engram-node").path) admin --config \(acme.configuration) status
      Stop them with: kill \(acme.processID) \(globex.processID)
      """)
  }
}

struct DemoFailure: Error {
  let message: String
  init(_ message: String) { self.message = message }
}

/// One line on standard output, at once: `print` would keep it back when the output is a pipe.
func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

func byteText(_ count: Int) -> String {
  count < 1_000_000 ? "\(count / 1_000) kB" : String(format: "%.1f MB", Double(count) / 1e6)
}

func milliseconds(_ seconds: Double) -> String { String(format: "%.1f ms", seconds * 1_000) }

extension Duration {
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
