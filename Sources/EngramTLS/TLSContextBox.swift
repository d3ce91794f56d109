internal import Synchronization

/// The context for the next connection; replacing it renews a certificate without touching open connections.
public final class TLSContextBox: Sendable {
  private let held: Mutex<TLSContext>

  public init(_ context: TLSContext) {
    held = Mutex(context)
  }

  public var current: TLSContext {
    held.withLock { $0 }
  }

  /// New connections use this context from now on.
  public func replace(with context: TLSContext) {
    held.withLock { $0 = context }
  }

  /// Reads certificate and key again. When that fails the old context stays in use.
  public func reload() throws(TLSSetupError) {
    replace(with: try TLSContext(current.configuration))
  }

  /// A handler for one connection, over the context of this moment.
  public func makeHandler(
    serverName: String? = nil, limits: TLSLimits = TLSLimits()
  ) throws(TLSError) -> TLSHandler {
    try TLSHandler(context: current, serverName: serverName, limits: limits)
  }
}
