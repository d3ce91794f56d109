/// One of this client's subscriptions.
public struct TopicSubscription: Sendable, Equatable {
  /// `#orders.*@acme.example`
  public let topic: String
  public let sinceMs: UInt64
}

/// What became of a message for many.
public struct PublishedMessage: Sendable {
  /// `#orders.new@acme.example`, nil for a broadcast.
  public let topic: String?
  /// Whom it was meant for, the publisher itself left out.
  public let memberCount: Int
  /// One for each envelope, by the name of its destination node.
  public let messages: [SentMessage]
  /// Members whom it could not be sealed for.
  public let unreached: [UnreachedMember]
}

public struct UnreachedMember: Sendable {
  public let address: String
  public let error: EngramError
}

/// What the node knows about an agent's being there. Nobody signs it: it is the node's word.
public struct AgentStatus: Sendable, Equatable {
  public let address: String
  /// `ready`, `busy`, `draining` or `offline`, as the agent said last.
  public let state: String
  public let isActive: Bool
  /// Open live connections.
  public let connections: Int
  public let lastSeenMs: UInt64?
  public let note: String

  init(_ report: AgentReport) {
    (address, state, isActive) = (report.address, report.state, report.isActive)
    (connections, lastSeenMs, note) = (report.connections, report.lastSeenMs, report.note)
  }
}
