import EngramCore
import EngramCrypto
import EngramWire
import Foundation
import Synchronization

/// Why a run could not be made. Says what was asked of whom.
struct BenchError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// One organisation: a fresh `engram-node` process with its own directory, and ways to talk to it.
final class Organisation: Sendable {
  let name: String
  let nodeID: NodeID
  let endpoint: Endpoint
  let port: Int
  /// PEM, for clients.
  let caFile: String
  let api: HTTPClient
  private let admin: HTTPClient
  private let running: Mutex<Process>
  private let config: String
  private let environment: [String: String]
  private let binary: String
  private let directory: String

  var pid: Int32 { running.withLock { $0.processIdentifier } }

  /// Creates a node in `directory` and waits until it serves. `environment` replaces keys of its
  /// configuration.
  init(
    _ name: String, binary: String, directory: String, environment: [String: String] = [:]
  ) async throws {
    let port = try freePort()
    let created: InitReport = try Self.tool(
      binary, ["init", "--name", name, "--dir", directory, "--listen", "127.0.0.1:\(port)", "--json"])
    self.name = name
    self.binary = binary
    self.directory = directory
    nodeID = try NodeID(parsing: created.nodeId)
    self.port = port
    caFile = created.ca
    endpoint = .tls(host: "127.0.0.1", port: port, caFile: created.ca)
    config = created.config
    self.environment = environment
    let process = try Self.serve(binary, config: config, log: "\(directory)/log", environment)
    Children.add(process.processIdentifier)
    running = Mutex(process)
    var limits = WireLimits()
    limits.connectionsMax = 16
    api = try HTTPClient(endpoint: endpoint, limits: limits)
    admin = try HTTPClient(endpoint: .unix(path: "\(directory)/data/admin.sock"))
    try await waitUntil("\(name) is ready, see \(directory)/log") {
      try await self.status()?.ready == true
    }
  }

  /// Ends the process and removes its directory.
  func stop(keep: Bool) async throws {
    await api.close()
    await admin.close()
    try await end(SIGTERM)
    if !keep { try FileManager.default.removeItem(atPath: directory) }
  }

  private func end(_ signal: Int32) async throws {
    let pid = self.pid
    kill(pid, signal)
    let deadline = monotonicNs() + 20_000_000_000
    while running.withLock({ $0.isRunning }) {
      if monotonicNs() > deadline { kill(pid, SIGKILL) }
      try await Task.sleep(for: .milliseconds(20))
    }
    Children.remove(pid)
  }

  /// Ends the process with `signal` and starts it anew on the same directory.
  /// - Returns: ms from the start of the process to the first `readyz` that says 200.
  func restart(_ signal: Int32) async throws -> Double {
    try await end(signal)
    let began = monotonicNs()
    let process = try Self.serve(binary, config: config, log: "\(directory)/log", environment)
    Children.add(process.processIdentifier)
    running.withLock { $0 = process }
    let deadline = began + 300_000_000_000
    while true {
      let status = try? await api.send(WireRequest("GET", "/readyz")).status
      if status == 200 { return Double(monotonicNs() - began) / 1e6 }
      guard monotonicNs() < deadline, process.isRunning else {
        throw BenchError("\(name) did not become ready again, see \(directory)/log")
      }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  /// Bytes of everything below the node's directory.
  var diskBytes: Int {
    let files = FileManager.default.enumerator(atPath: directory)
    return files?.reduce(0) { sum, file in
      let path = "\(directory)/\(file)"
      let attributes = try? FileManager.default.attributesOfItem(atPath: path)
      return sum + (attributes?[.size] as? Int ?? 0)
    } ?? 0
  }

  // MARK: - Administration

  struct Status: Decodable {
    var ready: Bool
  }

  /// nil while nobody listens on the socket.
  func status() async throws -> Status? {
    let response: WireResponse
    do throws(WireError) { response = try await admin.send(WireRequest("GET", "/admin/v1/status")) } catch {
      return nil
    }
    return response.status == 200 ? try JSONDecoder().decode(Status.self, from: Data(response.body)) : nil
  }

  /// Pins `other` here; the other side does the same, then both wait for the link.
  func pin(_ other: Organisation) async throws {
    let card = try Self.output(other.binary, ["peer-card", "--config", "\(other.directory)/federation.toml"])
    _ = try await ask("POST", "peers", body: Array(card))
  }

  func waitForLink(to other: Organisation) async throws {
    try await waitUntil("\(name) is connected with \(other.name)") {
      let peers = try await self.ask("GET", "peers", body: nil)
      return try JSONDecoder().decode(PeerList.self, from: Data(peers)).peers.contains {
        $0.name == other.name && $0.state == "connected"
      }
    }
  }

  private func ask(_ method: String, _ path: String, body: [UInt8]?) async throws -> [UInt8] {
    var request = WireRequest(method, "/admin/v1/\(path)")
    if let body {
      request.headers = [WireHeader("content-type", "application/json")]
      request.body = body
    }
    let response = try await admin.send(request)
    guard (200..<300).contains(response.status) else {
      throw BenchError("\(name) answered \(response.status) to \(method) \(path): \(text(response.body))")
    }
    return response.body
  }

  private struct InitReport: Decodable {
    var nodeId: String
    var config: String
    var ca: String
  }
  private struct PeerList: Decodable {
    struct Peer: Decodable {
      var name: String
      var state: String
    }
    var peers: [Peer]
  }
  private struct Invite: Decodable { var token: String }

  // MARK: - Clients

  /// A one-time token for a new client.
  func invite(_ name: String) async throws -> String {
    let answer = try await ask(
      "POST", "clients/invite", body: Array(#"{"name":"\#(name)","ttl_hours":1}"#.utf8))
    return try JSONDecoder().decode(Invite.self, from: Data(answer)).token
  }

  /// Registers a device through the public API, with an invite of the administrator.
  func register(_ device: Device) async throws {
    let invite = try await invite(String(device.address.text.prefix { $0 != "@" }))
    let response = try await api.send(
      WireRequest(
        "POST", "/api/v1/agents/register",
        headers: [WireHeader("content-type", "application/vnd.engram.registration")],
        body: device.registration(node: nodeID, invite: invite)))
    guard response.status == 201 else {
      throw BenchError("\(device.address) was not registered: \(response.status) \(text(response.body))")
    }
  }

  /// The bearer of a fresh session.
  func openSession(_ device: Device) async throws -> String {
    struct Answer: Decodable { var session: String }
    let token = DeviceToken.mint(
      address: device.address, device: device.key, node: nodeID, nowMs: wallClockMs())
    let response = try await api.send(
      WireRequest("POST", "/api/v1/sessions", headers: [WireHeader("authorization", "Bearer \(token)")]))
    guard response.status == 201 else {
      throw BenchError("\(device.address) got no session: \(response.status) \(text(response.body))")
    }
    return try JSONDecoder().decode(Answer.self, from: Data(response.body)).session
  }

  /// What waits for a device: ready, held and leased.
  struct Queue: Decodable {
    var waiting: Int
    var held: Int
    var leased: Int
  }

  func queue(of device: Device, _ session: String) async throws -> Queue {
    let body = try await request("GET", "agents/\(device.address.text)/queue", session)
    return try JSONDecoder().decode(Queue.self, from: Data(body))
  }

  /// One request of a client, which has to succeed.
  @discardableResult
  func request(_ method: String, _ path: String, _ session: String) async throws -> [UInt8] {
    let headers = [WireHeader("authorization", "Bearer \(session)")]
    let response = try await api.send(WireRequest(method, "/api/v1/\(path)", headers: headers))
    guard (200..<300).contains(response.status) else {
      throw BenchError("\(name) answered \(response.status) to \(method) \(path): \(text(response.body))")
    }
    return response.body
  }

  /// The value of a metric without labels.
  func metric(_ name: String) async throws -> Double {
    let response = try await api.send(WireRequest("GET", "/metrics"))
    let lines = String(decoding: response.body, as: UTF8.self).split(separator: "\n")
    guard response.status == 200,
      let value = lines.first(where: { $0.hasPrefix("\(name) ") })?.split(separator: " ").last
    else { throw BenchError("\(self.name) has no metric \(name)") }
    return Double(value) ?? .nan
  }

  // MARK: - Processes

  private static func serve(
    _ binary: String, config: String, log: String, _ environment: [String: String]
  ) throws -> Process {
    let isThere = FileManager.default.fileExists(atPath: log)
    guard isThere || FileManager.default.createFile(atPath: log, contents: nil),
      let file = FileHandle(forWritingAtPath: log)
    else { throw BenchError("\(log) cannot be written") }
    try file.seekToEnd()
    let process = Process()
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.executableURL = URL(fileURLWithPath: binary)
    process.arguments = ["serve", "--config", config]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = file
    process.standardError = file
    try process.run()
    return process
  }

  private static func tool<Answer: Decodable>(_ binary: String, _ arguments: [String]) throws -> Answer {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try decoder.decode(Answer.self, from: output(binary, arguments))
  }

  /// Standard output of a short command.
  static func output(_ binary: String, _ arguments: [String]) throws -> Data {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: binary)
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw BenchError(
        "\(binary) \(arguments.joined(separator: " ")) ended with \(process.terminationStatus)")
    }
    return data
  }
}

private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes.prefix(400), as: UTF8.self) }

/// Asks every 50 ms, for 30 s at most.
func waitUntil(_ what: String, _ condition: () async throws -> Bool) async throws {
  let deadline = monotonicNs() + 30_000_000_000
  while try await !condition() {
    guard monotonicNs() < deadline else { throw BenchError("waited 30 s in vain until \(what)") }
    try await Task.sleep(for: .milliseconds(50))
  }
}

/// A TCP port of 127.0.0.1 that was free a moment ago. Nodes are told their port, since peers must know it.
private func freePort() throws -> Int {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  guard descriptor >= 0 else { throw BenchError("no socket") }
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  let bound = withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
    }
  }
  guard bound else { throw BenchError("no free port") }
  return Int(UInt16(bigEndian: address.sin_port))
}
