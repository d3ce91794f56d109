package import NIOCore
internal import NIOPosix
internal import Synchronization

/// An HTTP/1.1 client of one endpoint, with a small pool of connections that are kept alive.
///
/// All its connections live on one event loop of the group.
package final class HTTPClient: Sendable {
  private let loop: any EventLoop
  private let pool: NIOLoopBoundBox<ConnectionPool?>
  private let authority: String
  private let lastID = Atomic<UInt64>(0)

  /// Connects to nothing yet; fails only when the endpoint's authorities cannot be read.
  package init(
    endpoint: Endpoint, limits: WireLimits = WireLimits(),
    eventLoopGroup: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
  ) throws(WireError) {
    let dialler = try Dialler(endpoint, limits: limits)
    let loop = eventLoopGroup.next()
    let pool = NIOLoopBoundBox.makeEmptyBox(valueType: ConnectionPool.self, eventLoop: loop)
    loop.execute {
      pool.value = ConnectionPool(dialler, limits: limits, loop: loop.assumeIsolated())
    }
    self.loop = loop
    self.pool = pool
    self.authority = endpoint.authority
  }

  deinit {
    loop.execute { [pool] in pool.value?.close() }
  }

  /// The answer, whatever its status. A request on a kept-alive connection that proves to be dead is repeated
  /// once if it is idempotent and nothing was received.
  package func send(_ request: WireRequest) async throws(WireError) -> WireResponse {
    let head = try request.head(authority: authority)
    let id = lastID.wrappingAdd(1, ordering: .relaxed).newValue
    let promise = loop.makePromise(of: WireResponse.self)
    loop.execute { [pool] in
      guard let pool = pool.value else { return promise.fail(WireError.closed) }
      pool.submit(id, head, request, promise)
    }
    do {
      return try await withTaskCancellationHandler {
        try await promise.futureResult.get()
      } onCancel: { [loop, pool] in
        loop.execute { pool.value?.abandon(id, .cancelled) }
      }
    } catch {
      throw WireError(error)
    }
  }

  /// Ends all requests with `closed` and all connections.
  package func close() async {
    try? await loop.submit { [pool] in pool.value?.close() }.get()
  }
}
