internal import EngramClientStore
internal import EngramCore

/// Messages of one device that are missing here.
public struct Gap: Sendable {
  public enum State: String, Sendable {
    /// The sender's device was asked what they are.
    case asked
    /// This client's devices share a queue, or did a while ago, so the node says: another one may have taken
    /// them. Their sender is asked all the same.
    case shared
    /// The sender's device has no record of them: it was restored from a backup, or it is not telling.
    case unknown
    /// They may only have been overtaken; nobody was asked yet.
    case waiting
  }
  public let from: String
  public let device: String
  /// Places in that device's chain to this one.
  public let missing: [ClosedRange<UInt64>]
  public let sinceMs: UInt64
  public let state: State
  public let askedMs: UInt64?
  public let asks: Int
}

/// A message that exists, of which only its sender's signed stub is here: on its way still, refused, called
/// back, or expired.
public struct AnnouncedMessage: Sendable {
  public let from: String?
  public let device: String
  public let place: UInt64
  public let envelopeID: String
  public let expiresMs: UInt64
  /// Another device of this client has signed that it processed the message; nil when nobody here can tell.
  public let takenBy: String?
}

extension EngramClient {
  /// Missing messages, oldest first. A gap closes when they come, or when their sender's device shows by
  /// signed stubs what they were; until then somebody on the way may have dropped them.
  public func gaps() async throws -> [Gap] {
    try await publicly {
      try await core.read { rows in
        try rows.gaps(limit: StubPolicy.gapsMax).map { gap in
          Gap(
            from: gap.address, device: gap.kid.description,
            missing: try rows.missing(of: gap.span, from: gap.kid, limit: rangesMax), sinceMs: gap.sinceMs,
            state: gap.state,
            askedMs: gap.askedMs, asks: gap.asks)
        }
      }
    }
  }

  /// Messages that were announced by their stubs and have not come, latest to expire first.
  public func announced(limit: Int = 100) async throws -> [AnnouncedMessage] {
    try await publicly {
      try await core.read { rows in
        try rows.announced(limit: limit).map {
          AnnouncedMessage(
            from: $0.address, device: $0.kid.description, place: $0.seq, envelopeID: $0.envelope.description,
            expiresMs: $0.expiresMs, takenBy: $0.takenBy?.description)
        }
      }
    }
  }

  /// Asks the senders of every open gap now, and answers those that asked us. Both happen by themselves while
  /// a client receives; the answers come with later messages.
  /// - Returns: how many control messages went out.
  @discardableResult
  public func askAboutGaps() async throws -> Int {
    try await publicly { try await core.exchangeStubs(askNow: true) }
  }
}

extension GapRow {
  fileprivate var state: Gap.State {
    switch code {
    case .notFound: .unknown
    case .sharedQueue: .shared
    default: askedMs == nil ? .waiting : .asked
    }
  }
}
