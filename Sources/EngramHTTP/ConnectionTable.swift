import NIOCore
import Synchronization

/// The open connections of a listener: bounds their number, and finds them when the node goes down.
final class ConnectionTable: Sendable {
  enum Kind: String, CaseIterable {
    /// TLS has not finished, or its protocol is not known yet.
    case handshaking
    /// Belongs to another part of the program, which ends it itself.
    case foreign
    case http
    case realtime

    var isOfClient: Bool { self == .http || self == .realtime }
  }

  private struct Entry {
    let channel: any Channel
    var kind: Kind
  }

  private struct State {
    var entries: [ObjectIdentifier: Entry] = [:]
    /// Those of kind `http` or `realtime`.
    var ofClients = 0
    var onEmpty: [CheckedContinuation<Void, Never>] = []

    var isDrained: Bool { entries.values.allSatisfy { $0.kind == .foreign } }
  }

  private let state = Mutex(State())

  /// False when `max` connections are open already.
  func admit(_ channel: any Channel, max: Int, kind: Kind = .handshaking) -> Bool {
    state.withLock { state in
      guard state.entries.count < max else { return false }
      state.entries[ObjectIdentifier(channel)] = Entry(channel: channel, kind: kind)
      if kind.isOfClient { state.ofClients += 1 }
      return true
    }
  }

  func set(_ kind: Kind, for channel: any Channel) {
    state.withLock { state in
      guard let old = state.entries[ObjectIdentifier(channel)]?.kind else { return }
      state.entries[ObjectIdentifier(channel)]?.kind = kind
      state.ofClients += (kind.isOfClient ? 1 : 0) - (old.isOfClient ? 1 : 0)
    }
    wakeIfDrained()
  }

  /// Connections of clients, now that their protocol is known.
  var ofClients: Int { state.withLock { $0.ofClients } }

  /// What the connection was when it ended.
  @discardableResult
  func remove(_ channel: any Channel) -> Kind? {
    let kind = state.withLock { state in
      let kind = state.entries.removeValue(forKey: ObjectIdentifier(channel))?.kind
      if kind?.isOfClient == true { state.ofClients -= 1 }
      return kind
    }
    wakeIfDrained()
    return kind
  }

  /// Connections that this module has to end.
  func own() -> [(channel: any Channel, kind: Kind)] {
    state.withLock { $0.entries.values.filter { $0.kind != .foreign }.map { ($0.channel, $0.kind) } }
  }

  /// Returns once no connection of this module is left.
  func drained() async {
    await withCheckedContinuation { continuation in
      let isDrained = state.withLock { state in
        if !state.isDrained { state.onEmpty.append(continuation) }
        return state.isDrained
      }
      if isDrained { continuation.resume() }
    }
  }

  func samples() -> [MetricSample] {
    let counts = state.withLock { Dictionary(grouping: $0.entries.values, by: \.kind).mapValues(\.count) }
    return Kind.allCases.map {
      MetricSample("engram_connections", .gauge, labels: [("kind", $0.rawValue)], Double(counts[$0] ?? 0))
    }
  }

  private func wakeIfDrained() {
    let waiting = state.withLock { state -> [CheckedContinuation<Void, Never>] in
      guard !state.onEmpty.isEmpty, state.isDrained else { return [] }
      defer { state.onEmpty = [] }
      return state.onEmpty
    }
    for continuation in waiting { continuation.resume() }
  }
}
