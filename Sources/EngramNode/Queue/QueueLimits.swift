internal import EngramCore

/// Bounds of one mailbox's queue in memory, with their reasons.
struct QueueLimits: Equatable, Sendable {
  /// Rows read at once: one index scan of about a millisecond.
  var refillMax = 512
  /// Rows kept in order for the consumers that have room; about 100 KiB.
  var readyMax = 1_024
  /// The same when everything at the front is for devices other than those that have room. Beyond it they
  /// wait until the front moves.
  var readyMaxWhenBlocked = 16_384
  /// Consumers of one mailbox: replicas of one agent.
  var consumersMax = 1_000
  /// Leases of one mailbox that polls have taken and not settled.
  var polledMax = 10_000
}

/// Where a row stands in the store's order: by rank, then by number.
struct ReadyKey: Comparable, Hashable, Sendable {
  var rank: UInt64
  var seq: UInt64

  static let first = ReadyKey(rank: 0, seq: 0)
  var next: ReadyKey { ReadyKey(rank: rank, seq: seq + 1) }

  static func < (a: ReadyKey, b: ReadyKey) -> Bool { (a.rank, a.seq) < (b.rank, b.seq) }
}

/// A row that may be handed out.
struct ReadyEntry: Equatable, Sendable {
  var key: ReadyKey
  /// Failures so far.
  var attempt: UInt32
  /// Devices that the message is sealed for; nil in the mailbox of a single device.
  var kids: [Kid]?

  var seq: UInt64 { key.seq }
  func isFor(_ kid: Kid) -> Bool { kids?.contains(kid) ?? true }
}

/// The order in which messages of different priorities go out.
package enum Ranking {
  /// Long enough that URGENT is urgent, short enough that LOW waits four minutes longer at most.
  package static let ageStepMsDefault: UInt64 = 60_000

  /// A message of priority p goes out as if it had become ready `(5 - p)` steps later. So the order of
  /// priorities is strict among messages that became ready within one step of each other; a message is
  /// overtaken only by what became ready less than a step per priority after it, so LOW by nothing after four.
  static func rank(readyMs: UInt64, priority: Priority, ageStepMs: UInt64) -> UInt64 {
    readyMs + UInt64(Priority.critical.rawValue - priority.rawValue) * ageStepMs
  }
}
