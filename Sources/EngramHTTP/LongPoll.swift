import EngramCore
import EngramNode
import HummingbirdCore
import NIOCore

/// The query of `GET …/messages`: `max`, `wait` in seconds, and either `after` or `lease`, in seconds or
/// `default`. Numbers beyond their bounds are lowered to them; anything else is refused.
struct PollQuery: Equatable {
  /// How long what is found is the poll's own.
  enum Lease: Equatable {
    /// As the operator has set it.
    case asConfigured
    case seconds(Int)
  }

  var maxCount = 100
  var waitSeconds = 0
  var after: UInt64 = 0
  /// nil: what waits is shown and stays.
  var lease: Lease?

  init(_ uri: URI) throws(Problem) {
    for (name, text) in uri.queryParameters {
      switch name {
      case "max": maxCount = try queryCount(text, max: HTTPLimits.itemsPerReadMax)
      case "wait": waitSeconds = min(try queryNumber(text), HTTPLimits.pollSecondsMax)
      case "after": after = try queryNumber(text)
      case "lease" where text == "default": lease = .asConfigured
      case "lease": lease = .seconds(try queryCount(text, max: Int(Limits.visibilityMsMax / 1_000)))
      default: throw Problem(.malformed)
      }
    }
    guard lease == nil || after == 0 else { throw Problem(.malformed) }
  }
}

extension Edge {
  /// What waits in the mailbox, or what comes within the query's time. Empty when nothing did.
  func poll(
    _ session: ClientSession, _ bearer: String, _ query: PollQuery, on loop: any EventLoop
  ) async -> Result<[MailboxItem], ErrorCode> {
    let wakeUp = WakeUp()
    // Watching comes before looking, so that nothing slips in between.
    let isLease = query.lease != nil
    let watch =
      isLease
      ? node.watchWork(session) { wakeUp.ring() } : node.watch(mailbox: session.mailbox) { wakeUp.ring() }
    let first = await look(session, query)
    guard case .success(let found) = first, found.isEmpty, query.waitSeconds > 0, !isDraining else {
      watch.cancel()
      return first
    }
    metrics.longPolls.add()
    let end = node.watchSession(session) { wakeUp.ring() }
    polls.add(wakeUp)
    let deadline = NIODeadline.now() + .seconds(Int64(query.waitSeconds))
    let timer = loop.scheduleTask(deadline: deadline) { wakeUp.ring() }
    defer {
      timer.cancel()
      polls.remove(wakeUp)
      watch.cancel()
      end.cancel()
    }
    while true {
      if !isDraining { await wakeUp.wait() }
      // The client may have been disabled meanwhile.
      if case .failure(let code) = node.session(bearer) { return .failure(code) }
      let next = await look(session, query)
      if case .success(let found) = next, found.isEmpty, NIODeadline.now() < deadline, !isDraining {
        continue
      }
      return next
    }
  }

  private func look(_ session: ClientSession, _ query: PollQuery) async -> Result<[MailboxItem], ErrorCode> {
    switch query.lease {
    case nil: await items(session, after: query.after, maxCount: query.maxCount)
    case .asConfigured: await lease(session, maxCount: query.maxCount, ms: node.settings.leaseMs)
    case .seconds(let seconds): await lease(session, maxCount: query.maxCount, ms: UInt64(seconds) * 1_000)
    }
  }
}
