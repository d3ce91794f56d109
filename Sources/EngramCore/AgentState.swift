/// What an agent says about itself; nothing is decided by it but whether it counts as active.
package enum AgentState: String, CaseIterable, Sendable {
  case ready, busy, draining, offline

  /// What a message of this type says about its sender, nil when nothing.
  package init?(saidBy type: MessageType) {
    switch type {
    case .startup: self = .ready
    case .shutdown: self = .offline
    default: return nil
    }
  }
}
