internal import EngramCore
internal import EngramCrypto
internal import EngramStore
import Foundation
internal import Logging
import Synchronization

/// Ends what has run out: messages past their expiry (with receipts to their senders), deduplication rows,
/// used tokens, invites, sessions. Runs once a second and commits only when there is something to do.
final class Sweeper: Sendable {
  /// Deliveries ended in one command, so that a large backlog does not hold up other commits.
  static let batchMax = 200
  /// The same for what runs out, of which there may be any number in one millisecond: about 3 ms of the
  /// commit thread, which everything else waits for twice.
  static let expiredPerCommit = 50
  private static let intervalSeconds = 1.0
  /// Tokens and invites are few; looking at them once a minute is enough.
  private static let slowEvery = 60

  private struct State {
    var isStopping = false
    var round = 0
    var lastWallMs: UInt64 = 0
    var lastUptimeMs: UInt64 = 0
    var purgingPausedUntilMs: UInt64 = 0
  }
  private let state = Mutex(State())
  private let clock: any Clock
  private let isExpiring = Atomic(false)

  init(clock: any Clock) { self.clock = clock }

  /// Claims the one row of commands that ends what has run out. A second one beside it would only make
  /// everybody else's commits longer.
  /// - Returns: false when it is claimed.
  func beginExpiring() -> Bool { !isExpiring.exchange(true, ordering: .acquiringAndReleasing) }
  func endExpiring() { isExpiring.store(false, ordering: .releasing) }

  func start(_ round: @escaping @Sendable (_ slow: Bool, _ mayPurge: Bool) -> Void) {
    let thread = Thread { [self] in
      while !state.withLock({ $0.isStopping }) {
        let (slow, mayPurge) = next()
        round(slow, mayPurge)
        Thread.sleep(forTimeInterval: Self.intervalSeconds)
      }
    }
    thread.name = "engram-sweep"
    thread.start()
  }

  func stop() { state.withLock { $0.isStopping = true } }

  /// A wall clock that jumps against the monotonic one pauses purging: rows that deduplicate must not be
  /// dropped on the word of a wrong clock.
  private func next() -> (slow: Bool, mayPurge: Bool) {
    let wall = clock.nowMs()
    let uptime = UInt64(ProcessInfo.processInfo.systemUptime * 1_000)
    return state.withLock { state in
      state.round += 1
      let expected = state.lastWallMs + (uptime - state.lastUptimeMs)
      let jump = state.lastWallMs == 0 ? 0 : wall > expected ? wall - expected : expected - wall
      if jump > Limits.clockSkewMs { state.purgingPausedUntilMs = uptime + Limits.dedupeGraceMs }
      (state.lastWallMs, state.lastUptimeMs) = (wall, uptime)
      return (state.round % Self.slowEvery == 1, uptime >= state.purgingPausedUntilMs)
    }
  }
}

extension Node {
  static let purgedThroughKey = "purged-through-ms"

  /// One round of housekeeping; called by the sweeper's thread, and by tests directly.
  package func sweep(slow: Bool = true, mayPurge: Bool = true) {
    let now = clock.nowMs()
    measureDisk()
    sessions.removeExpired(nowMs: now)
    watchClock()
    let due = try? reading { try $0.expired(nowMs: now, limit: 1) }
    if let due, !due.isEmpty, sweeper.beginExpiring() { expire() }
    promote()
    if revokedLeft.isSet { endDeliveriesOfRevoked() }
    guard slow else { return }
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        _ = try group.transaction.purgeTokens(nowMs: group.nowMs)
        _ = try group.transaction.purgeInvites(nowMs: group.nowMs)
        try rememberTime(in: group)
        if mayPurge, clock.jumpMs == nil { try purge(in: group) }
      } refused: { _ in
      })
    if mayPurge, now > NoticeBatch.keptMs { expireNotices(before: now - NoticeBatch.keptMs) }
  }

  /// Receipts for devices and peers that never came back. Looked for on this thread: it asks every mailbox.
  private func expireNotices(before ms: UInt64) {
    let found = try? reading { try $0.mailboxesWithNotices(before: ms, limit: Sweeper.batchMax) }
    guard let mailboxes = found, !mailboxes.isEmpty else { return }
    commitLoop.submit(
      CommitCommand(weight: mailboxes.count) { [metrics] group in
        for mailbox in mailboxes {
          let gone = try group.transaction.purgeNotices(mailbox, before: ms)
          group.afterCommit { _ in metrics.add(.receiptsDropped, gone) }
        }
      } refused: { _ in
      })
  }

  /// One batch, and the next one behind what else is queued by then, until nothing is due.
  private func expire() {
    commitLoop.submit(
      CommitCommand(weight: Sweeper.expiredPerCommit) { [self] group in
        let due = try group.transaction.expired(nowMs: group.nowMs, limit: Sweeper.expiredPerCommit)
        var statements = StatementBatch()
        for delivery in due {
          // A dead letter's sender knows the end already.
          let bodies =
            delivery.mailboxKind == .deadLetters
            ? [] : try endings(.expired, code: .expired, of: delivery.place, delivery.info, group)
          guard try group.transaction.removeDelivery(delivery.mailbox, seq: delivery.seq) != nil else {
            continue
          }
          for body in bodies { statements.add(body) }
          if mayBeInHand(delivery) {
            try group.transaction.expectLateWord(
              about: delivery.info.dedupe, in: delivery.mailbox, expiresMs: delivery.info.expiresMs)
          }
          metrics.add(.expired)
          group.note(.gone(mailbox: delivery.mailbox, seq: delivery.seq))
          audit(.expired, delivery.info, code: .expired, actor: nil, group)
        }
        try statements.write(by: self, in: group)
        group.afterCommit { [self] _ in
          if due.count >= Sweeper.expiredPerCommit { expire() } else { sweeper.endExpiring() }
        }
      } refused: { [log, sweeper] code in
        sweeper.endExpiring()
        log.warning("expiry was not committed", metadata: ["code": "\(code.name)"])
      })
  }

  /// Whether a device may be at work on it.
  private func mayBeInHand(_ delivery: PlacedDelivery) -> Bool {
    delivery.mailboxKind.isOfDevices
      && (delivery.place.attempt > 0 || shown.contains(delivery.place)
        || dispatcher.holder(delivery.mailbox, of: delivery.seq) != nil)
  }

  /// Drops finished rows whose expiry lies further back than the grace, and remembers how far: what expires
  /// at or before that is refused from then on, whatever the clock says.
  private func purge(in group: CommitGroup) throws {
    guard group.nowMs > Limits.dedupeGraceMs else { return }
    let before = group.nowMs - Limits.dedupeGraceMs
    try group.transaction.purgeLateWords(expiredBefore: before, limit: 10_000)
    let (count, highest) = try group.transaction.purgeMessages(expiredBefore: before, limit: 10_000)
    guard count > 0, highest > purgedThroughMs else { return }
    try group.transaction.setValue(bigEndianBytes(highest), for: Self.purgedThroughKey)
    group.afterCommit { [self] _ in
      metrics.add(.purged, count)
      notePurged(through: highest)
    }
  }
}
