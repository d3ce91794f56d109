internal import EngramClientStore
internal import EngramCore
internal import FoundationEssentials

extension EngramClient {
  /// Agents of this node that are there: connected, or seen in the last 90 seconds, and not declared offline.
  public func activeAgents() async throws -> [AgentStatus] {
    try await publicly { try await core.api.activeAgents().map(AgentStatus.init) }
  }

  /// What is known about one agent of this node.
  public func agentStatus(_ address: String) async throws -> AgentStatus {
    try await publicly {
      guard let address = try? Address(address) else {
        throw EngramError(
          .badInput, name: "bad-address", "an address has the form name@node, in lower case")
      }
      do { return AgentStatus(try await core.api.agentStatus(address)) } catch let error as EngramError
        where error.registered == .notFound
      {
        throw EngramError(
          error.kind, .notFound, saying: "no agent \(address.text) is known at \(core.account.address.node)",
          hint: "a node knows the presence of its own agents only")
      }
    }
  }

  /// Says that this agent is there and what it is doing.
  /// - Parameters:
  ///   - state: `ready`, `busy`, `draining` or `offline`.
  ///   - note: a sentence for people, at most 200 bytes. The node and its clients can read it.
  ///   - recipients: who is sent a sealed HEARTBEAT message as well; other organisations learn of it only so.
  /// - Returns: what was sent, nil without recipients.
  @discardableResult
  public func heartbeat(
    state: String = "ready", note: String = "", to recipients: [String] = []
  ) async throws -> SentMessage? {
    guard let word = AgentState(rawValue: state) else {
      throw EngramError(
        .badInput, name: "bad-state", "the state is not known",
        hint: AgentState.allCases.map(\.rawValue).joined(separator: " "))
    }
    guard note.utf8.count <= Limits.presenceNoteBytesMax else {
      throw EngramError(
        .badInput, name: "note-too-long", "a note has at most \(Limits.presenceNoteBytesMax) bytes")
    }
    try await publicly { try await core.api.putStatus(word, note: note) }
    guard !recipients.isEmpty else { return nil }
    var options = SendOptions()
    options.type = (word == .offline ? MessageType.shutdown : .heartbeat).name
    // News of being there is old soon.
    options.ttlSeconds = 600
    let body = try publicly { Array(try JSONEncoder().encode(["state": state, "note": note])) }
    return try await send(to: recipients, body: body, contentType: "application/json", options: options)
  }
}
