import EngramCore
import EngramWire
import Foundation
import NIOCore
import NIOPosix

/// Memory of a node per WebSocket that says nothing: many connections over TLS, of several devices.
struct IdleConnections {
  let options: BenchOptions
  let group: MultiThreadedEventLoopGroup

  private static let devices = 10
  /// Connections being opened at the same time; a handshake costs the node about 1 ms.
  private static let openingMax = 16

  func run(count: Int) async throws -> Figures {
    let node = try await Organisation(
      "acme.example", binary: options.nodeBinary, directory: "\(options.directory)/acme.example")
    var sessions: [(Device, String)] = []
    for number in 0..<Self.devices {
      let device = try Device("idle\(number)@acme.example")
      try await node.register(device)
      sessions.append((device, try await node.openSession(device)))
    }
    let first = MachineSample(pids: [node.pid])
    let began = monotonicNs()
    let links = try await open(count, node, sessions)
    let connectSeconds = Double(monotonicNs() - began) / 1e9
    try await Task.sleep(for: .seconds(options.idleSettle))
    let last = MachineSample(pids: [node.pid])
    try await Task.sleep(for: .seconds(options.duration))
    let later = MachineSample(pids: [node.pid])

    var figures: Figures = ["connections": Double(count), "load_1min": loadAverage()]
    if let before = first.nodes.first, let after = last.nodes.first, let idle = later.nodes.first {
      figures["rss_per_connection_kib"] = Double(after.rssBytes - before.rssBytes) / 1_024 / Double(count)
      figures["rss_before_mib"] = Double(before.rssBytes) / 1_048_576
      figures["rss_node_mib"] = Double(after.rssBytes) / 1_048_576
      figures["cpu_connect_us"] = (after.cpuSeconds - before.cpuSeconds) / Double(count) * 1e6
      let idleSeconds = Double(later.timeNs - last.timeNs) / 1e9
      figures["cpu_idle_percent"] = (idle.cpuSeconds - after.cpuSeconds) / idleSeconds * 100
    }
    figures["connected_per_s"] = Double(count) / connectSeconds
    try await close(links)
    try await node.stop(keep: options.keep)
    return figures
  }

  private func open(
    _ count: Int, _ node: Organisation, _ sessions: [(Device, String)]
  ) async throws -> [WebSocketConnection] {
    try await withThrowingTaskGroup(of: WebSocketConnection.self) { tasks in
      var links: [WebSocketConnection] = []
      for number in 0..<count {
        if number >= Self.openingMax, let link = try await tasks.next() { links.append(link) }
        let (device, session) = sessions[number % sessions.count]
        tasks.addTask { [group] in
          let link = try await openLink(node, device, session, group) { _ in }
          link.post(binary: ByteBuffer(bytes: RealtimeFrame.credit(64).encoded()))
          return link
        }
      }
      for try await link in tasks { links.append(link) }
      return links
    }
  }

  private func close(_ links: [WebSocketConnection]) async throws {
    await withTaskGroup(of: Void.self) { tasks in
      for link in links { tasks.addTask { await link.close() } }
    }
  }
}
