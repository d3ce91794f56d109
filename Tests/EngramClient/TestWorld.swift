import EngramCore
import Foundation
import Synchronization

@testable import EngramClient

/// Turned by hand.
final class TestClock: Sendable {
  private let value = Mutex<UInt64>(1_800_000_000_000)
  var nowMs: UInt64 { value.withLock { $0 } }
  func advance(ms: UInt64) { value.withLock { $0 += ms } }
}

/// Two organisations that federate, and a folder for homes.
final class TestWorld: Sendable {
  let clock = TestClock()
  let acme: FakeNode
  let globex: FakeNode
  let folder: String

  init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "engram-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    acme = try FakeNode("acme.example", clock: clock)
    globex = try FakeNode("globex.example", clock: clock)
    let (a, g) = (acme, globex)
    acme.set { $0.peers = [g.name: g] }
    globex.set { $0.peers = [a.name: a] }
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  func register(_ name: String, at node: FakeNode, home: String? = nil) async throws -> EngramClient {
    let path = folder + "/" + (home ?? name)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return try await registrar(path).run(invite: node.invite(name), transport: node.transport)
  }

  func registrar(_ path: String) -> Registrar {
    Registrar(
      home: path, endpoint: "127.0.0.1:7443", serverName: "localhost", passphrase: nil,
      nowMs: { [clock] in clock.nowMs })
  }

  /// The same home in a new process, as it were.
  func reopen(_ name: String, at node: FakeNode) throws -> EngramClient {
    let (store, account, keys) = try EngramClient.openHome(folder + "/" + name, nil)
    return EngramClient(
      core: ClientCore(
        store: store, account: account, keys: keys, transport: node.transport,
        nowMs: { [clock] in clock.nowMs }))
  }
}
