package import EngramNode
package import Logging
package import NIOCore
package import NIOPosix
import Synchronization

/// What every connection of the public port shares.
package final class Edge: Sendable {
  package let node: Node
  package let settings: ListenerSettings
  package let metrics = HTTPMetrics()
  let lanes: VerifyLanes
  /// For reads of the store, which must not hold up an event loop.
  let blocking: NIOThreadPool
  let bodies: ByteBudget
  /// WebSocket messages of which only a part has come.
  let partials: ByteBudget
  let signIns: SignInLimiter
  let polls = PollRegistry()
  let connections = ConnectionTable()
  /// Of the program, as `--version` prints it.
  let version: String
  let log: Logger
  private let moreSamples: @Sendable () -> [MetricSample]
  private let draining = Atomic<Bool>(false)

  /// - Parameter moreSamples: what other parts of the program add to `/metrics`.
  package init(
    node: Node, settings: ListenerSettings, group: any EventLoopGroup, blocking: NIOThreadPool,
    version: String,
    log: Logger, moreSamples: @escaping @Sendable () -> [MetricSample] = { [] }
  ) {
    (self.node, self.settings, self.blocking) = (node, settings, blocking)
    (self.version, self.log, self.moreSamples) = (version, log, moreSamples)
    lanes = VerifyLanes(group: group) { bytes, source in node.verify(bytes, from: source) }
    bodies = ByteBudget(bytes: settings.bodyBytesInFlightMax)
    partials = ByteBudget(bytes: settings.partialBytesMax)
    signIns = SignInLimiter(
      AttemptAllowance.Rate(
        perSecond: settings.signInsPerSecond,
        burst: settings.signInsPerSecond * HTTPLimits.signInBurstSeconds))
  }

  var isDraining: Bool { draining.load(ordering: .acquiring) }
  func beginDraining() { draining.store(true, ordering: .releasing) }

  /// False while starting, draining, or when the store no longer takes work.
  var isReady: Bool { !isDraining && node.isReady }

  /// What `/metrics` shows.
  package func samples() -> [MetricSample] {
    let fromNode = node.metrics.samples().map {
      MetricSample("engram_\($0.name)_total", .counter, labels: $0.labels, Double($0.value))
    }
    return fromNode + metrics.samples() + connections.samples() + moreSamples() + processSamples()
  }
}

/// Bytes that all connections may hold together; whoever finds none left is told to come back.
final class ByteBudget: Sendable {
  private let left: Mutex<Int>
  init(bytes: Int) { left = Mutex(bytes) }

  func take(_ count: Int) -> Bool {
    left.withLock { left in
      guard count <= left else { return false }
      left -= count
      return true
    }
  }

  func give(_ count: Int) { left.withLock { $0 += count } }
}
