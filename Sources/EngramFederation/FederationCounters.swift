import Synchronization

/// Monotonic counters of the federation, for `/metrics`.
final class FederationCounters: Sendable {
  enum Counter: String, CaseIterable {
    case dials = "engram_federation_dials_total"
    case linksAdmitted = "engram_federation_links_established_total"
    case linksRefused = "engram_federation_links_refused_total"
    /// Our numbering was found to be behind a peer's.
    case ownRollbacks = "engram_federation_own_rollbacks_total"
    /// A peer was found to be behind its own acknowledgements.
    case peerRollbacks = "engram_federation_peer_rollbacks_total"
  }

  private let values = Mutex([UInt64](repeating: 0, count: Counter.allCases.count))

  func add(_ counter: Counter) {
    guard let index = Counter.allCases.firstIndex(of: counter) else { return }
    values.withLock { $0[index] += 1 }
  }

  func samples() -> [(name: String, value: UInt64)] {
    let values = values.withLock { $0 }
    return zip(Counter.allCases, values).map { ($0.rawValue, $1) }
  }
}
