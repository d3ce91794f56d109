package import EngramNode
import Glibc
import Hummingbird
package import Logging
package import NIOCore
import NIOPosix
import Synchronization

/// Why the administration's socket could not be opened.
package enum AdminSocketError: Error, Equatable, Sendable {
  /// Another process listens on the path.
  case inUse
  /// Others than the owner may write to the directory, so they could put a socket of their own there.
  case directoryWritableByOthers
  /// Something that is not a socket has the path's name.
  case notASocket
  /// Longer than `sun_path` takes (107 bytes).
  case pathTooLong
  /// A system call failed, `errno` of which this is.
  case system(errno: Int32)
}

/// The administration's socket: HTTP/1.1 with JSON on a Unix path, for the owner of the process and root
/// only.
package final class AdminSocket: Sendable {
  private let path: String
  private let group: any EventLoopGroup
  private let http: HTTPConnection
  private let parts: AdminParts
  private let connections = ConnectionTable()
  private let server = Mutex<(any Channel)?>(nil)
  /// Asks who is at the other end; replaced in tests, which run as one user.
  private let peerUser: @Sendable (any Channel) -> EventLoopFuture<uid_t>

  package init(
    path: String, node: Node, peers: AdminPeers, version: String, group: any EventLoopGroup, log: Logger,
    samples: @escaping @Sendable () -> [MetricSample] = { [] },
    peerUser: @escaping @Sendable (any Channel) -> EventLoopFuture<UInt32> = connectedUser
  ) {
    (self.path, self.group, self.peerUser) = (path, group, peerUser)
    parts = AdminParts(
      node: node, peers: peers, version: version, metrics: HTTPMetrics(), samples: samples, log: log)
    http = HTTPConnection(
      responder: adminRouter(parts).buildResponder(), nowMs: { node.clock.nowMs() }, log: log)
  }

  /// Binds the path with mode 0600. A socket file that a dead process left behind is replaced.
  package func start() async throws {
    let descriptor = try boundSocket(path)
    let channel = try await ServerBootstrap(group: group)
      .childChannelOption(.allowRemoteHalfClosure, value: true)
      .childChannelInitializer { [self] channel in accept(channel) }
      .withBoundSocket(descriptor).get()
    server.withLock { $0 = channel }
  }

  private func accept(_ channel: any Channel) -> EventLoopFuture<Void> {
    guard connections.admit(channel, max: HTTPLimits.adminConnectionsMax, kind: .http) else {
      return channel.eventLoop.makeFailedFuture(AdminSocketError.system(errno: EMFILE))
    }
    channel.closeFuture.whenComplete { [connections] _ in connections.remove(channel) }
    return peerUser(channel).flatMapThrowing { [self] user in
      guard user == geteuid() || user == 0 else {
        parts.log.warning("administration refused", metadata: ["uid": "\(user)"])
        throw AdminSocketError.system(errno: EACCES)
      }
      let timeouts = ConnectionGuard.Timeouts(
        firstRequest: .seconds(10), keepAlive: .seconds(75), body: .seconds(60))
      _ = try HTTPCodec(addingTo: channel, timeouts: timeouts, metrics: parts.metrics)
      try http.serve(channel)
    }
  }

  /// Takes no more connections, answers what is in progress within `timeout`, and removes the socket file.
  package func stop(within timeout: TimeAmount = .seconds(2)) async {
    let channel = server.withLock { server in
      defer { server = nil }
      return server
    }
    guard let channel else { return }
    unlink(path)
    try? await channel.close().get()
    for (channel, _) in connections.own() {
      channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    }
    let deadline = group.any().scheduleTask(in: timeout) { [connections] in
      for (channel, _) in connections.own() { channel.close(promise: nil) }
    }
    await connections.drained()
    deadline.cancel()
  }
}

/// `SO_PEERCRED` of unix(7): the user that the other end ran as when it connected.
package func connectedUser(_ channel: any Channel) -> EventLoopFuture<UInt32> {
  guard let provider = channel as? any SocketOptionProvider else {
    return channel.eventLoop.makeFailedFuture(AdminSocketError.system(errno: ENOTSUP))
  }
  let credentials: EventLoopFuture<PeerCredentials> = provider.unsafeGetSocketOption(
    level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED))
  return credentials.map { $0.user }
}

/// `struct ucred` of unix(7), which Glibc shows only to C programs that define `_GNU_SOURCE`.
private struct PeerCredentials: Sendable {
  var process: pid_t = 0
  var user: uid_t = 0
  var group: gid_t = 0
}

// MARK: - The socket file

private func boundSocket(_ path: String) throws(AdminSocketError) -> CInt {
  try checkDirectory(of: path)
  let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  guard descriptor >= 0 else { throw .system(errno: errno) }
  do throws(AdminSocketError) {
    var address = try socketAddress(path)
    try removeStale(path, &address)
    // Between bind and chmod nobody can connect: the socket does not listen yet.
    try check(withSocketAddress(&address) { bind(descriptor, $0, $1) })
    try check(chmod(path, 0o600))
    try check(listen(descriptor, 64))
    return descriptor
  } catch {
    close(descriptor)
    throw error
  }
}

private func checkDirectory(of path: String) throws(AdminSocketError) {
  let parent = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
  var info = stat()
  try check(stat(parent, &info))
  guard info.st_mode & 0o022 == 0 else { throw .directoryWritableByOthers }
}

/// A socket file is stale when nobody accepts on it.
private func removeStale(_ path: String, _ address: inout sockaddr_un) throws(AdminSocketError) {
  var info = stat()
  guard lstat(path, &info) == 0 else {
    if errno == ENOENT { return }
    throw .system(errno: errno)
  }
  guard info.st_mode & S_IFMT == S_IFSOCK else { throw .notASocket }
  let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  guard probe >= 0 else { throw .system(errno: errno) }
  defer { close(probe) }
  guard withSocketAddress(&address, { connect(probe, $0, $1) }) != 0, errno == ECONNREFUSED else {
    throw .inUse
  }
  try check(unlink(path))
}

private func socketAddress(_ path: String) throws(AdminSocketError) -> sockaddr_un {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  let bytes = Array(path.utf8) + [0]
  guard bytes.count <= MemoryLayout.size(ofValue: address.sun_path) else { throw .pathTooLong }
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  return address
}

private func withSocketAddress(
  _ address: inout sockaddr_un, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt
) -> CInt {
  withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
    }
  }
}

private func check(_ result: CInt) throws(AdminSocketError) {
  guard result == 0 else { throw .system(errno: errno) }
}
