internal import EngramClientStore
internal import EngramCore

/// What to look for. Everything that is set has to hold.
public struct SearchQuery: Sendable {
  /// Words of the body, `"quoted phrases"` side by side. Case and accents do not matter.
  public var text: String?
  /// Meet other forms of the same English word (`report`, `reports`, `reported`).
  public var stems = true
  public var from: String?
  public var to: String?
  /// `TASK_REQUEST` and the like.
  public var type: String?
  public var priority: String?
  /// 32 hexadecimal digits.
  public var thread: String?
  /// A key with the value it must have, or nil for any.
  public var labels: [(key: String, value: String?)] = []
  public var state: DeliveryStatus?
  /// By the sender's date, in milliseconds since 1970: from then, and before then.
  public var sinceMs: UInt64?
  public var untilMs: UInt64?

  public init() {}
}

extension EngramClient {
  /// Kept messages that fit, newest first, without their bodies.
  ///
  /// Only what was opened or sent on this device is here to be found, and its words only while its body is
  /// kept. Pages are stable: what arrives while one reads belongs before the first page.
  /// - Parameter cursor: `next` of the page before. A page may hold fewer than `limit`, even none, and still
  ///   have a next one: at most `ClientLimits.searchRowsMax` candidates are looked at for one.
  /// - Throws: `EngramError` of kind `badInput` for a query that cannot be asked.
  public func search(
    _ query: SearchQuery, limit: Int = 50, cursor: String? = nil
  ) async throws -> Page<HistoryMessage> {
    try await publicly {
      let filter = try HistoryFilter(query)
      guard (1...ClientLimits.pageMax).contains(limit) else {
        throw EngramError(.badInput, name: "bad-limit", "a page has 1 to \(ClientLimits.pageMax) entries")
      }
      let key = filter.encoded() + Array((query.state?.rawValue ?? "").utf8)
      let start = try cursor.map { try Cursor(parsing: $0, for: key) }
      if filter.needsIndex { try await bringIndexUpToDate() }
      let state = query.state
      return try await core.read { rows in
        let horizon = try start?.horizon ?? rows.newestRow()
        let found = try rows.search(
          filter, state: state, below: min(start?.below ?? .max, horizon &+ 1), limit: limit)
        return Page(
          items: found.items,
          next: found.next.map { Cursor(horizon: horizon, below: $0).text(for: key) })
      }
    }
  }

  /// How much is kept here, and for how long.
  public func history() async throws -> HistorySummary {
    try await publicly {
      try await core.read { rows in
        let size = try rows.historySize()
        return HistorySummary(
          messages: size.messages, bodies: size.bodies, oldestMs: size.oldestMs,
          retentionSeconds: try rows.historyRetentionMs() / 1_000)
      }
    }
  }

  /// Sets how long bodies stay after they were sent or opened. What is older goes at once, or with the next
  /// command that reaches the node: it has to confirm this machine's clock first.
  /// - Parameter seconds: at most ten years; 0 erases each body as soon as it is acknowledged.
  public func setHistoryRetention(seconds: UInt64) async throws {
    try await publicly {
      guard seconds <= HistoryLimits.retentionMsMax / 1_000 else {
        throw EngramError(.badInput, name: "bad-retention", "bodies are kept for at most ten years")
      }
      let now = core.nowMs()
      let isClockRight = (try? await core.api.confirmClock()) != nil
      try await core.commit { rows in
        try rows.setHistoryRetention(ms: seconds * 1_000)
        if isClockRight { try rows.purgeHistory(nowMs: now) }
        // Nothing is to be kept: that takes no clock.
        if seconds == 0 { try rows.eraseBodies() }
      }
    }
  }

  /// Indexes what came since the last search.
  private func bringIndexUpToDate() async throws {
    guard try await core.read({ try $0.isIndexBehind() }) else { return }
    while try await core.commit({ try $0.indexHistory() }) == HistoryLimits.indexedPerCommit {}
  }
}

/// What is kept on this device.
public struct HistorySummary: Sendable {
  public let messages: Int
  /// Of which the body is still there.
  public let bodies: Int
  public let oldestMs: UInt64?
  public let retentionSeconds: UInt64
}

extension ClientSnapshot {
  /// One page: candidates from the index and the columns, then what only code can judge.
  fileprivate func search(
    _ filter: HistoryFilter, state: DeliveryStatus?, below: Int64, limit: Int
  ) throws -> (items: [HistoryMessage], next: Int64?) {
    var items: [HistoryMessage] = []
    var (below, looked) = (below, 0)
    while looked < ClientLimits.searchRowsMax {
      let candidates = try search(filter, below: below, limit: ClientLimits.pageMax)
      for row in candidates {
        guard items.count < limit else { return (items, below) }
        below = row.row
        looked += 1
        guard try accepts(row, filter.text) else { continue }
        let message = try HistoryMessage(row, in: self, withBody: false)
        if state == nil || state == message.state { items.append(message) }
      }
      guard candidates.count == ClientLimits.pageMax else { return (items, nil) }
    }
    return (items, below)
  }

  private func accepts(_ row: HistoryRow, _ text: TextQuery?) throws -> Bool {
    guard let text, !text.phrases.isEmpty else { return true }
    guard let body = try body(of: row.envelopeID) else { return false }
    return text.accepts(String(decoding: body, as: UTF8.self))
  }
}

extension HistoryFilter {
  fileprivate init(_ query: SearchQuery) throws {
    func bad(_ name: String, _ text: String, _ hint: String? = nil) -> EngramError {
      EngramError(.badInput, name: name, text, hint: hint)
    }
    self.init()
    if let text = query.text {
      guard let parsed = TextQuery(text, stems: query.stems) else {
        throw bad("bad-text", "there is no word to look for, or more than \(TextQuery.wordsMax)")
      }
      self.text = parsed
    }
    sender = try query.from.map { try Address(checking: $0) }
    recipient = try query.to.map { try Address(checking: $0) }
    type = try query.type.map { try MessageType(checking: $0) }
    priority = try query.priority.map { try Priority(checking: $0) }
    if let text = query.thread {
      guard let id = bytes(hex: text).flatMap({ ThreadID($0) }) else { throw EngramError.badThread }
      thread = id
    }
    labels = query.labels
    (sinceMs, untilMs) = (query.sinceMs, query.untilMs)
    if let since = query.sinceMs, let until = query.untilMs, since >= until {
      throw bad("bad-time", "--since lies before --until")
    }
  }
}

extension MessageType {
  init(checking name: String) throws {
    guard let type = MessageType(name: name) else {
      throw EngramError(
        .badInput, name: "bad-type", "the message type is not known",
        hint: MessageType.allCases.map(\.name).joined(separator: " "))
    }
    self = type
  }
}

extension Priority {
  init(checking name: String) throws {
    guard let priority = Priority(name: name) ?? UInt8(name).flatMap(Priority.init(rawValue:)) else {
      throw EngramError(
        .badInput, name: "bad-priority", "the priority is not known",
        hint: Priority.allCases.map(\.name).joined(separator: " ") + ", or 1 to 5")
    }
    self = priority
  }
}

extension EngramError {
  static var badThread: EngramError {
    EngramError(.badInput, name: "bad-thread", "a thread id has 32 hexadecimal digits")
  }
}
