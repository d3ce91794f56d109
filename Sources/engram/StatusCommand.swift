internal import ArgumentParser
internal import EngramClient
internal import Foundation

struct StatusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show where a message of yours stands, recipient by recipient.",
    discussion: """
      States: `pending` on its way; `delivered` handed to the recipient's device; `processed` its \
      application took it; `expired`, `failed`, `dead-lettered` and `cancelled` are ends without that. \
      Each one is somebody's signed word (see `engram verify`); `pending` alone may be nobody's. \
      When the node cannot be reached, what is known here is shown, and the exit code is 3.

      Example:
        engram status 5c1e…
      """)

  @Argument(help: "The message id (32 digits) or the envelope id (64 digits).")
  var message: String

  @Flag(help: "Show what is known without asking the node.")
  var offline = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      func show(_ status: MessageStatus) throws {
        let form = StatusForm(status)
        try Terminal.write(common.json ? jsonLine(form) : form.text)
      }
      do { try show(await client.status(of: message, fetching: !offline)) } catch let error as EngramError {
        guard error.kind == .unreachable, !offline else { throw error }
        // What is known here is still worth something; the exit code says that it may be old.
        try show(await client.status(of: message))
        throw error
      }
    }
  }
}

struct StatusForm: Encodable {
  struct Device: Encodable {
    let device: String
    let state: String
    let code: UInt16
    let codeName: String
    let attempt: UInt32
    let issuer: String?
    let role: String?
    let atMs: UInt64?
  }
  struct Recipient: Encodable {
    let address: String
    let state: String
    let devices: [Device]
  }
  let messageID: String
  let envelopeID: String?
  let thread: String
  let type: String
  let priority: String
  let labels: [String: String]
  let createdMs: UInt64
  let expiresMs: UInt64
  let notBeforeMs: UInt64?
  let outbox: String
  let state: String
  let error: ErrorForm?
  let recipients: [Recipient]

  init(_ status: MessageStatus) {
    (messageID, envelopeID, thread) = (status.messageID, status.envelopeID, status.thread)
    (type, priority, labels) = (status.type, status.priority, status.labels)
    (createdMs, expiresMs, notBeforeMs) = (status.createdMs, status.expiresMs, status.notBeforeMs)
    (outbox, state) = (status.outbox.rawValue, status.state.rawValue)
    error = status.reason.map(ErrorForm.init)
    recipients = status.recipients.map { recipient in
      Recipient(
        address: recipient.address, state: recipient.state.rawValue,
        devices: recipient.devices.map {
          Device(
            device: $0.device, state: $0.state.rawValue, code: $0.code, codeName: $0.codeName,
            attempt: $0.attempt, issuer: $0.issuer, role: $0.role, atMs: $0.atMs)
        })
    }
  }

  var text: String {
    var text = "message: \(messageID)\n"
    if let envelopeID { text += "envelope: \(envelopeID)\n" }
    text += "type: \(type)  priority: \(priority)\nthread: \(thread)\n\(labelLines(labels))"
    text += "sent: \(timeText(createdMs))  expires: \(timeText(expiresMs))\n"
    if let notBeforeMs { text += "not before: \(timeText(notBeforeMs))\n" }
    if outbox != "accepted" { text += "outbox: \(outbox)\n" }
    if let error { text += "reason: \(error.message) (\(error.name))\n" }
    text += "state: \(state)\n"
    for recipient in recipients {
      text += "  \(recipient.address)  \(recipient.state)\n"
      for device in recipient.devices {
        text += "    \(device.device)  \(device.state)"
        if let issuer = device.issuer, let role = device.role, let atMs = device.atMs {
          text += "  \(timeText(atMs)) by \(issuer) (\(role))"
        }
        text += device.code == 0 ? "\n" : "  \(device.codeName)\n"
      }
    }
    return text
  }
}

/// `label: key=value`, one a line.
func labelLines(_ labels: [String: String]) -> String {
  labels.sorted { $0.key < $1.key }.map { "label: \($0.key)=\(Terminal.printable($0.value))\n" }.joined()
}

struct CancelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cancel",
    abstract: "Call a message back, as far as no device has it.",
    discussion: """
      What still waits here is never sent. Of the rest the home node drops what it holds, and a \
      TASK_CANCEL goes to the recipients for whom the message is open: nodes on its way drop what they \
      hold, and a device that has the message is told. What was dropped shows as `cancelled` in `engram \
      status`, signed by the node that did it. The recipient's chain keeps its place: a stub shows that \
      there was a message, not what it said.

      Ends with exit code 4 when nothing is open any more.

      Example:
        engram cancel 5c1e…
      """)

  @Argument(help: "The message id (32 digits) or the envelope id (64 digits).")
  var message: String

  @Flag(help: "Send the recipients nothing; only what has not left this organisation is dropped.")
  var noNotice = false

  @OptionGroup var common: CommonOptions

  private struct Form: Encodable {
    let status: StatusForm
    let noticeMessageID: String?
  }

  func run() async throws {
    try await common.withClient { client in
      let cancellation = try await client.cancel(message, tellRecipients: !noNotice)
      let status = StatusForm(cancellation.status)
      let notice = cancellation.notice?.messageID
      if common.json {
        try Terminal.write(jsonLine(Form(status: status, noticeMessageID: notice)))
      } else {
        try Terminal.write(status.text)
        if let notice { Terminal.note("the recipients were told by message \(notice)") }
      }
    }
  }
}
