package import EngramCore
import Synchronization

/// Monotonic counters, read by `/metrics` and `admin status`.
package final class NodeMetrics: Sendable {
  package enum Counter: Int, CaseIterable, Sendable {
    case acceptedFromClients, acceptedFromPeers, acknowledged, cancelled, commitFailures, commits,
      damagedRows, deadLettered, duplicates
    case expired, federated, idReused, peersRefused, purged, receiptsDropped, receiptsForwarded, refused
    case registrations
    case sessionsOpened, sessionsRefused

    /// Prometheus name without the `engram_` prefix and the `_total` suffix.
    package var name: String {
      "\(self)".reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : "\($1)" }
    }
  }

  private final class Cell: Sendable {
    let value = Atomic<UInt64>(0)
  }
  private let cells = Counter.allCases.map { _ in Cell() }
  private let refusals: [ErrorCode: Cell] = Dictionary(
    uniqueKeysWithValues: ErrorCode.allCases.map { ($0, Cell()) })

  package init() {}

  package func add(_ counter: Counter, _ count: Int = 1) {
    cells[counter.rawValue].value.wrappingAdd(UInt64(count), ordering: .relaxed)
  }

  /// Counts a refused envelope under its code.
  package func addRefusal(_ code: ErrorCode) {
    add(.refused)
    refusals[code]?.value.wrappingAdd(1, ordering: .relaxed)
  }

  package func value(_ counter: Counter) -> UInt64 { cells[counter.rawValue].value.load(ordering: .relaxed) }

  /// Name (snake case, without prefix), labels, value.
  package func samples() -> [(name: String, labels: [(String, String)], value: UInt64)] {
    let plain = Counter.allCases.map { (name: $0.name, labels: [(String, String)](), value: value($0)) }
    let byCode = ErrorCode.allCases.compactMap {
      code -> (name: String, labels: [(String, String)], value: UInt64)? in
      guard let value = refusals[code]?.value.load(ordering: .relaxed), value > 0 else { return nil }
      return ("refused_by_code", [("code", code.name)], value)
    }
    return plain + byCode
  }
}
