internal import NIOCore
internal import NIOHTTP1

/// The connections of one client and the requests that wait for them. Lives on one event loop, which is its
/// only synchronisation.
final class ConnectionPool {
  /// One request on its way through the pool; `promise` is completed exactly once, by `finish`.
  private final class Exchange {
    let id: UInt64
    let head: HTTPRequestHead
    let body: [UInt8]
    let isIdempotent: Bool
    let promise: EventLoopPromise<WireResponse>
    var deadline: Scheduled<Void>?
    var connection: HTTPConnection?
    var isRetry = false
    var isFinished = false

    init(
      _ id: UInt64, _ head: HTTPRequestHead, _ request: WireRequest, _ promise: EventLoopPromise<WireResponse>
    ) {
      self.id = id
      self.head = head
      self.body = request.body
      self.isIdempotent = request.isIdempotent
      self.promise = promise
    }
  }

  private struct Idle {
    let connection: HTTPConnection
    let expiry: Scheduled<Void>
  }

  private let dialler: Dialler
  private let limits: WireLimits
  private let loop: NIOIsolatedEventLoop
  /// Last used last: the freshest is reused first, the others age out.
  private var idle: [Idle] = []
  private var waiting = CircularBuffer<Exchange>()
  private var exchanges: [UInt64: Exchange] = [:]
  /// Open or opening, idle ones included; at most `limits.connectionsMax`.
  private var connections = 0
  private var isClosed = false

  init(_ dialler: Dialler, limits: WireLimits, loop: NIOIsolatedEventLoop) {
    self.dialler = dialler
    self.limits = limits
    self.loop = loop
  }

  func submit(
    _ id: UInt64, _ head: HTTPRequestHead, _ request: WireRequest, _ promise: EventLoopPromise<WireResponse>
  ) {
    guard !isClosed else { return promise.fail(WireError.closed) }
    let exchange = Exchange(id, head, request, promise)
    exchanges[id] = exchange
    exchange.deadline = loop.scheduleTask(in: TimeAmount(limits.requestTimeout)) { [self] in
      abandon(id, .timeout)
    }
    if let connection = takeIdle() {
      start(exchange, on: connection, reused: true)
    } else if connections < limits.connectionsMax {
      connections += 1
      open(for: exchange)
    } else if waiting.count < limits.waitingMax {
      waiting.append(exchange)
    } else {
      finish(exchange, .failure(WireError.overloaded(limitRequests: limits.waitingMax)))
    }
  }

  /// Ends a request early: its connection goes with it, since the answer may still come.
  func abandon(_ id: UInt64, _ error: WireError) {
    guard let exchange = exchanges[id] else { return }
    let connection = exchange.connection
    finish(exchange, .failure(error))
    waiting.removeAll { $0 === exchange }
    connection?.close(error)
  }

  func close() {
    isClosed = true
    for exchange in Array(exchanges.values) { abandon(exchange.id, .closed) }
    for entry in idle { entry.connection.close() }
  }

  // MARK: - Steps of an exchange

  private func open(for exchange: Exchange) {
    dialler.dial(on: loop.nonisolated()).assumeIsolated().whenComplete { [self] result in
      switch result {
      case .success(let channel):
        do {
          let connection = HTTPConnection(limits: limits)
          try channel.pipeline.syncOperations.addHTTPClientHandlers(leftOverBytesStrategy: .dropBytes)
          try channel.pipeline.syncOperations.addHandler(connection)
          connected(connection, for: exchange)
        } catch {
          channel.close(promise: nil)
          failed(exchange, .closed)
        }
      case .failure(let error): failed(exchange, WireError(error))
      }
    }
  }

  private func connected(_ connection: HTTPConnection, for exchange: Exchange) {
    if isClosed {
      connection.close()
      connections -= 1
    } else if exchange.isFinished {
      giveBack(connection)
    } else {
      start(exchange, on: connection, reused: false)
    }
  }

  private func start(_ exchange: Exchange, on connection: HTTPConnection, reused: Bool) {
    exchange.connection = connection
    connection.run(exchange.head, body: exchange.body) { [self] end in
      exchange.connection = nil
      switch end {
      case .answered(let response, let reusable):
        if reusable { giveBack(connection) } else { releaseSlot() }
        finish(exchange, .success(response))
      case .failed(let error, let silently):
        // A kept-alive connection may have been closed by the server while the request was on its way.
        // Nothing was answered, so an idempotent request may go again, once, on a connection that is surely
        // fresh.
        let isStale = reused && silently && error.isEndOfConnection
        if isStale && exchange.isIdempotent && !exchange.isRetry && !exchange.isFinished && !isClosed {
          exchange.isRetry = true
          open(for: exchange)
        } else {
          failed(exchange, error)
        }
      }
    }
  }

  private func failed(_ exchange: Exchange, _ error: WireError) {
    releaseSlot()
    finish(exchange, .failure(error))
  }

  private func finish(_ exchange: Exchange, _ result: Result<WireResponse, any Error>) {
    guard !exchange.isFinished else { return }
    exchange.isFinished = true
    exchange.deadline?.cancel()
    exchanges[exchange.id] = nil
    exchange.promise.completeWith(result)
  }

  // MARK: - Connections

  private func takeIdle() -> HTTPConnection? {
    while let entry = idle.popLast() {
      entry.expiry.cancel()
      entry.connection.onIdleClose = nil
      if entry.connection.isUsable { return entry.connection }
      connections -= 1
    }
    return nil
  }

  private func giveBack(_ connection: HTTPConnection) {
    guard connection.isUsable && !isClosed else {
      connection.close()
      return releaseSlot()
    }
    if let next = waiting.popFirst() { return start(next, on: connection, reused: true) }
    let expiry = loop.scheduleTask(in: TimeAmount(limits.idleTimeout)) { connection.close() }
    connection.onIdleClose = { [self] in
      idle.removeAll { $0.connection === connection }
      expiry.cancel()
      releaseSlot()
    }
    idle.append(Idle(connection: connection, expiry: expiry))
  }

  private func releaseSlot() {
    connections -= 1
    guard !isClosed, let next = waiting.popFirst() else { return }
    connections += 1
    open(for: next)
  }
}
