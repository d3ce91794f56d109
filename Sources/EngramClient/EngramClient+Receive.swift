internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import Synchronization

extension EngramClient {
  /// Messages that wait for this device, opened and verified: by priority, of equals in order of arrival.
  ///
  /// What waits is looked at in rounds: all of one is handed out, by this call and those after it, before
  /// anything that comes later, however urgent. So nothing waits for ever.
  ///
  /// A message is handed out once by this object, and again after `open` until it is acknowledged.
  /// - Parameters:
  ///   - max: at most so many.
  ///   - waitSeconds: how long to wait when there are none.
  ///   - among: how many a round may have, or 16 MiB.
  /// - Throws: `EngramError`; what was stored before stays and is handed out by the next call.
  public func receive(
    max: Int = 100, waitSeconds: Int = 0, among: Int? = nil
  ) async throws -> [ReceivedMessage] {
    try await publicly {
      try await mailbox.begin()
      let deadline = Deadline(seconds: waitSeconds)
      let among = Swift.max(1, among ?? ClientLimits.chosenAmong)
      var messages = try await mailbox.rest(max: max)
      await core.maintainIfDue()
      try? await core.deliverLeftOvers()
      await core.exchangeStubsIfDue()
      // Once per process whatever was heard, since a node may have been away when members came.
      await core.serveRetained(due: core.servedRetained.exchange(true, ordering: .relaxed))
      while messages.isEmpty {
        let count: Int
        do { count = try await mailbox.gather(among, waitSeconds: deadline.pollSeconds) } catch {
          // What is here can be read without the node; the next call says that it is away.
          messages = try await mailbox.next(max: max, among: among)
          if messages.isEmpty { throw error }
          break
        }
        messages = try await mailbox.next(max: max, among: among)
        // Receipts and repetitions may have come instead; then there may be more behind them.
        guard messages.isEmpty, count == 0 else { continue }
        if deadline.hasPassed { break }
        // A node that answers at once although it was asked to wait must not be asked in a tight loop.
        try await Task.sleep(for: .milliseconds(ClientLimits.receiverPollMs))
      }
      if core.hasNews.exchange(false, ordering: .relaxed) { await core.serveRetained(due: true) }
      return messages
    }
  }

  /// Signs that these messages were processed and tells the node, which removes them. Their bodies are erased
  /// here.
  ///
  /// Durable when it returns, even if the node cannot be reached: then it is told later.
  /// - Parameter envelopeIDs: of received messages; unknown and already acknowledged ones are left out.
  /// - Returns: those whose delivery the node had ended before, `expired` for instance, so that their senders
  ///   may have been told so. The signed word stands all the same.
  @discardableResult
  public func acknowledge(_ envelopeIDs: [String]) async throws -> [WorkFailure] {
    try await publicly {
      let ids = envelopeIDs.compactMap { bytes(hex: $0).flatMap { EnvelopeID($0) } }
      let inbound = Inbound(
        account: core.account, device: core.device, credentials: core.credentials, nowMs: core.nowMs())
      guard !ids.isEmpty else { return [] }
      let acks = try await core.commit { rows in
        var known: Set<EnvelopeID> = []
        let open = try ids.compactMap { id in
          known.insert(id).inserted ? try rows.acknowledgeable(id).map { (id: id, row: $0) } : nil
        }
        let receipts = signDeviceReceipts(
          open.map { inbound.statement(.processed, .none, $0.id, $0.row.sender, $0.row.kid, $0.row.message) },
          with: inbound.device)
        return try zip(open, receipts).map { entry, receipt in
          try rows.complete(entry.id, receipt: receipt)
          return (entry.id, MailboxAck(seq: entry.row.seq, receipt: receipt))
        }
      }
      let refused = await core.deliver(acks.map(\.1), settling: acks.map { ($0.0, $0.1.seq) })
      let ends = Dictionary(acks.map { ($0.1.seq, $0.0) }) { first, _ in first }
      return refused.compactMap { refusal in
        ends[refusal.seq].map {
          WorkFailure(envelopeID: $0.description, error: EngramError(lateWord: refusal.code))
        }
      }
    }
  }

  /// What a person should know about, newest first.
  public func alarms(limit: Int = 100) async throws -> [Alarm] {
    try await publicly { try await core.read { try $0.alarms(limit: limit).map(Alarm.init) } }
  }

  /// Messages as they arrive, over one live connection that is opened again whenever it ends.
  ///
  /// The node pushes only as much as the reader has asked for, so a slow reader slows nobody else. Ends with
  /// an error when the node refuses this device for good or is not the one that is trusted.
  public func follow() -> MessageStream { MessageStream(client: self) }
}
