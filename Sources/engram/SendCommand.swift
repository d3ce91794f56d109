internal import ArgumentParser
internal import EngramClient
internal import Foundation
internal import Glibc

struct SendCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "send",
    abstract: "Seal a message and hand it to the node.",
    discussion: """
      The body comes from --text, --file or standard input. The message is sealed for every device of every
      recipient before it leaves this machine. It is kept here first: when the node cannot be reached, the
      command ends with exit code 6, and a later `send` or `outbox --resend` transmits it. Do not send it
      again.

      Examples:
        engram send --to worker@globex.example --text "build 7 is green"
        engram send --to a@acme.example --to b@globex.example --file report.pdf --content-type application/pdf
        make report | engram send --to boss@acme.example --priority HIGH --wait-processed
      """)

  @Option(help: ArgumentHelp("A recipient; repeat it for more.", valueName: "address"))
  var to: [String]

  @Option(help: ArgumentHelp("The body is this text.", valueName: "text"))
  var text: String?

  @Option(help: ArgumentHelp("The body is in this file.", valueName: "file"))
  var file: String?

  @Option(help: ArgumentHelp("DIRECT, TASK_REQUEST, TASK_RESULT, QUERY, RESPONSE, …", valueName: "type"))
  var type = "DIRECT"

  @Option(help: ArgumentHelp("LOW, NORMAL, HIGH, URGENT or CRITICAL.", valueName: "priority"))
  var priority = "NORMAL"

  @Option(help: ArgumentHelp("How long it may wait: 90s, 15m, 12h, 7d.", valueName: "time"))
  var ttl = TimeSpan(seconds: 7 * 24 * 3_600)

  @Option(help: ArgumentHelp("The conversation it belongs to, 32 hexadecimal digits.", valueName: "id"))
  var thread: String?

  @Option(help: ArgumentHelp("The envelope id of the message that it answers.", valueName: "id"))
  var replyTo: String?

  @Option(
    help: ArgumentHelp(
      "MIME type of the body (default: text for --text, else octet-stream).", valueName: "type"))
  var contentType: String?

  @Flag(help: "Compress before sealing; only for bodies that hold nothing but your own text.")
  var compress = false

  @Flag(help: "Wait until every recipient's device has processed it.")
  var waitProcessed = false

  @Option(help: ArgumentHelp("How long --wait-processed waits.", valueName: "time"))
  var timeout = TimeSpan(seconds: 60)

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard !to.isEmpty else { throw ValidationError("a message needs a recipient: --to ADDRESS") }
    guard text == nil || file == nil else { throw ValidationError("--text and --file contradict each other") }
  }

  func run() async throws {
    let body = try readBody()
    var options = SendOptions()
    (options.type, options.priority, options.ttlSeconds) = (type, priority, ttl.seconds)
    (options.thread, options.replyTo, options.compress) = (thread, replyTo, compress)
    let fallback = file == nil ? "text/plain; charset=utf-8" : "application/octet-stream"
    let status = try await common.withClient { client in
      let sent = try await client.send(
        to: to, body: body, contentType: contentType ?? fallback, options: options)
      var isProcessed: Bool?
      var receipts = sent.receipts
      if waitProcessed, sent.state == .accepted {
        isProcessed = try await client.waitUntilProcessed(
          sent.messageID, timeoutSeconds: Int(timeout.seconds))
        receipts = try await client.receipts(of: sent.messageID)
      }
      return try show(sent, receipts, isProcessed)
    }
    guard status == .done else { throw ExitCode(status.rawValue) }
  }

  private func readBody() throws -> [UInt8] {
    if let text { return Array(text.utf8) }
    // One byte more than a body may have is enough to be refused; nothing larger is read into memory.
    let bytesMax = 10 << 20 + 1
    guard let file else {
      return [UInt8](try FileHandle.standardInput.read(upToCount: bytesMax) ?? Data())
    }
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable(file, errno) }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    // Reading is where a folder shows itself.
    do { return [UInt8](try handle.read(upToCount: bytesMax) ?? Data()) } catch {
      var status = stat()
      let isFolder = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
      throw unreadable(file, isFolder ? EISDIR : EIO)
    }
  }

  private func unreadable(_ file: String, _ code: Int32) -> CommandFailure {
    CommandFailure(.usage, name: "file", "\(file) \(systemSentence(code))", hint: "--file names the body")
  }

  private func show(_ sent: SentMessage, _ receipts: [DeliveryReceipt], _ isProcessed: Bool?) throws
    -> ExitStatus
  {
    let (state, reason, status): (String, EngramError?, ExitStatus) =
      switch sent.state {
      case .accepted: ("accepted", nil, isProcessed == false ? .notProcessed : .done)
      case .queued(let error): ("queued", error, .keptForLater)
      case .refused(let error): ("refused", error, ExitStatus(error))
      case .waiting(let error): ("waiting", error, .keptForLater)
      }
    if common.json {
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
          name: "not-processed", "not every device has processed it yet, or one could not",
          hint: "`engram receipts \(sent.messageID)` shows how far it is"))
    }
    return status
  }
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
