internal import ArgumentParser
internal import EngramClient
internal import EngramCore
internal import Foundation

struct ScheduleCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "schedule",
    abstract: "Send a message again and again.",
    discussion: """
      A schedule is kept in this home, encrypted, and sent by `engram schedule run`, which a supervisor \
      keeps running. Each occurrence is sent exactly once, whatever interrupts it and however often it runs. \
      (A single message at a later time needs no schedule: engram send --not-before.)

      Examples:
        engram schedule add --cron "0 9 * * 1-5" --timezone Europe/Berlin --to ops@acme.example --text hello
        engram schedule list
        engram schedule remove 0123456789abcdef0123456789abcdef
        engram schedule run
      """,
    subcommands: [ScheduleAdd.self, ScheduleList.self, ScheduleRemove.self, ScheduleRun.self])
}

struct ScheduleAdd: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Keep a message to be sent whenever it is time.",
    discussion: """
      --cron has five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday). \
      Each is *, a value, a range a-b, a step */n or a-b/n, or a list of these; months and weekdays also \
      have their English names (JAN, MON). When day and weekday are both restricted, one of them is enough.

      When clocks are changed: an expression whose hours begin with * goes by the time that passes. Any \
      other names times of the day, each once a day: one that the clock skips comes at the moment of the \
      change, one that it shows twice comes the first time.

      Body and options are those of `engram send`; a template is filled in now. Each occurrence begins a \
      conversation of its own unless --thread is given.

      Examples:
        engram schedule add --cron "*/15 * * * *" --to monitor@globex.example --type HEARTBEAT --text alive
        engram schedule add --cron "0 9 1 * *" --missed once --to boss@acme.example --file monthly.txt
      """)

  @Option(help: ArgumentHelp("When: minute, hour, day, month, weekday.", valueName: "expression"))
  var cron: String

  @Option(help: ArgumentHelp("Whose clock it is (default: this machine's).", valueName: "zone"))
  var timezone: String?

  @Option(
    help: ArgumentHelp(
      "What is done when `run` was not running: skip, or once for all that was missed.", valueName: "rule"),
    completion: .list(MissedOccurrences.allCases.map(\.rawValue)))
  var missed = MissedRule(.skip)

  @Option(help: ArgumentHelp("A recipient; repeat it for more.", valueName: "address"))
  var to: [String] = []

  @Option(
    help: ArgumentHelp("The message type (default: DIRECT).", valueName: "type"),
    completion: .list(MessageType.allCases.map(\.name)))
  var type: String?

  @Option(help: ArgumentHelp("The conversation it belongs to, 32 hexadecimal digits.", valueName: "id"))
  var thread: String?

  @OptionGroup var template: TemplateOptions
  @OptionGroup var message: MessageOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard !to.isEmpty else { throw ValidationError("a message needs a recipient: --to ADDRESS") }
    guard message.notBefore == nil else { throw ValidationError("--not-before goes without --cron") }
    guard template.template == nil || (message.text == nil && message.file == nil) else {
      throw ValidationError("--template goes without --text and --file")
    }
  }

  func run() async throws {
    var options = message.sendOptions()
    options.thread = thread
    let given = options
    let plainBody = template.template == nil ? try message.readBody() : []
    try await common.withClient { client in
      var (options, body, contentType) = (given, plainBody, message.effectiveContentType)
      if let filled = try await template.filled(by: client) {
        options.type = filled.template.type ?? options.type
        options.priority = message.priority ?? filled.template.priority ?? options.priority
        (body, contentType) = (filled.body, message.contentType ?? filled.template.contentType)
      }
      options.type = type ?? options.type
      let schedule = try await client.addSchedule(
        OutgoingMessage(to: to, body: body, contentType: contentType, options: options), cron: cron,
        timeZone: timezone ?? TimeZone.current.identifier, missed: missed.rule)
      let form = ScheduleForm(schedule)
      try Terminal.write(common.json ? jsonLine(form) : form.text)
    }
  }
}

struct ScheduleList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "Show what is sent again and again, and when it is next.",
    discussion: """
      Example:
        engram schedule list --json
      """)

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      let schedules = try await client.schedules()
      for schedule in schedules {
        let form = ScheduleForm(schedule)
        try Terminal.write(common.json ? jsonLine(form) : form.text)
      }
      if schedules.isEmpty, !common.json { Terminal.note("there are no schedules") }
    }
  }
}

struct ScheduleRemove: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "remove",
    abstract: "Stop sending a message; what was sent stays sent.",
    discussion: """
      Example:
        engram schedule remove 0123456789abcdef0123456789abcdef
      """)

  @Argument(help: ArgumentHelp("The schedule's id, as `engram schedule list` shows it.", valueName: "id"))
  var id: String

  @OptionGroup var common: CommonOptions

  private struct Form: Encodable {
    let id: String
    let done = "removed"
  }

  func run() async throws {
    try await common.withClient { client in
      try await client.removeSchedule(id)
      try say(common, Form(id: id), "removed \(id)\n")
    }
  }
}

struct ScheduleRun: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Send what is due whenever it is due, until it is stopped.",
    discussion: """
      For a supervisor to keep running. It may be killed at any time: a message that was sent is known by \
      its occurrence and not sent again, also by a second `run`. What passed while it was not running is \
      dealt with as --missed of the schedule says; up to five minutes late is not missed.

      Examples:
        engram schedule run --json
        engram schedule run --once
      """)

  @Flag(help: "Send what is due now, and end.")
  var once = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let json = common.json
    let report: @Sendable (ScheduleEvent) -> Void = { event in
      let form = ScheduleEventForm(event)
      try? Terminal.write(json ? jsonLine(form) : form.text)
    }
    try await common.withClient { client in
      if once { return try await client.sendDueSchedules(report: report) }
      if !json { Terminal.note("sending what is due; end with Ctrl-C") }
      try await client.runSchedules(report: report)
    }
  }
}

/// `skip` or `once`.
struct MissedRule: ExpressibleByArgument, CustomStringConvertible {
  let rule: MissedOccurrences

  init(_ rule: MissedOccurrences) { self.rule = rule }

  init?(argument: String) {
    guard let rule = MissedOccurrences(rawValue: argument) else { return nil }
    self.rule = rule
  }

  var description: String { rule.rawValue }
  var defaultValueDescription: String { description }
}

struct ScheduleForm: Encodable {
  let id: String
  /// As `timezone`, `missed` and `to`: nil when it cannot be read.
  let cron: String?
  let timezone: String?
  let missed: String?
  let to: [String]?
  let createdMs: UInt64
  let nextMs: UInt64?
  let sentMs: UInt64?
  let error: ErrorForm?
  let unreadable: ErrorForm?

  init(_ schedule: Schedule) {
    let isReadable = schedule.unreadable == nil
    (id, createdMs, unreadable) = (schedule.id, schedule.createdMs, schedule.unreadable.map(ErrorForm.init))
    (cron, timezone) = isReadable ? (schedule.cron, schedule.timeZone) : (nil, nil)
    (missed, to) = isReadable ? (schedule.missed.rawValue, schedule.to) : (nil, nil)
    (nextMs, sentMs, error) = (schedule.nextMs, schedule.sentMs, schedule.error.map(ErrorForm.init))
  }

  var text: String {
    guard let cron, let timezone, let missed, let to else {
      return "\(id)  cannot be read: \(unreadable?.message ?? "damaged") (\(unreadable?.name ?? "damaged"))\n"
    }
    var text = "\(id)  \(cron)  (\(timezone), missed: \(missed))  to \(to.joined(separator: ", "))\n"
    text += "  next: \(nextMs.map(timeText) ?? "never")  last: \(sentMs.map(timeText) ?? "never")\n"
    if let error { text += "  the last one was refused: \(error.message) (\(error.name))\n" }
    return text
  }
}

struct ScheduleEventForm: Encodable {
  let event: String
  let schedule: String?
  let occurrenceMs: UInt64?
  let messageID: String?
  let state: String?
  let error: ErrorForm?

  init(_ happened: ScheduleEvent) {
    switch happened {
    case .sent(let schedule, let occurrenceMs, let sent):
      let state =
        switch sent.state {
        case .accepted: "accepted"
        case .queued: "queued"
        case .refused: "refused"
        case .waiting: "waiting"
        }
      (event, self.schedule, self.occurrenceMs) = ("sent", schedule, occurrenceMs)
      (messageID, self.state, error) = (sent.messageID, state, nil)
    case .refused(let schedule, let occurrenceMs, let error):
      (event, self.schedule, self.occurrenceMs) = ("refused", schedule, occurrenceMs)
      (messageID, state, self.error) = (nil, nil, ErrorForm(error))
    case .skipped(let schedule, let occurrenceMs):
      (event, self.schedule, self.occurrenceMs) = ("skipped", schedule, occurrenceMs)
      (messageID, state, error) = (nil, nil, nil)
    case .trouble(let trouble):
      (event, schedule, occurrenceMs) = ("trouble", nil, nil)
      (messageID, state, error) = (nil, nil, ErrorForm(trouble))
    }
  }

  var text: String {
    var parts = [event]
    if let schedule { parts.append(schedule) }
    if let occurrenceMs { parts.append("of \(timeText(occurrenceMs))") }
    if let messageID, let state { parts.append("message \(messageID) (\(state))") }
    if let error { parts.append("\(Terminal.printable(error.message)) (\(error.name))") }
    return parts.joined(separator: "  ") + "\n"
  }
}
