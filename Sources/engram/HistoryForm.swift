internal import EngramClient
internal import Foundation

/// A kept message on the command line, in search results and threads.
struct HistoryForm: Encodable {
  struct Quoted: Encodable {
    let envelopeID: String
    let firstLine: Int?
    let lastLine: Int?
    /// nil where the quoted message is not kept here.
    let from: String?
    let text: String?
  }

  let envelopeID: String
  let messageID: String
  let own: Bool
  let from: String
  let device: String
  let to: [String]
  let thread: String
  let replyTo: String?
  let parentMissing: Bool?
  let depth: Int?
  let type: String
  let priority: String
  let labels: [String: String]
  let topic: String?
  let state: String?
  let createdMs: UInt64
  let expiresMs: UInt64
  let notBeforeMs: UInt64?
  let keptMs: UInt64
  let contentType: String
  let bodyBytes: Int
  let kept: Bool
  let quotes: [Quoted]
  let body: String?
  let bodyBase64: String?

  init(
    _ message: HistoryMessage, depth: Int? = nil, isParentMissing: Bool? = nil, quoted: [Quoted]? = nil
  ) {
    (envelopeID, messageID, own) = (message.envelopeID, message.messageID, message.isOwn)
    (from, device, to) = (message.from, message.fromDevice, message.to)
    (thread, replyTo, parentMissing) = (message.thread, message.replyTo, isParentMissing)
    self.depth = depth
    (type, priority, labels, topic) = (message.type, message.priority, message.labels, message.topic)
    (state, createdMs, expiresMs) = (message.state?.rawValue, message.createdMs, message.expiresMs)
    (notBeforeMs, keptMs) = (message.notBeforeMs, message.keptMs)
    (contentType, bodyBytes, kept) = (message.contentType, message.bodyBytes, message.hasBody)
    quotes =
      quoted
      ?? message.quotes.map {
        Quoted(
          envelopeID: $0.envelopeID, firstLine: $0.lines?.lowerBound, lastLine: $0.lines?.upperBound,
          from: nil, text: nil)
      }
    body = message.body.flatMap { String(validating: $0, as: UTF8.self) }
    bodyBase64 = body == nil ? message.body.map { Data($0).base64EncodedString() } : nil
  }

  /// One line of a result.
  var line: String {
    let labels = labels.sorted { $0.key < $1.key }.map { " \($0.key)=\(Terminal.printable($0.value))" }
      .joined()
    let whom = own ? "to \(to.joined(separator: ", "))" : "from \(from)"
    return "\(envelopeID)  \(timeText(createdMs))  \(type)  \(priority)  \(state ?? "-")  \(whom)\(labels)\n"
  }

  /// Who said what last, on one line.
  var glance: String {
    let words = (body ?? "").split(whereSeparator: \.isWhitespace).joined(separator: " ")
    let said = words.isEmpty ? "(\(Terminal.printable(contentType)), \(bodyBytes) bytes)" : words
    return "\(from): \(Terminal.printable(said.prefix(80)))\(said.count > 80 ? "…" : "")"
  }

  /// A message in its thread: indented by what it answers.
  var fullText: String {
    var lines = [
      "\(from)  \(timeText(createdMs))  \(type)  \(priority)  \(state ?? "-")", "id: \(envelopeID)",
    ]
    lines += labels.sorted { $0.key < $1.key }.map { "label: \($0.key)=\(Terminal.printable($0.value))" }
    if parentMissing == true { lines.append("answers \((replyTo ?? "").prefix(16))…, which is not here") }
    for quote in quotes {
      guard let from = quote.from, let text = quote.text else {
        lines.append("> (quotes \(quote.envelopeID.prefix(16))…, which is not here)")
        continue
      }
      lines.append("> \(from):")
      lines += Terminal.printable(text).split(separator: "\n", omittingEmptySubsequences: false).map {
        "> \($0)"
      }
    }
    if let body {
      lines += Terminal.printable(body).split(separator: "\n", omittingEmptySubsequences: false).map(
        String.init)
    } else {
      lines.append(kept ? "(\(Terminal.printable(contentType)), \(bodyBytes) bytes)" : "(no longer kept)")
    }
    let indent = String(repeating: "  ", count: min(depth ?? 0, 20))
    return lines.map { $0.isEmpty ? "\n" : "\(indent)\($0)\n" }.joined() + "\n"
  }
}

extension EngramClient {
  /// Quotes with the words that they refer to, as far as those are kept here.
  func quotedText(_ quotes: [Quote]) async throws -> [HistoryForm.Quoted] {
    var out: [HistoryForm.Quoted] = []
    for quote in quotes {
      let passage = try await passage(quote)
      out.append(
        HistoryForm.Quoted(
          envelopeID: quote.envelopeID, firstLine: quote.lines?.lowerBound, lastLine: quote.lines?.upperBound,
          from: passage?.from, text: passage?.text))
    }
    return out
  }
}
