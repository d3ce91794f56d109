import EngramConfig
import EngramCore
import EngramHTTP
import EngramStore
import Foundation
import NIOCore

/// Opens the store of the data directory, which it makes when there is none.
func openStore(_ configuration: NodeConfiguration, synchronous: Synchronous) throws(Failure) -> Store {
  let folder = configuration.dataDirectory
  var made = NewFiles()
  try made.makeFolder(folder)
  let path = (folder as NSString).appendingPathComponent("node.db")
  do throws(StoreError) {
    return try Store(path: path, options: StoreOptions(synchronous: synchronous))
  } catch {
    switch error {
    case .locked:
      throw Failure(.unavailable, "another process has \(folder) open", hint: "stop it first")
    case .schemaTooNew:
      throw Failure(.configuration, "\(path) was written by a newer version", hint: "upgrade engram-node")
    case .full:
      throw Failure(.ioError, "the disk of \(folder) is full", hint: "free some space and start again")
    case .corrupt, .damaged:
      throw Failure(
        .damaged, "\(path) is damaged, or is not a store of this program",
        hint: "restore the folder from a backup; what came after the backup, peers and clients send again")
    case .notDurable:
      throw Failure(
        .configuration, "the file system of \(folder) cannot promise that commits survive a power cut",
        hint: "put `data_dir` on a local disk")
    case .fsyncFailed:
      throw Failure(.ioError, "the disk of \(folder) fails to write", hint: "look at the kernel's log")
    default:
      throw Failure(.ioError, "\(path) cannot be opened: \(error)")
    }
  }
}

/// Writes name and node id of this node into a new store, and refuses a store of another node: its clients'
/// addresses, their certificates and what peers have pinned would no longer fit.
func claim(_ store: Store, for configuration: NodeConfiguration, _ id: NodeID) throws {
  let name = configuration.name.text
  let wanted = [("node.name", Array(name.utf8)), ("node.id", id.bytes)]
  var found: [[UInt8]?] = []
  do {
    found = try store.read { snapshot in try wanted.map { try snapshot.value($0.0) } }
    if found.allSatisfy({ $0 == nil }) {
      try store.write { transaction in
        for (key, value) in wanted { try transaction.setValue(value, for: key) }
      }
      return
    }
  } catch {
    throw Failure(.ioError, "the store of \(configuration.dataDirectory) cannot be read or written")
  }
  guard found[0] == wanted[0].1 else {
    let owner = String(decoding: found[0] ?? [], as: UTF8.self)
    throw Failure(
      .configuration, "\(configuration.dataDirectory) belongs to the node \(owner), not to \(name)",
      hint: "`name` in [node] cannot change; another node needs a `data_dir` of its own")
  }
  guard found[1] == wanted[1].1 else {
    let owner = (try? NodeID((found[1] ?? [])[...])).map { "\($0)" } ?? "another node id"
    throw Failure(
      .configuration,
      "\(configuration.dataDirectory) belongs to another identity key than the configured one",
      hint: "`identity_key` in [node] has to be the key of \(owner)")
  }
}

/// Why a node with a good configuration did not come up.
func startFailure(_ error: any Error, _ configuration: NodeConfiguration) -> Failure {
  let listen = configuration.listen
  switch error {
  case let error as Failure: return error
  case let error as AdminSocketError: return adminFailure(error, configuration.adminSocketPath)
  case let error as IOError:
    switch error.errnoCode {
    case EADDRINUSE:
      return Failure(
        .unavailable, "something listens on \(listen) already", hint: "change `listen` in [node]")
    case EACCES, EPERM:
      return Failure(
        .notAllowed, "this user may not listen on \(listen)", hint: "ports below 1024 need a capability")
    case EADDRNOTAVAIL:
      return Failure(
        .configuration, "\(listen) is not an address of this machine",
        hint: "`listen` in [node] is an address of its own, or 0.0.0.0 or [::] for all of them")
    default:
      return Failure(
        .failed, "the node cannot listen on \(listen): \(String(cString: strerror(error.errnoCode)))")
    }
  case is SocketAddressError, is SocketAddressError.UnknownHost:
    return Failure(
      .configuration, "the host of \(listen) has no address", hint: "see `listen` in [node]")
  default: return Failure(.failed, "the node could not start: \(type(of: error))")
  }
}

private func adminFailure(_ error: AdminSocketError, _ path: String) -> Failure {
  let folder = (path as NSString).deletingLastPathComponent
  let socket = "the admin socket \(path)"
  switch error {
  case .inUse:
    return Failure(.unavailable, "another process listens on \(socket)", hint: "stop it first")
  case .directoryWritableByOthers:
    return Failure(
      .notAllowed, "others than its owner may write to \(folder), and so put a socket of their own there",
      hint: "chmod go-w \(folder), or set `admin_socket` in [node]")
  case .notASocket:
    return Failure(
      .cannotCreate, "\(path) is there and is not a socket",
      hint: "move it away, or set `admin_socket` in [node]")
  case .pathTooLong:
    return Failure(
      .configuration, "\(path) is longer than the 107 bytes that a Unix socket's path may have",
      hint: "set `admin_socket` in [node] to a shorter path, for instance below /run")
  case .system(let code):
    return Failure(.cannotCreate, "\(socket) \(SystemFailure(code: code).sentence)")
  }
}
