internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import Foundation

/// What is done about occurrences that passed while nobody was there to send them.
public enum MissedOccurrences: String, Sendable, CaseIterable {
  /// One message for all of them: the last one that was missed is sent late.
  case once
  /// None.
  case skip
}

/// A message that this client sends again and again, whenever it is time and somebody runs `runSchedules`.
public struct Schedule: Sendable {
  /// 32 hexadecimal digits.
  public let id: String
  public let cron: String
  /// As in the IANA's database, `Europe/Berlin` for instance.
  public let timeZone: String
  public let missed: MissedOccurrences
  public let to: [String]
  public let createdMs: UInt64
  /// Nil when it never comes again.
  public let nextMs: UInt64?
  /// The last occurrence that was sent.
  public let sentMs: UInt64?
  /// Why the last one was refused.
  public let error: EngramError?
  /// Why this system cannot read when and to whom it is sent, as with a time zone that it does not know any
  /// more. Then `cron`, `timeZone` and `to` are empty, and nothing is sent; it can still be removed.
  public let unreadable: EngramError?
}

/// What happened to one occurrence.
public enum ScheduleEvent: Sendable {
  case sent(schedule: String, occurrenceMs: UInt64, SentMessage)
  /// Refused for good; the next occurrence is tried again.
  case refused(schedule: String, occurrenceMs: UInt64, EngramError)
  /// It passed while nobody was there, and is not sent.
  case skipped(schedule: String, occurrenceMs: UInt64)
  /// The home or the node stood in the way; it is tried again.
  case trouble(EngramError)
}

/// When a message is sent: the part that is looked at all the time.
struct SchedulePlan: Sendable {
  let recurrence: Recurrence
  let timeZone: String
  let missed: MissedOccurrences
  let to: [String]

  init(cron: String, timeZone: String, missed: MissedOccurrences, to: [String]) throws {
    guard let zone = TimeZone(identifier: timeZone) else {
      throw EngramError(
        .badInput, name: "bad-timezone", "there is no such time zone",
        hint: "names of the IANA's database, such as Europe/Berlin or UTC")
    }
    recurrence = Recurrence(try CronExpression(cron), in: zone)
    (self.timeZone, self.missed, self.to) = (timeZone, missed, to)
  }

  /// A node that does not answer holds up the one who sends for so long; beyond it nobody was there.
  static let lateMsMax: UInt64 = 5 * 60_000

  struct Due: Equatable {
    /// The last occurrence that nobody has dealt with, nil when there is none.
    var occurrenceMs: UInt64?
    var isSent = false
  }

  /// What there is to do about the time since `throughMs`.
  func due(throughMs: UInt64, nowMs: UInt64) -> Due {
    guard let occurrence = recurrence.last(after: throughMs, through: nowMs) else { return Due() }
    return Due(
      occurrenceMs: occurrence, isSent: missed == .once || nowMs - occurrence <= Self.lateMsMax)
  }

  func encoded() -> [UInt8] {
    fields { w in
      w.field(recurrence.cron.description)
      w.field(timeZone)
      w.field(missed.rawValue)
      w.list { list in for address in to { list.field(address) } }
    }
  }

  init(parsing bytes: [UInt8]) throws {
    var r = FieldReader(bytes)
    let (cron, zone) = (try r.string(max: 1_000), try r.string(max: 1_000))
    guard let missed = MissedOccurrences(rawValue: try r.string(max: 10)) else {
      throw ClientStoreError.damaged
    }
    var to: [String] = []
    try r.list(maxCount: Limits.recipientsMax) { (list) throws(CodecError) in
      to.append(try list.string(max: Limits.addressBytesMax))
    }
    try r.finish()
    try self.init(cron: cron, timeZone: zone, missed: missed, to: to)
  }
}

extension MessageID {
  /// The id of one occurrence's message: the same however often it is sent, so it is sent once; of no meaning
  /// to others, since a schedule's id is random and stays here.
  init(schedule: MessageID, occurrenceMs: UInt64) {
    let transcript = Transcript("schedule-occurrence")
    transcript.absorb(schedule)
    transcript.absorb(occurrenceMs)
    guard let id = MessageID(Array(transcript.finish().prefix(16))) else {
      preconditionFailure("16 bytes of 32")
    }
    self = id
  }
}

/// What is sent, as the store keeps it; not a format that leaves this machine.
extension OutgoingMessage {
  func encoded() -> [UInt8] {
    fields(capacity: body.count + 512) { w in
      w.list { list in for address in to { list.field(address) } }
      w.field(contentType)
      w.field(options.type)
      w.field(options.priority)
      w.field(options.ttlSeconds)
      w.field(options.thread ?? "")
      w.list { list in
        for (key, value) in options.labels.sorted(by: { $0.key < $1.key }) {
          list.field(key)
          list.field(value)
        }
      }
      w.field(UInt8(options.compress ? 1 : 0))
      w.field(body)
    }
  }

  init(parsing bytes: [UInt8]) throws(CodecError) {
    var r = FieldReader(bytes)
    var to: [String] = []
    try r.list(maxCount: Limits.recipientsMax) { (list) throws(CodecError) in
      to.append(try list.string(max: Limits.addressBytesMax))
    }
    let contentType = try r.string(max: Limits.contentTypeBytesMax)
    var options = SendOptions()
    (options.type, options.priority) = (try r.string(max: 64), try r.string(max: 64))
    options.ttlSeconds = try r.integer()
    let thread = try r.string(max: 64)
    options.thread = thread.isEmpty ? nil : thread
    try r.list(maxCount: Limits.labelsMax) { (list) throws(CodecError) in
      let key = try list.string(max: Limits.labelValueBytesMax)
      options.labels[key] = try list.string(max: Limits.labelValueBytesMax)
    }
    options.compress = try r.integer(UInt8.self) == 1
    let body = Array(try r.field(max: Limits.bodyBytesMax))
    try r.finish()
    self.init(to: to, body: body, contentType: contentType, options: options)
  }
}
