import EngramClient
import Foundation

/// One organisation on loopback: a directory, a running `engram-node`, its clients' homes.
final class Organisation {
  let name: String
  let directory: String
  private let port: Int
  private let process = Process()

  var endpoint: String { "127.0.0.1:\(port)" }
  var configuration: String { "\(directory)/federation.toml" }
  var processID: Int32 { process.processIdentifier }
  func home(_ client: String) -> String { "\(directory)/clients/\(client)" }
  private var card: String { "\(directory)/peer.card" }

  /// How long a node may take to listen or to reach its peer before the demo gives up.
  private static let patience: TimeInterval = 30

  init(_ name: String, root: String) throws {
    self.name = name
    directory = "\(root)/\(name)"
    port = try freePort()
    try run("engram-node", ["init", "--name", name, "--dir", directory, "--listen", "127.0.0.1:\(port)"])
  }

  func start() throws {
    let log = "\(directory)/node.log"
    guard FileManager.default.createFile(atPath: log, contents: nil, attributes: [.posixPermissions: 0o600])
    else {
      throw DemoFailure("\(log) cannot be written")
    }
    process.executableURL = tool("engram-node")
    process.arguments = ["serve", "--config", configuration]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle(forWritingAtPath: log)
    try process.run()
    try wait(for: "\(name) to listen; its log is \(log)") {
      (try? output("engram-node", ["admin", "--config", configuration, "status", "--json"])) != nil
    }
    try output("engram-node", ["peer-card", "--config", configuration])
      .write(toFile: card, atomically: true, encoding: .utf8)
  }

  func federate(with other: Organisation) throws {
    try run("engram-node", ["admin", "--config", configuration, "peer", "add", other.card])
  }

  func awaitPeer(_ peer: String) throws {
    try wait(for: "the link from \(name) to \(peer)") {
      let status = try output(
        "engram-node", ["admin", "--config", configuration, "peer", "status", peer, "--json"])
      return status.contains("\"connected\"")
    }
  }

  /// Invites a client and registers it with the real command line.
  func register(_ client: String) throws {
    struct Invite: Decodable { var token: String }
    let text = try output(
      "engram-node", ["admin", "--config", configuration, "client", "invite", client, "--json"])
    let invite = try JSONDecoder().decode(Invite.self, from: Data(text.utf8))
    try run(
      "engram",
      [
        "init", "--node", endpoint, "--ca", "\(directory)/data/tls/ca.pem", "--invite", invite.token,
        "--home", home(client), "--no-passphrase",
      ])
  }

  func client(_ name: String) throws -> EngramClient { try EngramClient.open(home: home(name)) }

  func stop() {
    guard process.isRunning else { return }
    process.terminate()
    process.waitUntilExit()
  }

  private func wait(for what: String, until condition: () throws -> Bool) throws {
    let deadline = Date.now + Self.patience
    while try !condition() {
      guard Date.now < deadline else { throw DemoFailure("gave up waiting for \(what)") }
      Thread.sleep(forTimeInterval: 0.05)
    }
  }
}

/// A program that was built beside this one.
func tool(_ name: String) -> URL {
  URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    .appendingPathComponent(name)
}

/// Runs a program to its end; its messages are shown only when it fails.
@discardableResult
func output(_ program: String, _ arguments: [String]) throws -> String {
  let process = Process()
  let (out, err) = (Pipe(), Pipe())
  process.executableURL = tool(program)
  process.arguments = arguments
  process.standardInput = FileHandle.nullDevice
  (process.standardOutput, process.standardError) = (out, err)
  try process.run()
  let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  let messages = String(decoding: err.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  guard process.terminationStatus == 0 else {
    throw DemoFailure(
      "\(program) \(arguments.first ?? "") failed (\(process.terminationStatus))\n\(messages)")
  }
  return text
}

func run(_ program: String, _ arguments: [String]) throws { try output(program, arguments) }

/// A port that was free a moment ago: the peers must know each other's before either listens.
private func freePort() throws -> Int {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let bound = withUnsafeMutablePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
      bind(descriptor, generic, length) == 0 && getsockname(descriptor, generic, &length) == 0
    }
  }
  guard descriptor >= 0, bound else { throw DemoFailure("no free port on loopback") }
  return Int(UInt16(bigEndian: address.sin_port))
}
