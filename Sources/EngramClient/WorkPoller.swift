internal import EngramCore

/// The life of a consumer that ends when nothing is left: it leases by polls, so that "nothing is ready" is
/// the node's answer and not a guess about what may be on its way.
struct WorkPoller: Sendable {
  let client: EngramClient
  let queue: WorkQueue
  let desk: WorkDesk
  let prefetch: Int
  let visibilitySeconds: Int
  private var core: ClientCore { client.core }

  func run() async {
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await renew() }
        try await poll()
        await queue.finish(nil)
        await desk.wait(handMax: 0)
        group.cancelAll()
      }
    } catch {
      await queue.finish(error is CancellationError ? nil : EngramError(error))
    }
    // Leases of polls end with their time only. What nobody was given is said to be free at once.
    for item in await queue.dropUnread() {
      try? await desk.giveUp(item.id, turn: item.turn, .nack(delayMs: 0, code: .none))
    }
  }

  /// Until nothing is ready and nothing is in hand: what fails may be ready again.
  private func poll() async throws {
    await core.maintainIfDue()
    try await core.deliverLeftOvers()
    while await !queue.isFinished {
      try Task.checkCancellation()
      let inHand = await desk.handCount
      let items = try await core.api.lease(
        max: min(prefetch - inHand, ClientLimits.itemsPerFetch), visibilitySeconds: visibilitySeconds,
        waitSeconds: 0)
      await queue.add(try await core.take(items, for: desk))
      if items.isEmpty, inHand == 0 { return }
      // At most half is missing when more is fetched, so that a message costs far less than a request.
      await desk.wait(handMax: items.isEmpty ? 0 : prefetch / 2)
    }
  }

  private func renew() async throws {
    while !Task.isCancelled {
      try await Task.sleep(for: .milliseconds(visibilitySeconds * 1_000 / WorkLimits.renewalsPerLease))
      await desk.renewAll()
    }
  }
}
