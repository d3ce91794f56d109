import EngramCore
import EngramCrypto
import EngramTLS
import EngramWire
import Foundation
import Synchronization
import TestSupport
import Testing

/// One organisation as its administrator sees it: a folder, and `engram-node` run by hand.
final class Organisation: Sendable {
  let name: NodeName
  let directory: TemporaryDirectory
  let port: Int
  private let key: SigningKey
  private let process = Mutex<ChildProcess?>(nil)

  let folder: String
  var config: String { folder + "/federation.toml" }
  var data: String { folder + "/data" }
  var authority: String { data + "/tls/ca.pem" }
  var nodeID: NodeID { NodeID(key.publicKey) }
  var identityKey: SigningKey { key }
  var endpoint: Endpoint { .tls(host: "127.0.0.1", port: port, caFile: authority) }
  var certificate: TLSConfiguration.Identity {
    TLSConfiguration.Identity(certificateChainPath: data + "/tls/node.pem", keyPath: data + "/tls/node.key")
  }

  /// `engram-node init`, and nothing more.
  ///
  /// - Parameters:
  ///   - settings: further tables of federation.toml.
  ///   - folder: where to put it, on a file system of its own for instance. What the process says is kept
  ///     elsewhere.
  init(_ name: String, settings: String = "", in folder: String? = nil) async throws {
    self.name = try NodeName(name)
    directory = try TemporaryDirectory()
    port = try freePort()
    let folder = folder ?? directory.file("node")
    self.folder = folder
    let made = try await Program.node.run(
      ["init", "--name", name, "--dir", folder, "--listen", "127.0.0.1:\(port)"])
    _ = try made.expected()
    // Peers that restart are found again soon.
    let text = try String(contentsOfFile: folder + "/federation.toml", encoding: .utf8)
    let tables = settings.contains("[federation]") ? "" : "\n[federation]\ndial_backoff_max_ms = 500\n"
    try Data((text + tables + settings).utf8)
      .write(to: URL(fileURLWithPath: folder + "/federation.toml"))
    let keyFile = try SecretBytes.read(path: folder + "/data/keys/node.key")
    key = SigningKey(seed: try KeyFile.decode(keyFile, kind: "node-identity", passphrase: nil))
  }

  /// Init and serve.
  static func running(_ name: String, settings: String = "") async throws -> Organisation {
    let organisation = try await Organisation(name, settings: settings)
    try await organisation.start()
    return organisation
  }

  /// Two running organisations that have pinned each other and are connected.
  static func federation(
    _ first: String = "acme.example", _ second: String = "globex.example", settings: String = ""
  ) async throws -> (Organisation, Organisation) {
    async let one = running(first, settings: settings)
    async let two = running(second, settings: settings)
    let (a, b) = try await (one, two)
    try await a.pin(b)
    try await b.pin(a)
    try await a.connected(to: b)
    try await b.connected(to: a)
    return (a, b)
  }

  // MARK: - Life

  /// Starts the node and waits until it listens.
  func start(_ arguments: [String] = [], environment: [String: String] = [:]) async throws {
    let child = try ChildProcess(
      Program.node.path, ["serve", "--config", config] + arguments, log: directory.file("serve"),
      environment: environment)
    process.withLock { $0 = child }
    let before = child.output.count
    let listens = await eventually {
      child.output.dropFirst(before).contains("listens on") || child.exit != nil
    }
    guard listens, child.exit == nil else {
      throw Unexpected("the node did not start: \(child.errors.suffix(600))")
    }
  }

  var running: ChildProcess? { process.withLock { $0 } }
  var log: String { running?.errors ?? "" }

  /// As the kernel does it when memory runs out.
  func kill() async throws {
    let child = try #require(running)
    child.send(SIGKILL)
    try #require(await child.end() == .signal(SIGKILL))
  }

  /// As a service manager does it.
  @discardableResult
  func stop() async throws -> ChildProcess.Exit? {
    guard let child = running else { return nil }
    child.send(SIGTERM)
    return await child.end()
  }

  func pause() { running?.send(SIGSTOP) }
  func resume() { running?.send(SIGCONT) }

  // MARK: - Administration

  func admin(_ arguments: String..., input: String? = nil) async throws -> Finished {
    try await Program.node.run(["admin", "--config", config] + arguments, input: input)
  }

  func card() async throws -> String {
    try await Program.node.run(["peer-card", "--config", config]).expected()
  }

  /// Pins another organisation from its card.
  func pin(_ other: Organisation, endpoint: String? = nil) async throws {
    let extra = endpoint.map { ["--endpoint", $0] } ?? []
    let added = try await Program.node.run(
      ["admin", "--config", config, "peer", "add", "-"] + extra, input: try await other.card())
    _ = try added.expected()
  }

  func status() async throws -> NodeReport { try await admin("--json", "status").json() }

  func peer(_ other: Organisation) async throws -> PeerReport {
    try await admin("--json", "peer", "status", other.name.text).json()
  }

  func connected(to other: Organisation) async throws {
    let connected = try await eventually { try await peer(other).state == "connected" }
    guard connected else { throw Unexpected("\(name) and \(other.name) did not connect: \(log.suffix(800))") }
  }

  /// Invites, registers and signs in a client.
  func member(_ name: String) async throws -> Member {
    let device = try TestDevice("\(name)@\(self.name)", nowMs: nowMs())
    struct Invite: Decodable { let token: String }
    let invite: Invite = try await admin("--json", "client", "invite", name).json()
    let member = try Member(device, of: self)
    try await member.register(invite: invite.token)
    try await member.login()
    return member
  }

  /// A sample of `/metrics`, by its full name with labels.
  func metric(_ name: String) async throws -> Double? {
    let answer = try await HTTPClient(endpoint: endpoint).send(WireRequest("GET", "/metrics"))
    return String(decoding: answer.body, as: UTF8.self).split(separator: "\n")
      .first { $0.hasPrefix(name + " ") }.flatMap { Double($0.dropFirst(name.count + 1)) }
  }
}

/// What `admin --json status` says, as far as tests look at it.
struct NodeReport: Decodable, Sendable {
  var ready: Bool
  var messages: Int
  var openDeliveries: Int
  var sessions: Int
  var peers: [PeerReport]
}

struct PeerReport: Decodable, Sendable {
  struct Failure: Decodable, Sendable { var name: String }
  var name: String
  var state: String
  var queued: Int
  var lastError: Failure?
}

/// A port that nobody listens on, below the range from which the kernel picks for connections: a node that is
/// restarted finds it free again.
func freePort() throws -> Int {
  for _ in 0..<100 {
    let port = Int.random(in: 20_000..<32_000)
    let descriptor = try listeningSocket(port: port)
    guard descriptor >= 0 else { continue }
    close(descriptor)
    return port
  }
  throw Unexpected("no free port")
}

/// A socket that listens on loopback and accepts nothing by itself; -1 when the port is taken.
func listeningSocket(port: Int, backlog: Int32 = 1) throws -> Int32 {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  guard descriptor >= 0 else { throw Unexpected("no socket: errno \(errno)") }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = UInt16(port).bigEndian
  address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
  let bound = withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
    }
  }
  guard bound == 0, listen(descriptor, backlog) == 0 else {
    close(descriptor)
    return -1
  }
  return descriptor
}
