internal import EngramClientStore
internal import EngramCore
internal import Synchronization

/// What waits for an agent at its node, and how its devices share it.
public struct QueueReport: Sendable, Equatable {
  /// `each`: every device has its own copy; `one`: each message goes to one of the devices.
  public let mode: String
  /// Ready, and with nobody.
  public let waiting: Int
  /// Not ready yet: before its time, or resting after a failure.
  public let held: Int
  /// In a consumer's hands.
  public let leased: Int
  /// Connections that take work now.
  public let consumers: Int
}

extension EngramClient {
  /// Messages to work on, as the node assigns them, over a connection that is opened again whenever it ends.
  ///
  /// Consumers of one agent, in this process or others, on this device or others, share what waits: each
  /// message is one consumer's until it is settled. Its leases are renewed while the stream lives; a consumer
  /// that vanishes frees what it had, one that closes too, and only the first counts as a failed attempt.
  /// - Parameters:
  ///   - prefetch: messages in hand at the same time, 1 to 1,000.
  ///   - visibilitySeconds: how long a message stays with a consumer that falls silent while its connection
  ///     stays open, 1 to 43,200; nil: as long as the connection lasts.
  ///   - countsDisconnects: what was in hand when the connection broke counts as a failed attempt, so that a
  ///     message which ends its consumer does not do so for ever.
  ///   - untilEmpty: the stream ends when nothing is ready and nothing in hand. Then messages are taken by
  ///     polls, for 30 seconds at a time unless `visibilitySeconds` says otherwise, and what a consumer that
  ///     vanishes had is free when that time is over.
  public func consume(
    prefetch: Int = 1, visibilitySeconds: Int? = nil, countsDisconnects: Bool = true,
    untilEmpty: Bool = false
  ) throws -> WorkStream {
    try publicly {
      try check(count: prefetch, visibilitySeconds: visibilitySeconds ?? 1)
      if untilEmpty {
        let seconds = visibilitySeconds ?? WorkLimits.pollVisibilitySeconds
        return WorkStream(pollingFor: self, prefetch: prefetch, visibilitySeconds: seconds)
      }
      let request = ConsumeRequest(
        prefetch: UInt32(prefetch), visibilityMs: UInt32((visibilitySeconds ?? 0) * 1_000),
        countsDisconnects: countsDisconnects)
      return WorkStream(self, request)
    }
  }

  /// Takes messages for a while, without a connection of its own. Nothing renews them: what is not settled in
  /// time is a failed attempt.
  /// - Parameters:
  ///   - max: at most so many, 1 to 1,000.
  ///   - waitSeconds: how long to wait when there are none.
  public func lease(
    max: Int = 1, visibilitySeconds: Int = 30, waitSeconds: Int = 0
  ) async throws -> [WorkItem] {
    try await publicly {
      try check(count: max, visibilitySeconds: visibilitySeconds)
      await core.maintainIfDue()
      try? await core.deliverLeftOvers()
      let desk = WorkDesk(core: core, isPolled: true)
      let deadline = Deadline(seconds: waitSeconds)
      while true {
        let items = try await core.api.lease(
          max: Swift.min(max, ClientLimits.itemsPerFetch), visibilitySeconds: visibilitySeconds,
          waitSeconds: deadline.pollSeconds)
        let work = try await core.take(items, for: desk)
        if !work.isEmpty { return work }
        guard items.isEmpty else { continue }
        if deadline.hasPassed { return [] }
        try await Task.sleep(for: .milliseconds(ClientLimits.receiverPollMs))
      }
    }
  }

  /// Says of many messages that they are done, together.
  /// - Returns: those of which the node did not take it.
  public func acknowledge(_ work: [WorkItem]) async -> [WorkFailure] {
    await withTaskGroup(of: WorkFailure?.self) { group in
      for item in work {
        group.addTask {
          do { try await item.ack() } catch {
            return WorkFailure(envelopeID: item.message.envelopeID, error: EngramError(error))
          }
          return nil
        }
      }
      return await group.reduce(into: []) { failures, failure in
        if let failure { failures.append(failure) }
      }
    }
  }

  public func queueState() async throws -> QueueReport {
    try await publicly { QueueReport(try await core.api.queueState()) }
  }

  /// Decides how this agent's devices share what comes in. What waits is taken along.
  /// - Parameter mode: `each` or `one`.
  @discardableResult
  public func setQueueMode(_ mode: String) async throws -> QueueReport {
    try await publicly {
      guard let mode = QueueMode(name: mode) else {
        throw EngramError(.badInput, name: "bad-mode", "a queue's mode is one or each")
      }
      return QueueReport(try await core.api.setQueueMode(mode))
    }
  }

  private func check(count: Int, visibilitySeconds: Int) throws {
    guard (1...Int(Limits.prefetchMax)).contains(count) else {
      throw EngramError(
        .badInput, name: "bad-prefetch", "between 1 and \(Limits.prefetchMax) messages at a time")
    }
    let range = Int(Limits.visibilityMsMin / 1_000)...Int(Limits.visibilityMsMax / 1_000)
    guard range.contains(visibilitySeconds) else {
      throw EngramError(
        .badInput, name: "bad-visibility", "a lease lasts between 1 second and 12 hours")
    }
  }
}

extension QueueReport {
  init(_ answer: QueueAnswer) {
    self.init(
      mode: answer.mode, waiting: answer.waiting, held: answer.held, leased: answer.leased,
      consumers: answer.consumers)
  }
}

extension ClientCore {
  /// Commits what came, answers what needs no application, and returns the rest.
  func take(_ items: [MailboxItem], for desk: WorkDesk) async throws -> [WorkItem] {
    guard !items.isEmpty else { return [] }
    // Counted from before the disk is waited for: rather too early than too late.
    let arrival = ContinuousClock.now
    let nowMs = nowMs()
    let (result, sawGap) = try await commit { [self] rows in
      var inbound = Inbound(account: account, device: device, credentials: credentials, nowMs: nowMs)
      return (try inbound.process(items, in: rows), inbound.sawGap)
    }
    if sawGap { await judgeGaps(foundMs: nowMs) }
    if result.hasNews { hasNews.store(true, ordering: .relaxed) }
    let (new, answers) = await desk.admit(result.offers)
    Task {
      await desk.answer(result.answers + answers)
      await deliver(result.acks, settling: result.settles)
      if result.controls > 0 { await exchangeStubsIfDue(isUrgent: true) }
      if hasNews.exchange(false, ordering: .relaxed) { await serveRetained(due: true) }
    }
    guard !new.isEmpty else { return [] }
    return try await read { rows in
      try new.compactMap { offer in
        guard let row = try rows.unfinished(offer.id) else { return nil }
        return WorkItem(
          message: ReceivedMessage(row), attempt: offer.attempt,
          isRedelivered: offer.attempt > 1 || offer.wasInHand, token: offer.token,
          deadline: offer.leaseMs == 0 ? nil : arrival + .milliseconds(Int(offer.leaseMs)), id: offer.id,
          turn: offer.turn, desk: desk)
      }
    }
  }
}
