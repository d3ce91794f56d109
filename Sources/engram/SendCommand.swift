internal import ArgumentParser
internal import EngramClient
internal import EngramCore
internal import Foundation

struct SendCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "send",
    abstract: "Seal a message and hand it to the node.",
    discussion: """
      The body comes from --text, --file or standard input. The message is sealed for every device of \
      every recipient before it leaves this machine. It is kept here first: when the node cannot be \
      reached, the command ends with exit code 6, and a later `send` or `outbox --resend` transmits it. Do \
      not send it again.

      Examples:
        engram send --to worker@globex.example --text "build 7 is green"
        engram send --to a@acme.example --to b@globex.example --file report.pdf --content-type application/pdf
        make report | engram send --to boss@acme.example --priority HIGH --wait-processed
        engram send --to ops@acme.example --not-before +8h --label project=apollo --text "good morning"
        engram send --broadcast --text "the node restarts at noon"
        engram send --to worker@globex.example --template review --param repository=acme/web --param pull=7
      """)

  @Option(help: ArgumentHelp("A recipient; repeat it for more.", valueName: "address"))
  var to: [String] = []

  @Flag(help: "To every client of your node instead; your node's operator has to allow it.")
  var broadcast = false

  @Option(
    help: ArgumentHelp(
      "DIRECT, TASK_REQUEST, TASK_RESULT, QUERY, RESPONSE, … (default: DIRECT).", valueName: "type"),
    completion: .list(MessageType.allCases.map(\.name)))
  var type: String?

  @Option(help: ArgumentHelp("The conversation it belongs to, 32 hexadecimal digits.", valueName: "id"))
  var thread: String?

  @Option(help: ArgumentHelp("The envelope id of the message that it answers.", valueName: "id"))
  var replyTo: String?

  @Option(
    help: ArgumentHelp(
      "Names the message, 32 hexadecimal digits: sent again under the same id it shows its state.",
      valueName: "id"))
  var messageID: String?

  @Flag(help: "Wait until every recipient's device has processed it.")
  var waitProcessed = false

  @Option(help: ArgumentHelp("How long --wait-processed waits.", valueName: "time"))
  var timeout = TimeSpan(seconds: 60)

  @OptionGroup var template: TemplateOptions
  @OptionGroup var message: MessageOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard broadcast || !to.isEmpty else { throw ValidationError("a message needs a recipient: --to ADDRESS") }
    guard !broadcast || (to.isEmpty && replyTo == nil && messageID == nil && !waitProcessed) else {
      throw ValidationError("--broadcast goes without --to, --reply-to, --message-id and --wait-processed")
    }
    guard template.template == nil || (message.text == nil && message.file == nil) else {
      throw ValidationError("--template goes without --text and --file")
    }
  }

  func run() async throws {
    var options = message.sendOptions()
    (options.thread, options.replyTo, options.messageID) = (thread, replyTo, messageID)
    if broadcast { options.type = SendOptions.broadcast.type }
    let given = options
    let plainBody = template.template == nil ? try message.readBody() : []
    let status = try await common.withClient { client in
      var (options, body, contentType) = (given, plainBody, message.effectiveContentType)
      if let filled = try await template.filled(by: client) {
        options.type = filled.template.type ?? options.type
        options.priority = message.priority ?? filled.template.priority ?? options.priority
        (body, contentType) = (filled.body, message.contentType ?? filled.template.contentType)
      }
      options.type = type ?? options.type
      if broadcast {
        return try showPublished(
          try await client.broadcast(body: body, contentType: contentType, options: options), common)
      }
      let sent = try await client.send(to: to, body: body, contentType: contentType, options: options)
      var isProcessed: Bool?
      var receipts = sent.receipts
      if waitProcessed, sent.state == .accepted {
        isProcessed = try await client.waitUntilProcessed(
          sent.messageID, timeoutSeconds: Int(timeout.seconds))
        receipts = try await client.receipts(of: sent.messageID)
      }
      return try showSent(sent, receipts, isProcessed, json: common.json)
    }
    guard status == .done else { throw ExitCode(status.rawValue) }
  }
}

/// Says what became of a message, and what the shell is to learn.
func showSent(
  _ sent: SentMessage, _ receipts: [DeliveryReceipt], _ isProcessed: Bool?, json: Bool
) throws -> ExitStatus {
  let (state, reason, status): (String, EngramError?, ExitStatus) =
    switch sent.state {
    case .accepted: ("accepted", nil, isProcessed == false ? .notProcessed : .done)
    case .queued(let error): ("queued", error, .keptForLater)
    case .refused(let error): ("refused", error, ExitStatus(error))
    case .waiting(let error): ("waiting", error, .keptForLater)
    }
  if json {
    try Terminal.write(
      jsonLine(
        SentForm(
          messageID: sent.messageID, envelopeID: sent.envelopeID, state: state, processed: isProcessed,
          error: reason.map(ErrorForm.init), receipts: receipts.map(ReceiptForm.init))))
  } else {
    try Terminal.write("message: \(sent.messageID)\nstate: \(state)\n")
    if let id = sent.envelopeID { try Terminal.write("envelope: \(id)\n") }
    for receipt in receipts { try Terminal.write("  " + ReceiptForm(receipt).line) }
  }
  if let reason { report(ErrorForm(reason)) }
  if isProcessed == false {
    report(
      ErrorForm(
        name: "not-processed", "not every recipient has processed it yet, or one could not",
        hint: "`engram receipts \(sent.messageID)` shows how far it is"))
  }
  return status
}

struct SentForm: Encodable {
  let messageID: String
  let envelopeID: String?
  let state: String
  let processed: Bool?
  let error: ErrorForm?
  let receipts: [ReceiptForm]
}

/// `90s`, `15m`, `12h`, `7d`, or seconds.
struct TimeSpan: ExpressibleByArgument, Equatable, CustomStringConvertible {
  let seconds: UInt64

  init(seconds: UInt64) { self.seconds = seconds }

  init?(argument: String) {
    let units: [Character: UInt64] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400]
    let unit = argument.last.flatMap { units[$0] }
    let digits = unit == nil ? argument[...] : argument.dropLast()
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
      let number = UInt64(digits)
    else { return nil }
    let (value, overflow) = number.multipliedReportingOverflow(by: unit ?? 1)
    guard !overflow, value <= 1 << 40 else { return nil }
    seconds = value
  }

  var description: String {
    for (unit, length) in [("d", UInt64(86_400)), ("h", 3_600), ("m", 60)]
    where seconds > 0 && seconds % length == 0 {
      return "\(seconds / length)\(unit)"
    }
    return "\(seconds)s"
  }
  var defaultValueDescription: String { description }
}
