internal import ArgumentParser
internal import EngramClient
internal import Foundation

private let layout = """
  A spool is a folder with the folders pending, delivered, processed and expired. A file in it is one message,
  named p{priority}_{timestamp}_{uuid}.json:

    {"to": ["worker@globex.example"], "type": "TASK_REQUEST", "body": "…", "expires": "2026-12-01T00:00:00Z"}

  Keys: to, body or body_base64; and, where wanted, id, from, type, priority, created, expires or ttl_seconds,
  not_before, thread, reply_to, labels, content_type. state, envelope and receipts are kept as information. A
  key that is not known is an error, not ignored.
  """

struct ImportCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "import",
    abstract: "Send the messages that wait in a spool of files.",
    discussion: """
      \(layout)

      Files of pending are sealed and sent, urgent first, then old first; then they move to the folder \
      imported. A file that cannot be taken is reported and left where it is. The UUID in its name is the \
      message id: a file that is met twice is sent once.

      Examples:
        engram import spool --dry-run
        engram import spool --keep --json
      """)

  @Argument(help: ArgumentHelp("The folder that holds pending.", valueName: "dir"), completion: .directory)
  var folder: String

  @Flag(help: "Only say what would be sent and what would be left.")
  var dryRun = false

  @Flag(help: "Leave the files of sent messages in pending.")
  var keep = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let json = common.json
    let summary = try await common.withClient { client in
      try await client.importSpool(folder, keepsFiles: keep, isRehearsal: dryRun) { entry in
        if json { try? Terminal.write(jsonLine(SpoolFileForm(entry))) } else { SpoolFileForm(entry).show() }
      }
    }
    let form = SpoolImportForm(summary, isRehearsal: dryRun)
    try Terminal.write(json ? jsonLine(form) : form.text)
    if summary.left > 0 { throw ExitCode(ExitStatus.usage.rawValue) }
  }
}

struct SpoolFileForm: Encodable {
  let file: String?
  let outcome: String
  let error: String?
  let message: String?

  init(_ entry: SpoolFileReport) {
    file = entry.file
    switch entry.outcome {
    case .sent: (outcome, error, message) = ("sent", nil, nil)
    case .alreadySent: (outcome, error, message) = ("already-sent", nil, nil)
    case .left(let problem): (outcome, error, message) = ("left", problem.name, problem.message)
    }
  }

  /// Only what a person has to look at.
  func show() {
    guard let message, let error else { return }
    let name = file.map { Terminal.printable($0) } ?? "(a name that is not UTF-8)"
    Terminal.note("left: \(name): \(Terminal.printable(message)) (\(error))")
  }
}

struct SpoolImportForm: Encodable {
  let sent: Int
  let alreadySent: Int
  let left: Int
  let bytes: Int
  let dryRun: Bool

  init(_ summary: SpoolImportSummary, isRehearsal: Bool) {
    (sent, alreadySent, left) = (summary.sent, summary.alreadySent, summary.left)
    (bytes, dryRun) = (summary.bytes, isRehearsal)
  }

  var text: String {
    "\(dryRun ? "would be sent" : "sent"): \(sent)  already sent: \(alreadySent)  left: \(left)\n"
  }
}

struct ExportCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write the messages that this home keeps as a spool of files.",
    discussion: """
      \(layout)

      The files hold the bodies in clear: whoever can read the folder can read the messages. It is made for \
      its owner only. Messages that failed or were cancelled lie in expired; "state" says how they ended.

      Examples:
        engram export spool
        engram export spool --from worker@globex.example --since 2026-11-01T00:00:00Z
        engram export spool --state processed --label project=apollo --until 7d
      """)

  @Argument(
    help: ArgumentHelp("The folder; made if it is missing.", valueName: "dir"), completion: .directory)
  var folder: String

  @OptionGroup var filter: HistoryFilterOptions
  @OptionGroup var common: CommonOptions

  func run() async throws {
    let query = filter.query
    let summary = try await common.withClient { client in
      try await client.exportSpool(folder, query: query) { count in
        if isatty(STDERR_FILENO) == 1 { Terminal.note("\(count) messages written") }
      }
    }
    let form = SpoolExportForm(summary)
    try Terminal.write(common.json ? jsonLine(form) : form.text)
  }
}

struct SpoolExportForm: Encodable {
  let pending: Int
  let delivered: Int
  let processed: Int
  let expired: Int
  let withoutBody: Int
  let bytes: Int

  init(_ summary: SpoolExportSummary) {
    func count(_ state: SpoolState) -> Int { summary.written[state] ?? 0 }
    (pending, delivered) = (count(.pending), count(.delivered))
    (processed, expired) = (count(.processed), count(.expired))
    (withoutBody, bytes) = (summary.withoutBody, summary.bytes)
  }

  var text: String {
    let missing = withoutBody == 0 ? "" : "  without body, not written: \(withoutBody)"
    let open = "pending: \(pending)  delivered: \(delivered)"
    return "\(open)  processed: \(processed)  expired: \(expired)\(missing)\n"
  }
}

struct WatchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "watch",
    abstract: "Keep a spool of files as a live interface, for tools that only know files.",
    discussion: """
      \(layout)

      A file that appears in pending is sent, and moves to delivered, processed or expired as its message \
      does. A message for this client appears in delivered, with "direction": "in"; moving its file to \
      processed acknowledges it. Write files under another name first (a leading dot), then rename them. A \
      new file is seen at once; --interval is for the node, and for file systems that do not tell of new ones.

      Example:
        engram watch spool --json
      """)

  @Argument(
    help: ArgumentHelp("The folder; made if it is missing.", valueName: "dir"), completion: .directory)
  var folder: String

  @Option(
    help: ArgumentHelp("Time between two looks at the node and all files, in milliseconds.", valueName: "ms"))
  var interval = 1_000

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard (10...3_600_000).contains(interval) else {
      throw ValidationError("--interval is 10 ms to one hour")
    }
  }

  func run() async throws {
    let json = common.json
    try await common.withClient { client in
      if !json { Terminal.note("watching \(folder); end with Ctrl-C") }
      try await client.watchSpool(folder, intervalMs: interval) { event in
        let form = SpoolEventForm(event)
        try? Terminal.write(json ? jsonLine(form) : form.text)
      }
    }
  }
}

struct SpoolEventForm: Encodable {
  let event: String
  let file: String?
  let from: String?
  let to: String?
  let error: String?
  let message: String?

  init(_ happened: SpoolEvent) {
    switch happened {
    case .outgoing(let entry):
      let form = SpoolFileForm(entry)
      (event, file, from, to) = (form.outcome, form.file, nil, nil)
      (error, message) = (form.error, form.message)
    case .moved(let file, let state):
      (event, self.file, from, to, error, message) = ("moved", file, nil, state.rawValue, nil, nil)
    case .arrived(let file, let sender):
      (event, self.file, from, to, error, message) = ("arrived", file, sender, nil, nil, nil)
    case .acknowledged(let file):
      (event, self.file, from, to, error, message) = ("acknowledged", file, nil, nil, nil, nil)
    case .trouble(let trouble):
      (event, file, from, to) = ("trouble", nil, nil, nil)
      (error, message) = (trouble.name, trouble.message)
    }
  }

  var text: String {
    var parts = [event]
    if let file { parts.append(Terminal.printable(file)) }
    if let from { parts.append("from \(from)") }
    if let to { parts.append("to \(to)") }
    if let message, let error { parts.append("\(Terminal.printable(message)) (\(error))") }
    return parts.joined(separator: "  ") + "\n"
  }
}
