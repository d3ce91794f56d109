internal import EngramClientStore
internal import EngramCore
internal import Synchronization

/// The receiving side of one client: what was fetched, handed out and acknowledged. One process per home
/// receives at a time, so that no message is shown twice.
actor Mailbox {
  private let core: ClientCore
  private var lock: HomeLock?
  /// Items up to here were seen by this process; the node would repeat what is not acknowledged.
  private var seenThrough: UInt64 = 0
  private var handedThrough: Int64 = 0
  /// Messages up to `handedThrough` that wait for their turn: most urgent first, of equals as they came.
  private var round: [Int64] = []

  init(core: ClientCore) { self.core = core }

  /// Takes the reader's lock of the home, waiting for another process for a while.
  /// - Throws: `busy`.
  func begin() async throws {
    var waitedMs = 0
    while !tryBegin() {
      guard waitedMs < ClientStoreLimits.lockWaitMs else { throw ClientStoreError.busy }
      try await Task.sleep(for: .milliseconds(ClientLimits.receiverPollMs))
      waitedMs += ClientLimits.receiverPollMs
    }
  }

  /// Whether this process may receive, without waiting for another one.
  func tryBegin() -> Bool {
    if lock != nil { return true }
    guard let fresh = try? HomeLock(path: core.store.home + "/receive.lock"),
      (try? fresh.acquire(waitMs: 0)) != nil
    else { return false }
    lock = fresh
    return true
  }

  func end() {
    lock?.release()
    lock = nil
  }

  /// One GET, worked through and answered.
  /// - Returns: how many items came, kept or not.
  func fetch(max: Int, waitSeconds: Int) async throws -> Int {
    try await fetchPage(max: max, waitSeconds: waitSeconds).items
  }

  private struct Page {
    var items = 0
    var bytes = 0
    /// Messages that were new.
    var stored = 0
  }

  private func fetchPage(max: Int, waitSeconds: Int) async throws -> Page {
    let items = try await core.api.items(max: max, waitSeconds: waitSeconds, after: seenThrough)
    guard !items.isEmpty else { return Page() }
    let result = try await absorb(items)
    await core.deliver(result.acks, settling: result.settles)
    if result.controls > 0 { await core.exchangeStubsIfDue(isUrgent: true) }
    return Page(
      items: items.count, bytes: items.reduce(0) { $0 + $1.payload.count }, stored: result.stored)
  }

  /// Fetches what waits, until nothing more comes at once or there are `count` messages to choose from.
  /// - Parameter waitSeconds: for the first, when there is nothing here either.
  /// - Returns: how many items came, kept or not.
  func gather(_ count: Int, waitSeconds: Int) async throws -> Int {
    let isEmpty = try core.store.read { try $0.unacknowledgedHeads(after: handedThrough, limit: 1) }.isEmpty
    var sum = Page()
    while true {
      let waits = isEmpty && sum.items == 0
      let before = seenThrough
      let page = try await fetchPage(
        max: ClientLimits.itemsPerFetch, waitSeconds: waits ? waitSeconds : 0)
      sum.items += page.items
      sum.bytes += page.bytes
      sum.stored += page.stored
      // A page may end early, at a large message. One that brings nothing new is the last.
      guard page.items > 0, seenThrough > before, sum.stored < count, sum.bytes < ClientLimits.gatheredBytes
      else { return sum.items }
    }
  }

  /// Messages that the application has not been given by this process, the most urgent of the first `among`
  /// that came leading, of equals the one that came first. What was looked at together is handed out before
  /// anything that comes later, so that nothing waits for ever.
  func next(max: Int, among: Int) throws -> [ReceivedMessage] {
    // No suspension point in here: two callers must not be given the same message.
    if round.isEmpty {
      let heads = try core.store.read { try $0.unacknowledgedHeads(after: handedThrough, limit: among) }
      round = heads.sorted { a, b in
        (b.priority.rawValue, a.row) < (a.priority.rawValue, b.row)
      }.map(\.row)
      handedThrough = heads.last?.row ?? handedThrough
    }
    return try takeRound(max: max, maxBytes: ClientLimits.gatheredBytes)
  }

  /// What is left of a round.
  func rest(max: Int) throws -> [ReceivedMessage] {
    try takeRound(max: max, maxBytes: ClientLimits.gatheredBytes)
  }

  private func takeRound(max: Int, maxBytes: Int) throws -> [ReceivedMessage] {
    var messages: [ReceivedMessage] = []
    var (taken, bytes) = (0, 0)
    try core.store.read { rows in
      for row in round where messages.count < max && bytes < maxBytes {
        taken += 1
        guard let message = try rows.unacknowledged(row: row) else { continue }
        bytes += message.body.count
        messages.append(ReceivedMessage(message))
      }
    }
    round.removeFirst(taken)
    return messages
  }

  /// Commits a batch of items.
  func absorb(_ items: [MailboxItem]) async throws -> InboundResult {
    let nowMs = core.nowMs()
    let (result, sawGap) = try await core.commit { [core] rows in
      var inbound = Inbound(
        account: core.account, device: core.device, credentials: core.credentials, nowMs: nowMs)
      return (try inbound.process(items, in: rows), inbound.sawGap)
    }
    if sawGap { await core.judgeGaps(foundMs: nowMs) }
    seenThrough = Swift.max(seenThrough, result.highestSeq)
    if result.hasNews { core.hasNews.store(true, ordering: .relaxed) }
    return result
  }

  /// Messages that the application has not been given by this process, in order of arrival, for readers of a
  /// live connection.
  func take(max: Int) async throws -> [ReceivedMessage] {
    // Not a suspension point between reading and moving the cursor: two callers must not be given the same
    // message.
    let left = try takeRound(max: .max, maxBytes: .max)
    let rows = try core.store.read { try $0.unacknowledged(after: handedThrough, limit: max) }
    if let last = rows.last { handedThrough = last.row }
    return left + rows.map(ReceivedMessage.init)
  }
}

extension ReceivedMessage {
  init(_ row: InboxRow) {
    let content = QuotedContentType(parsing: row.head.contentType)
    self.init(
      envelopeID: row.envelopeID.description, messageID: row.messageID.description, from: row.sender.text,
      fromDevice: row.senderKid.description, thread: row.thread.description, replyTo: row.parent?.description,
      type: row.type.name, priority: row.priority.name, createdMs: row.createdMs, receivedMs: row.receivedMs,
      expiresMs: row.head.expiresMs, isAfterGap: row.isAfterGap, to: row.head.recipients.map(\.text),
      labels: row.head.labels.dictionary, topic: row.head.topic.isEmpty ? nil : row.head.topic,
      contentType: content.contentType, quotes: content.quotes, body: row.body)
  }
}

extension ClientCore {
  /// Tells the node what this device has to say about its items. What does not arrive is said again later:
  /// signed receipts are on the disk, and the node repeats what nobody acknowledged.
  /// - Returns: those of which the node says that it does not take them.
  @discardableResult
  func deliver(
    _ acks: [MailboxAck], settling envelopes: [(id: EnvelopeID, seq: UInt64)]
  ) async -> [(seq: UInt64, code: ErrorCode)] {
    guard !acks.isEmpty else { return [] }
    let seqs = acks.map(\.seq)
    do {
      let outcomes = try await transmit(acks)
      // A message that is in a consumer's hands may come back, and its receipt be wanted again.
      let done = Set(
        zip(seqs, outcomes).filter { $0.1.outcome != .later && $0.1.code != .leaseLost }.map(\.0))
      let settled = envelopes.filter { done.contains($0.seq) }
      if !settled.isEmpty { try await commit { try $0.settle(settled) } }
      return zip(seqs, outcomes).compactMap { seq, outcome in
        switch outcome.outcome {
        case .accepted, .later: nil
        case .duplicate: (seq, .none)
        case .refused: (seq, outcome.code)
        }
      }
    } catch {
      // Not lost: see above.
      return []
    }
  }

  /// Receipts that were signed and never confirmed.
  func deliverLeftOvers() async throws {
    while true {
      let left = try await read { try $0.unsettled(limit: Limits.envelopesPerBatchMax) }
      guard !left.isEmpty else { return }
      await deliver(left.map(\.ack), settling: left.map { ($0.id, $0.ack.seq) })
      guard try await read({ try $0.unsettled(limit: 1).first?.id }) != left.first?.id else { return }
    }
  }

  private func transmit(_ acks: [MailboxAck]) async throws -> [ItemOutcome] {
    var outcomes: [ItemOutcome] = []
    for start in stride(from: 0, to: acks.count, by: Limits.envelopesPerBatchMax) {
      let chunk = Array(acks[start..<min(start + Limits.envelopesPerBatchMax, acks.count)])
      if let link = liveLink {
        outcomes += try await link.acknowledge(chunk)
      } else {
        outcomes += try await api.acknowledge(chunk)
      }
    }
    return outcomes
  }
}
