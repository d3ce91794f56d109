import EngramCore
import EngramCrypto
import EngramWire
import NIOCore
import NIOPosix

/// Fresh nodes with a sender and a recipient, both connected: what every run starts from.
struct Stage {
  let home: Organisation
  /// The recipient's node; the same as `home` in runs with one node.
  let destination: Organisation
  let sender: Device
  let recipient: Device
  let senderSession: String
  let recipientSession: String

  var organisations: [Organisation] { home === destination ? [home] : [home, destination] }
  var pids: [Int32] { organisations.map(\.pid) }
  var names: [String] { home === destination ? ["node"] : ["origin", "destination"] }

  /// Starts one node when both devices live on the same, otherwise two that federate.
  static func set(_ sender: Device, _ recipient: Device, options: BenchOptions) async throws -> Stage {
    let home = try await organisation(sender.address.node, options)
    var destination = home
    if recipient.address.node != sender.address.node {
      destination = try await organisation(recipient.address.node, options)
      try await home.pin(destination)
      try await destination.pin(home)
      try await home.waitForLink(to: destination)
      try await destination.waitForLink(to: home)
    }
    try await home.register(sender)
    try await destination.register(recipient)
    return Stage(
      home: home, destination: destination, sender: sender, recipient: recipient,
      senderSession: try await home.openSession(sender),
      recipientSession: try await destination.openSession(recipient))
  }

  private static func organisation(_ name: NodeName, _ options: BenchOptions) async throws -> Organisation {
    try await Organisation(
      name.text, binary: options.nodeBinary, directory: "\(options.directory)/\(name.text)")
  }

  func clear(keep: Bool) async throws {
    for organisation in organisations { try await organisation.stop(keep: keep) }
  }

  func senderLink(
    on group: any EventLoopGroup, _ receive: @escaping @Sendable (ByteBuffer) -> Void
  ) async throws -> WebSocketConnection {
    try await openLink(home, sender, senderSession, group, receive)
  }

  func recipientLink(
    on group: any EventLoopGroup, _ receive: @escaping @Sendable (ByteBuffer) -> Void
  ) async throws -> WebSocketConnection {
    try await openLink(destination, recipient, recipientSession, group, receive)
  }
}

/// A realtime connection of a device. `receive` runs on the event loop.
func openLink(
  _ organisation: Organisation, _ device: Device, _ session: String, _ group: any EventLoopGroup,
  _ receive: @escaping @Sendable (ByteBuffer) -> Void
) async throws -> WebSocketConnection {
  let opening = try await WebSocketConnection.connect(
    endpoint: organisation.endpoint, path: "/api/v1/agents/\(device.address.text)/realtime",
    headers: [WireHeader("authorization", "Bearer \(session)")], delivery: .callback(receive),
    eventLoopGroup: group)
  switch opening {
  case .declined(let response):
    throw BenchError("\(device.address) was refused a realtime connection: \(response.status)")
  case .open(let connection): return connection
  }
}
