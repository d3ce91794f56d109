internal import EngramClientStore
internal import EngramCore
internal import Synchronization

/// How much more the node may push: what is granted and not yet here, and what is here and not yet read,
/// never add up to more than the window. Granted in halves, so that a message costs far less than a frame.
struct CreditWindow: Sendable {
  let size: Int
  private(set) var granted = 0
  private(set) var unread = 0

  init(size: Int) { self.size = size }

  /// Items came; `kept` of them wait for the reader, the rest is done with.
  mutating func received(_ count: Int, kept: Int) {
    granted = max(0, granted - count)
    unread += kept
  }

  mutating func read(_ count: Int) { unread = max(0, unread - count) }

  /// A new connection knows nothing of what was granted on the last one.
  mutating func reconnected() { granted = 0 }

  /// What to grant now, 0 for "not worth a frame".
  mutating func grant() -> Int {
    let room = size - granted - unread
    guard room >= (size + 1) / 2 else { return 0 }
    granted += room
    return room
  }
}

/// The window, shared by the connection that fills it and the reader that empties it.
final class CreditGauge: Sendable {
  private let window = Mutex(CreditWindow(size: ClientLimits.liveCredit))
  func update<T: Sendable>(_ body: @Sendable (inout CreditWindow) -> T) -> T { window.withLock { body(&$0) } }
}

/// The life of a live connection: connect, grant credit, work through what comes, connect again.
struct LiveReader: Sendable {
  let client: EngramClient
  let queue: MessageQueue
  private let gauge = CreditGauge()
  private var core: ClientCore { client.core }

  init(client: EngramClient, queue: MessageQueue) { (self.client, self.queue) = (client, queue) }

  func run() async {
    do {
      try await client.mailbox.begin()
      let waiting = try await client.mailbox.take(max: .max)
      gauge.update { $0.received(0, kept: waiting.count) }
      await queue.add(waiting)
      try await keepConnected(connectOnce)
      await queue.finish(nil)
    } catch is CancellationError {
      await queue.finish(nil)
    } catch { await queue.finish(EngramError(error)) }
  }

  /// One connection from start to end.
  /// - Returns: true when it was open, false when the node could not be reached.
  /// - Throws: what will not get better by trying again.
  private func connectOnce() async throws -> Bool {
    let link: LiveLink
    do {
      await core.maintainIfDue()
      try await core.deliverLeftOvers()
      link = LiveLink(try await core.api.realtime())
    } catch let error as EngramError where error.kind == .unreachable { return false }
    core.use(link)
    defer { core.drop(link) }
    do {
      try await withTaskCancellationHandler {
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { try await maintain() }
          group.addTask { try await watchGaps() }
          try await pump(link)
          group.cancelAll()
        }
      } onCancel: {
        Task { await link.close() }
      }
    } catch {
      await link.close()
      throw error
    }
    await link.close()
    return true
  }

  /// Asks about messages that stay missing, while the connection lives.
  private func watchGaps() async throws {
    while !Task.isCancelled {
      await core.exchangeStubsIfDue()
      try await Task.sleep(for: .milliseconds(StubPolicy.graceMs))
    }
  }

  /// Prekeys and the outbox, while the connection lives.
  private func maintain() async throws {
    while !Task.isCancelled {
      _ = try? await client.resendOutbox()
      await core.serveRetained(due: false)
      try? await Task.sleep(for: .seconds(ClientLimits.maintenanceSeconds))
      await core.maintainIfDue()
    }
  }

  private func pump(_ link: LiveLink) async throws {
    let gauge = gauge
    gauge.update { $0.reconnected() }
    let refill: @Sendable () -> Void = {
      let credit = gauge.update { $0.grant() }
      // A connection that ended meanwhile ends the loop below as well.
      if credit > 0 { Task { try? await link.grant(credit) } }
    }
    await queue.whenTaken { count in
      gauge.update { $0.read(count) }
      refill()
    }
    refill()
    for await message in link.messages {
      switch try? RealtimeFrame(parsing: message[...]) {
      case .items(let items):
        let counted = items.count { $0.kind != .certificate }
        let result = try await client.mailbox.absorb(items)
        let messages = try await client.mailbox.take(max: .max)
        gauge.update { $0.received(counted, kept: messages.count) }
        await queue.add(messages)
        let core = core
        Task {
          await core.deliver(result.acks, settling: result.settles)
          if result.controls > 0 { await core.exchangeStubsIfDue(isUrgent: true) }
          // Not awaited here: what it sends is answered over this very connection.
          if result.hasNews { await core.serveRetained(due: true) }
        }
        refill()
      case .outcomes(let request, let outcomes): await link.complete(request, outcomes)
      case .problem(let code) where code != .none && EngramError.kind(ofRefusal: code) == .refused:
        throw EngramError(refusal: code)
      case .problem: return
      // The node does not keep to the protocol: another connection may.
      case .ack, .consume, .credit, .send, .settle, nil: return
      }
    }
  }
}

/// Connects, and again whenever a connection has ended, until the task is cancelled.
/// - Parameter connectOnce: one connection from start to end; false when there was none.
func keepConnected(_ connectOnce: () async throws -> Bool) async throws {
  var waitMs = ClientLimits.reconnectMs
  while !Task.isCancelled {
    if try await connectOnce() { waitMs = ClientLimits.reconnectMs }
    // Full jitter: clients of a node that comes back do not all return in the same moment.
    try await Task.sleep(for: .milliseconds(Int.random(in: 0...waitMs)))
    waitMs = min(waitMs * 2, ClientLimits.reconnectMsMax)
  }
}
