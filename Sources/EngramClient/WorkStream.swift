internal import EngramCore
internal import Synchronization

/// Work as it comes. The connection, and with it every lease, lives until `close` or the last reference ends.
public final class WorkStream: AsyncSequence, Sendable {
  public typealias Element = WorkItem
  private let queue: WorkQueue
  private let desk: WorkDesk
  private let task: Task<Void, Never>

  init(_ client: EngramClient, _ request: ConsumeRequest) {
    let queue = WorkQueue()
    let desk = WorkDesk(core: client.core, isPolled: false, isFailedByBreak: request.countsDisconnects)
    (self.queue, self.desk) = (queue, desk)
    task = Task { await WorkReader(client: client, queue: queue, request: request, desk: desk).run() }
  }

  init(pollingFor client: EngramClient, prefetch: Int, visibilitySeconds: Int) {
    let (queue, desk) = (WorkQueue(), WorkDesk(core: client.core, isPolled: true))
    (self.queue, self.desk) = (queue, desk)
    let poller = WorkPoller(
      client: client, queue: queue, desk: desk, prefetch: prefetch, visibilitySeconds: visibilitySeconds)
    task = Task { await poller.run() }
  }

  deinit { task.cancel() }

  /// Hands out nothing more; what is in hand can still be settled, and is still renewed. What was fetched and
  /// not handed out is free with `close`.
  public func stop() async { await queue.finish(nil) }

  /// Waits until the node has heard every `ackSoon`.
  /// - Returns: those that it did not take since this was asked last, 1,000 at most.
  @discardableResult
  public func flush() async -> [WorkFailure] { await desk.flush() }

  /// Waits for what was said by `ackSoon`, and ends the connection. What was not settled is ready for others.
  public func close() async {
    await queue.finish(nil)
    await desk.wait(handMax: nil)
    task.cancel()
    await task.value
  }

  public func makeAsyncIterator() -> Iterator { Iterator(stream: self) }

  public struct Iterator: AsyncIteratorProtocol {
    let stream: WorkStream

    /// - Returns: nil after `stop`, or when the reading task was cancelled.
    public mutating func next() async throws -> WorkItem? { try await stream.queue.next() }
  }
}

/// Items between the connection and the reader, bounded by the prefetch.
actor WorkQueue {
  private var items: [WorkItem] = []
  private var reader: CheckedContinuation<WorkItem?, any Error>?
  private(set) var isFinished = false
  private var failure: EngramError?

  func add(_ new: [WorkItem]) {
    items += new
    guard let waiting = reader, !items.isEmpty, !isFinished else { return }
    reader = nil
    waiting.resume(returning: items.removeFirst())
  }

  /// What nobody was given is somebody else's by now.
  func dropUnread() -> [WorkItem] {
    defer { items = [] }
    return items
  }

  func next() async throws -> WorkItem? {
    try await withTaskCancellationHandler {
      if let failure { throw failure }
      if isFinished || Task.isCancelled { return nil }
      if !items.isEmpty { return items.removeFirst() }
      return try await withCheckedThrowingContinuation { continuation in
        reader?.resume(returning: nil)
        reader = continuation
      }
    } onCancel: {
      Task { await abandonRead() }
    }
  }

  private func abandonRead() {
    reader?.resume(returning: nil)
    reader = nil
  }

  func finish(_ error: EngramError?) {
    guard !isFinished else { return }
    (isFinished, failure) = (true, error)
    let waiting = reader
    reader = nil
    if let error { waiting?.resume(throwing: error) } else { waiting?.resume(returning: nil) }
  }
}

/// The life of a consumer: connect, consume, renew, connect again.
struct WorkReader: Sendable {
  let client: EngramClient
  let queue: WorkQueue
  let request: ConsumeRequest
  let desk: WorkDesk
  private var core: ClientCore { client.core }

  func run() async {
    do {
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
      try await link.consume(request)
    } catch let error as EngramError where error.kind == .unreachable { return false }
    core.use(link)
    await desk.connected(link)
    defer { core.drop(link) }
    var failure: (any Error)?
    do {
      try await withTaskCancellationHandler {
        try await withThrowingTaskGroup(of: Void.self) { group in
          group.addTask { try await renew() }
          group.addTask { try await maintain() }
          group.addTask { try await listen(link) }
          try await pump(link)
          group.cancelAll()
        }
      } onCancel: {
        Task { await link.close() }
      }
    } catch { failure = error }
    await link.close()
    await desk.disconnected(unread: await queue.dropUnread().map(\.id))
    if let failure { throw failure }
    return true
  }

  private func renew() async throws {
    guard request.visibilityMs > 0 else { return }
    while !Task.isCancelled {
      try await Task.sleep(for: .milliseconds(Int(request.visibilityMs) / WorkLimits.renewalsPerLease))
      await desk.renewAll()
    }
  }

  /// Prekeys and the outbox, while the connection lives.
  private func maintain() async throws {
    while !Task.isCancelled {
      _ = try? await client.resendOutbox()
      try? await Task.sleep(for: .seconds(ClientLimits.maintenanceSeconds))
      await core.maintainIfDue()
    }
  }

  /// Takes receipts and notices too, if no other process of this home does: several consumers share a home,
  /// and one of them is enough.
  private func listen(_ link: LiveLink) async throws {
    while !Task.isCancelled {
      if await client.mailbox.tryBegin() { return try await link.grant(ClientLimits.liveCredit) }
      try await Task.sleep(for: .seconds(WorkLimits.lockSeconds))
    }
  }

  private func pump(_ link: LiveLink) async throws {
    for await message in link.messages {
      switch try? RealtimeFrame(parsing: message[...]) {
      case .items(let items):
        await queue.add(try await core.take(items, for: desk))
        let counted = items.count { $0.kind == .receipt || $0.kind == .notice }
        // A connection that ended meanwhile ends this loop as well.
        if counted > 0 { Task { try? await link.grant(counted) } }
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
