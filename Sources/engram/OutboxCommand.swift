internal import ArgumentParser
internal import EngramClient

struct OutboxCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "outbox",
    abstract: "List sent messages and those that still wait here.",
    discussion: """
      States: `accepted` the node has it; `waiting` sealed, not confirmed by the node; `queued` not sealed \
      yet, because a recipient's keys cannot be had; `refused` the node will not take it; `cancelled` \
      called back before it left.

      What waits is sent in the order in which it was given, whatever happened meanwhile: a crash, a lost \
      connection, a clock that was set.

      Examples:
        engram outbox
        engram outbox --resend
      """)

  @Flag(help: "Transmit what waits.")
  var resend = false

  @Option(help: ArgumentHelp("List at most so many.", valueName: "count"))
  var max = 50

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      if resend {
        let taken = try await client.resendOutbox()
        if !common.json { Terminal.note("the node has taken \(taken) message\(taken == 1 ? "" : "s")") }
      }
      for entry in try await client.outbox(limit: max) {
        let form = OutboxForm(entry)
        try Terminal.write(common.json ? jsonLine(form) : form.text)
      }
    }
  }
}

struct OutboxForm: Encodable {
  let messageID: String
  let envelopeID: String?
  let to: [String]
  let state: String
  let createdMs: UInt64
  let expiresMs: UInt64
  let attempts: Int
  let error: ErrorForm?

  init(_ entry: OutboxEntry) {
    (messageID, envelopeID, to) = (entry.messageID, entry.envelopeID, entry.recipients)
    (state, createdMs, expiresMs) = (entry.state.rawValue, entry.createdMs, entry.expiresMs)
    (attempts, error) = (entry.attempts, entry.reason.map(ErrorForm.init))
  }

  var text: String {
    let reason = error.map { "  \($0.message)" } ?? ""
    return "\(messageID)  \(timeText(createdMs))  \(state)  \(to.joined(separator: ", "))\(reason)\n"
  }
}

struct ReceiptsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "receipts",
    abstract: "Show what nodes and devices have signed about a message of yours.",
    discussion: """
      Every receipt was checked against the key that is pinned for its issuer. Receipts arrive with the \
      inbox; this command fetches first unless --offline is given.

      Example:
        engram receipts 0f3a…
      """)

  @Argument(help: "The message id (32 digits) or the envelope id (64 digits).")
  var message: String

  @Flag(help: "Show what is known without asking the node.")
  var offline = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      var unreachable: EngramError?
      do {
        if !offline { _ = try await client.waitUntilProcessed(message, timeoutSeconds: 1) }
      } catch let error as EngramError where error.kind == .unreachable { unreachable = error }
      let receipts = try await client.receipts(of: message).map(ReceiptForm.init)
      if receipts.isEmpty, !common.json { Terminal.note("no receipts yet") }
      for receipt in receipts { try Terminal.write(common.json ? jsonLine(receipt) : receipt.line) }
      // What is known here was still worth showing; the exit code says that it may be old.
      if let unreachable { throw unreachable }
    }
  }
}

struct AlarmsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "alarms",
    abstract: "Show missing messages, forks, changed identities and refused receipts.",
    discussion: """
      A gap resolves itself when the missing messages arrive. One that stays means that somebody on the \
      way dropped messages, or that the sender's device was restored from a backup.

      Example:
        engram alarms --json
      """)

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      for alarm in try await client.alarms() {
        let form = AlarmForm(alarm)
        try Terminal.write(common.json ? jsonLine(form) : form.text)
      }
    }
  }
}

struct AlarmForm: Encodable {
  let kind: String
  let atMs: UInt64
  let address: String
  let device: String?
  let envelopeID: String?
  let code: UInt16
  let codeName: String
  let missingFrom: UInt64?
  let missingTo: UInt64?
  let resolved: Bool

  init(_ alarm: Alarm) {
    (kind, atMs, address, device) = (alarm.kind, alarm.atMs, alarm.address, alarm.device)
    (envelopeID, code, codeName) = (alarm.envelopeID, alarm.code, alarm.codeName)
    (missingFrom, missingTo) = (alarm.missing?.lowerBound, alarm.missing?.upperBound)
    resolved = alarm.isResolved
  }

  var text: String {
    var text = "\(timeText(atMs))  \(kind)  \(address)  \(codeName)"
    if let missingFrom, let missingTo { text += "  missing \(missingFrom) to \(missingTo)" }
    return text + (resolved ? "  resolved\n" : "\n")
  }
}
