package import EngramCore
internal import EngramCrypto
package import EngramStore
import Foundation
internal import Logging
import Synchronization

/// Looks after what cannot wait for the sweeper: leases that run out, senders that are to hear of a delivery.
/// A round without work costs two locks.
final class QueueTicker: Sendable {
  private static let intervalSeconds = 0.1
  private let isStopping = Flag()

  func start(_ round: @escaping @Sendable () -> Void) {
    let thread = Thread { [self] in
      while !isStopping.isSet {
        round()
        Thread.sleep(forTimeInterval: Self.intervalSeconds)
      }
    }
    thread.name = "engram-queue"
    thread.start()
  }

  func stop() { isStopping.isSet = true }
}

extension Node {
  private static let epochKey = "lease-epoch"
  private static let lastSeenKey = "last-seen-ms"

  /// One round; called by the ticker's thread, and by tests directly.
  package func tick() {
    for (mailbox, leases) in dispatcher.takeExpired() {
      endLeases(leases, in: mailbox, code: .leaseLost)
    }
    tellDelivered()
    reserveEpoch()
  }

  /// The epoch of this start: one more than any that was stored.
  static func beginEpoch(_ store: Store) throws(ErrorCode) -> UInt32 {
    do {
      return try store.write { transaction in
        let last = (try transaction.value(epochKey) ?? []).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard last < .max else { throw ErrorCode.internalError }
        try transaction.setValue(bytes(last + 1), for: epochKey)
        return last + 1
      }
    } catch { throw error as? ErrorCode ?? (error as? StoreError)?.code ?? .internalError }
  }

  private func reserveEpoch() {
    guard let epoch = dispatcher.wantedEpoch else { return }
    commitLoop.submit(
      CommitCommand(weight: 1) { [dispatcher] group in
        try group.transaction.setValue(Self.bytes(epoch), for: Self.epochKey)
        group.afterCommit { _ in dispatcher.reserve(epoch: epoch) }
      } refused: { _ in
      })
  }

  private static func bytes(_ epoch: UInt32) -> [UInt8] { Array(bigEndianBytes(UInt64(epoch)).suffix(4)) }

  /// Node time that an earlier run persisted; 0 for none. A `SteadyClock` starts no earlier.
  package static func lastSeenMs(in store: Store) throws(ErrorCode) -> UInt64 {
    do {
      return try store.read { try $0.value(lastSeenKey) ?? [] }.reduce(0) { $0 << 8 | UInt64($1) }
    } catch { throw (error as? StoreError)?.code ?? .internalError }
  }

  /// Once a minute: what the next start may not fall behind.
  func rememberTime(in group: CommitGroup) throws {
    try group.transaction.setValue(bigEndianBytes(group.nowMs), for: Self.lastSeenKey)
  }

  /// Follows the machine's clock a little, and says once when it has jumped.
  func watchClock() {
    clock.slew()
    let jump = clock.jumpMs
    let isNews = spokenJumpMs.withLock { spoken in
      defer { spoken = jump }
      return (spoken == nil) != (jump == nil)
    }
    guard isNews else { return }
    if let jump {
      log.error(
        "the machine's clock has jumped and is not followed; restart, or accept it",
        metadata: ["ahead_seconds": "\(jump / 1_000)"])
    } else {
      log.info("the machine's clock and the node's agree again")
    }
  }

  /// The operator's word that the machine's clock is right.
  package func acceptClock() {
    clock.accept()
    watchClock()
  }
}
