package import EngramCore
internal import EngramStore
import Synchronization

/// What is known about one of our agents' being there.
package struct AgentPresence: Sendable, Equatable {
  package let address: Address
  package let state: AgentState
  package let isActive: Bool
  /// Open realtime connections.
  package let connections: Int
  /// The last time it proved itself here; nil when that was before this node started.
  package let lastSeenMs: UInt64?
  /// Its own words with its state, at most `AgentPresence.noteBytesMax` bytes.
  package let note: String

  /// A sentence; more belongs into a message.
  package static let noteBytesMax = Limits.presenceNoteBytesMax
  /// Three heartbeats of 30 seconds; also longer than the longest poll, so that a poller stays active.
  package static let activeMs: UInt64 = 90_000
}

/// Presence of our own clients, in memory: a restart begins with nobody, and whoever is there shows up again
/// within a poll or a heartbeat. Bounded by the number of registered clients, for only they open sessions.
final class PresenceBook: Sendable {
  struct Entry {
    var lastSeenMs: UInt64 = 0
    var connections = 0
    var state: AgentState = .ready
    var note = ""
  }
  private let entries = Mutex<[Address: Entry]>([:])

  func seen(_ address: Address, nowMs: UInt64) { update(address, nowMs: nowMs) { _ in } }

  func declared(_ address: Address, _ state: AgentState, note: String, nowMs: UInt64) {
    update(address, nowMs: nowMs) { ($0.state, $0.note) = (state, note) }
  }

  /// What the clear type of a message says about its sender. A heartbeat after `offline` means that the agent
  /// is back.
  func heard(_ type: MessageType, from address: Address, nowMs: UInt64) {
    update(address, nowMs: nowMs) { entry in
      if let state = AgentState(saidBy: type) {
        (entry.state, entry.note) = (state, "")
      } else if type == .heartbeat, entry.state == .offline {
        entry.state = .ready
      }
    }
  }

  func connected(_ address: Address, nowMs: UInt64) { update(address, nowMs: nowMs) { $0.connections += 1 } }
  func disconnected(_ address: Address, nowMs: UInt64) {
    update(address, nowMs: nowMs) { $0.connections = max(0, $0.connections - 1) }
  }

  func forget(_ address: Address) { entries.withLock { $0[address] = nil } }

  func presence(_ address: Address, nowMs: UInt64) -> AgentPresence {
    entries.withLock { Self.presence(address, $0[address], nowMs) }
  }

  /// Active agents above an address, ascending.
  func active(after: Address?, maxCount: Int, nowMs: UInt64) -> [AgentPresence] {
    let all = entries.withLock { entries in
      entries.compactMap { address, entry -> AgentPresence? in
        if let after, address <= after { return nil }
        let presence = Self.presence(address, entry, nowMs)
        return presence.isActive ? presence : nil
      }
    }
    return Array(all.sorted { $0.address < $1.address }.prefix(maxCount))
  }

  private func update(_ address: Address, nowMs: UInt64, _ change: (inout Entry) -> Void) {
    entries.withLock { entries in
      entries[address, default: Entry()].lastSeenMs = nowMs
      change(&entries[address, default: Entry()])
    }
  }

  private static func presence(_ address: Address, _ entry: Entry?, _ nowMs: UInt64) -> AgentPresence {
    let entry = entry ?? Entry(state: .offline)
    // A clock that was set back makes the last time lie ahead; that is no reason to call anybody absent.
    let isRecent = entry.lastSeenMs > 0 && nowMs < entry.lastSeenMs + AgentPresence.activeMs
    return AgentPresence(
      address: address, state: entry.state,
      isActive: entry.state != .offline && (entry.connections > 0 || isRecent),
      connections: entry.connections, lastSeenMs: entry.lastSeenMs == 0 ? nil : entry.lastSeenMs,
      note: entry.note)
  }
}

extension Node {
  /// Agents of this node that are connected, or were seen within `AgentPresence.activeMs`, and have not said
  /// that they are offline. By address, above `after`.
  package func activeAgents(after: Address?, maxCount: Int) -> [AgentPresence] {
    presence.active(after: after, maxCount: maxCount, nowMs: clock.nowMs())
  }

  /// Blocks on the store. A disabled client and one that never was are the same to whoever asks.
  package func agentStatus(_ address: Address) throws(ErrorCode) -> AgentPresence {
    let client = try reading { try $0.client(address) }
    guard let client, client.home == 0, !client.isDisabled else { throw .notFound }
    return presence.presence(address, nowMs: clock.nowMs())
  }

  package func declare(_ state: AgentState, note: String, _ session: ClientSession) throws(ErrorCode) {
    guard note.utf8.count <= AgentPresence.noteBytesMax else { throw .tooLarge }
    presence.declared(session.address, state, note: note, nowMs: clock.nowMs())
  }

  /// Hears what the clear type of an accepted message says about its sender, once it is committed.
  func notePresence(_ header: EnvelopeHeader, from source: Source, in group: CommitGroup) {
    guard case .client = source else { return }
    switch header.type {
    case .heartbeat, .shutdown, .startup: break
    default: return
    }
    group.afterCommit { [presence, nowMs = group.nowMs] _ in
      presence.heard(header.type, from: header.sender, nowMs: nowMs)
    }
  }

  /// Counts a realtime connection until the watch ends.
  package func noteConnection(_ session: ClientSession) -> Watch {
    let (presence, clock) = (presence, clock)
    presence.connected(session.address, nowMs: clock.nowMs())
    return Watch { presence.disconnected(session.address, nowMs: clock.nowMs()) }
  }

  /// All addresses of this node, for those whom the operator lets write to everybody.
  package func broadcastAddresses(
    after: Address?, maxCount: Int, _ session: ClientSession
  ) throws(ErrorCode) -> [Address] {
    guard settings.broadcasters.contains(session.address) else { throw .notPermitted }
    return try reading { try $0.localAddresses(after: after, maxCount: maxCount) }
  }
}
