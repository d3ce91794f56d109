package import EngramStore
package import Logging

/// One organisation's node: intake, routing, delivery, receipts, sessions, directory. Synchronous; reads run on the
/// caller's thread, writes on the one commit thread, where completions are called too.
package final class Node: Sendable {
  package let identity: NodeIdentity
  package let settings: NodeSettings
  package let clock: any Clock

  package init(
    identity: NodeIdentity, store: Store, settings: NodeSettings = NodeSettings(), clock: any Clock,
    random: any RandomSource, log: Logger
  ) {
    (self.identity, self.settings, self.clock) = (identity, settings, clock)
  }

  package func start() throws {}
  /// Refuses new work, commits what is queued, stops the commit thread.
  package func stop() {}
}
