internal import ArgumentParser
internal import EngramClient
internal import Foundation
internal import Glibc

/// One JSON object per line, keys in snake_case and sorted.
func jsonLine(_ value: some Encodable) throws -> String {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
}

/// `2026-01-31T12:00:00Z`
func timeText(_ ms: UInt64) -> String {
  Date(timeIntervalSince1970: Double(ms) / 1_000).formatted(.iso8601)
}

/// Prints an error the way every command does: for people, or as one JSON object when the command line asks
/// for JSON.
func report(_ error: ErrorForm) {
  struct Wrapped: Encodable { let error: ErrorForm }
  if wantsJSON, let line = try? jsonLine(Wrapped(error: error)) {
    return Terminal.note(String(line.dropLast()))
  }
  let code = error.code == 0 ? error.name : "\(error.name), \(error.code)"
  Terminal.note("error: \(error.message) (\(code))")
  if let hint = error.hint { Terminal.note("hint: \(hint)") }
}

/// Looked up in the words themselves: a command line that cannot be parsed has no options yet.
let wantsJSON = CommandLine.arguments.dropFirst().prefix { $0 != "--" }.contains("--json")

struct ErrorForm: Encodable {
  let code: UInt16
  let name: String
  let message: String
  let hint: String?

  init(_ error: EngramError) {
    (code, name, message, hint) = (error.code, error.name, error.message, error.hint)
  }

  init(name: String, _ message: String, hint: String? = nil) {
    (code, self.name, self.message, self.hint) = (0, name, message, hint)
  }
}

/// What a command finds wrong while it runs, before or after the library: files, passphrases, the terminal.
struct CommandFailure: Error {
  let status: ExitStatus
  let form: ErrorForm

  init(_ status: ExitStatus, name: String, _ message: String, hint: String? = nil) {
    (self.status, form) = (status, ErrorForm(name: name, message, hint: hint))
  }
}

/// Why a file cannot be used, as the end of a sentence that begins with its path.
func systemSentence(_ code: Int32) -> String {
  switch code {
  case ENOENT: "does not exist"
  case EISDIR: "is a folder"
  case EACCES, EPERM: "may not be opened by this user"
  case ENOTDIR: "cannot be there: a part of the path is not a folder"
  case ENOSPC, EDQUOT: "does not fit: the disk is full"
  default: "cannot be used: \(String(cString: strerror(code)))"
  }
}

struct ReceiptForm: Encodable {
  let state: String
  let role: String
  let issuer: String
  let recipient: String?
  let device: String?
  let code: UInt16
  let codeName: String
  let atMs: UInt64

  init(_ receipt: DeliveryReceipt) {
    (state, role, issuer) = (receipt.state, receipt.role, receipt.issuer)
    (recipient, device) = (receipt.recipient, receipt.recipientDevice)
    (code, codeName, atMs) = (receipt.code, receipt.codeName, receipt.atMs)
  }

  var line: String {
    var text = "\(timeText(atMs))  \(state)  by \(issuer) (\(role))"
    if let recipient, recipient != issuer { text += "  for \(recipient)" }
    if code != 0 { text += "  \(codeName)" }
    return text + "\n"
  }
}

struct MessageForm: Encodable {
  let envelopeID: String
  let messageID: String
  let from: String
  let device: String
  let thread: String
  let replyTo: String?
  let type: String
  let priority: String
  let createdMs: UInt64
  let receivedMs: UInt64
  let expiresMs: UInt64
  let to: [String]
  let labels: [String: String]
  let topic: String?
  let afterGap: Bool
  let contentType: String
  /// Quoted by reference; `engram thread show` looks the words up.
  let quotes: [String]
  /// Where `--out` wrote it; then there is no body here.
  let file: String?
  let body: String?
  let bodyBase64: String?

  init(_ message: ReceivedMessage, file: String?) {
    (envelopeID, messageID) = (message.envelopeID, message.messageID)
    (from, device) = (message.from, message.fromDevice)
    (thread, replyTo, type, priority) = (message.thread, message.replyTo, message.type, message.priority)
    (createdMs, receivedMs, afterGap) = (message.createdMs, message.receivedMs, message.isAfterGap)
    (expiresMs, to, labels, topic) = (message.expiresMs, message.to, message.labels, message.topic)
    quotes = message.quotes.map(\.envelopeID)
    (contentType, self.file) = (message.contentType, file)
    body = file == nil ? String(validating: message.body, as: UTF8.self) : nil
    bodyBase64 = file == nil && body == nil ? Data(message.body).base64EncodedString() : nil
  }

  /// For people: a head, an empty line, the body.
  var text: String {
    var text =
      "from: \(from)\nid: \(envelopeID)\ntype: \(type)  priority: \(priority)\nsent: \(timeText(createdMs))\n"
    text += "thread: \(thread)\n"
    if let replyTo { text += "reply-to: \(replyTo)\n" }
    text += labelLines(labels)
    for quote in quotes { text += "quotes: \(quote)\n" }
    if afterGap { text += "warning: an earlier message of this sender is missing\n" }
    text += "content-type: \(Terminal.printable(contentType))\n"
    if let file { return text + "file: \(file)\n\n" }
    guard let body else { return text + "\n(not text; use --out DIR or --json)\n\n" }
    return text + "\n\(Terminal.printable(body))\n\n"
  }
}
