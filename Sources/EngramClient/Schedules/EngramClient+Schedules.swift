internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

// A node never repeats anything by itself: it cannot seal. So repeating is the client's work, and somebody
// has to run it.
//
// Exactly once: an occurrence gives its message its id. A crash between sending and noting sends the same id
// again, which sends nothing; so does a second process of this home.

extension EngramClient {
  /// Keeps a message to be sent whenever `cron` says so, from now on. Each occurrence is a message of its
  /// own, in a thread of its own unless one is named.
  /// - Parameter timeZone: of the IANA's database.
  /// - Throws: `EngramError` of kind `badInput` for whatever `send` would refuse without asking anybody, and
  ///   for an expression or a time zone that is none.
  public func addSchedule(
    _ message: OutgoingMessage, cron: String, timeZone: String, missed: MissedOccurrences = .skip
  ) async throws -> Schedule {
    try await publicly {
      let now = core.nowMs()
      let options = message.options
      guard options.notBeforeMs == nil, options.replyTo == nil, options.messageID == nil,
        options.quotes.isEmpty
      else {
        throw EngramError(
          .badInput, name: "not-repeatable",
          "what is sent again and again has no message id, no answer, no quotes and no earliest time")
      }
      _ = try Draft(message, nowMs: now)
      let plan = try SchedulePlan(cron: cron, timeZone: timeZone, missed: missed, to: message.to)
      guard let id = MessageID(randomBytes(16)) else { preconditionFailure("16 bytes") }
      let (planBytes, content) = (plan.encoded(), message.encoded())
      let row = try await core.commit { rows in
        try rows.insertSchedule(id, plan: planBytes, content: content, nowMs: now)
        return try rows.schedules().last
      }
      guard let row else { throw ClientStoreError.damaged }
      return Schedule(row, plan, nowMs: now)
    }
  }

  /// In the order in which they were added. One that cannot be read is there as `unreadable`; the others are
  /// as they were.
  public func schedules() async throws -> [Schedule] {
    try await publicly {
      let now = core.nowMs()
      return try await core.read { rows in
        try rows.schedules().map { row in
          let plan: SchedulePlan
          do { plan = try SchedulePlan(of: row) } catch {
            return Schedule(row, unreadable: EngramError(error))
          }
          return Schedule(row, plan, nowMs: now)
        }
      }
    }
  }

  /// - Throws: `EngramError` named `no-such-schedule`.
  public func removeSchedule(_ id: String) async throws {
    try await publicly {
      let found = bytes(hex: id).flatMap { MessageID($0) }
      guard let found, try await core.commit({ try $0.removeSchedule(found) }) else {
        throw EngramError(
          .badInput, name: "no-such-schedule", "there is no such schedule in this home",
          hint: "`engram schedule list` shows them")
      }
    }
  }

  /// Sends what is due now, each occurrence once, and deals with what was missed. Messages that the node
  /// could not take are kept here as those of `send`.
  /// - Parameter report: called for each occurrence, in the order in which they were due.
  public func sendDueSchedules(report: @escaping @Sendable (ScheduleEvent) -> Void) async throws {
    try await publicly {
      let now = core.nowMs()
      let rows = try await core.read { try $0.schedules() }
      // A mark in the future was made before the clock was set back. What was sent since is known by its id.
      for row in rows where row.throughMs > now {
        try await core.commit {
          try $0.noteSchedule(row.id, throughMs: now, sentMs: nil, code: row.code)
        }
      }
      let due = rows.compactMap { row -> (row: ScheduleRow, at: UInt64, isSent: Bool)? in
        do {
          let due = try SchedulePlan(of: row).due(throughMs: row.throughMs, nowMs: now)
          return due.occurrenceMs.map { (row, $0, due.isSent) }
        } catch {
          // A time zone that this system does not know any more, for instance: the others go on.
          report(.trouble(EngramError(error)))
          return nil
        }
      }
      // One after the other: each may have a body of 10 MiB.
      for (row, occurrence, isSent) in due.sorted(by: { $0.at < $1.at }) {
        try Task.checkCancellation()
        do {
          if let event = try await perform(row, occurrence, isSent: isSent) { report(event) }
        } catch let error where !(error is CancellationError) {
          report(.trouble(EngramError(error)))
        }
      }
    }
  }

  /// - Returns: nil when the schedule was removed meanwhile.
  private func perform(
    _ row: ScheduleRow, _ occurrenceMs: UInt64, isSent: Bool
  ) async throws -> ScheduleEvent? {
    func note(_ sent: UInt64?, _ code: ErrorCode) async throws {
      try await core.commit {
        try $0.noteSchedule(row.id, throughMs: occurrenceMs, sentMs: sent, code: code)
      }
    }
    let name = row.id.description
    guard isSent else {
      try await note(nil, row.code)
      return .skipped(schedule: name, occurrenceMs: occurrenceMs)
    }
    guard let content = try await core.read({ try $0.scheduledContent(row.id) }) else { return nil }
    var message: OutgoingMessage
    do { message = try OutgoingMessage(parsing: content) } catch { throw ClientStoreError.damaged }
    message.options.messageID = MessageID(schedule: row.id, occurrenceMs: occurrenceMs).description
    let sent = try await sendBatch([message])[0]
    // A crash here leaves the message sent and not noted: it is met again, and known by its id.
    if case .refused(let error) = sent.state, error.registered != .messageIDReused {
      try await note(nil, error.registered == .none ? .internalError : error.registered)
      return .refused(schedule: name, occurrenceMs: occurrenceMs, error)
    }
    try await note(occurrenceMs, .none)
    return .sent(schedule: name, occurrenceMs: occurrenceMs, sent)
  }

  /// Sends what is due, when it is due, until the task is cancelled. May be killed at any time.
  /// - Parameter report: called for every occurrence that was dealt with.
  public func runSchedules(report: @escaping @Sendable (ScheduleEvent) -> Void) async throws {
    while !Task.isCancelled {
      do {
        try await sendDueSchedules(report: report)
        // What an earlier round could not hand to the node.
        try await resendOutbox()
      } catch {
        guard !Task.isCancelled else { return }
        report(.trouble(EngramError(error)))
      }
      try? await Task.sleep(for: .milliseconds(await untilNextLookMs()))
    }
  }

  /// Until the next occurrence, but never long: schedules come and go, and clocks are set.
  private func untilNextLookMs() async -> UInt64 {
    let now = core.nowMs()
    let next = try? await schedules().compactMap(\.nextMs).min()
    return min(max((next ?? .max) - min(next ?? .max, now), 1), ClientLimits.scheduleLookMsMax)
  }
}

extension SchedulePlan {
  fileprivate init(of row: ScheduleRow) throws {
    guard let plan = row.plan else { throw ClientStoreError.damaged }
    try self.init(parsing: plan)
  }
}

extension Schedule {
  fileprivate init(_ row: ScheduleRow, unreadable: EngramError) {
    self.init(
      id: row.id.description, cron: "", timeZone: "", missed: .skip, to: [], createdMs: row.createdMs,
      nextMs: nil, sentMs: row.sentMs, error: row.code == .none ? nil : EngramError(refusal: row.code),
      unreadable: unreadable)
  }

  fileprivate init(_ row: ScheduleRow, _ plan: SchedulePlan, nowMs: UInt64) {
    self.init(
      id: row.id.description, cron: plan.recurrence.cron.description, timeZone: plan.timeZone,
      missed: plan.missed, to: plan.to, createdMs: row.createdMs,
      nextMs: plan.recurrence.next(after: nowMs), sentMs: row.sentMs,
      error: row.code == .none ? nil : EngramError(refusal: row.code), unreadable: nil)
  }
}
