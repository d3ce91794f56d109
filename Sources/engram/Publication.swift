internal import ArgumentParser
internal import EngramClient
internal import Foundation

/// Body and header of a message for many.
struct ContentOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The body is this text.", valueName: "text"))
  var text: String?

  @Option(help: ArgumentHelp("The body is in this file.", valueName: "file"), completion: .file())
  var file: String?

  @Option(help: ArgumentHelp("BROADCAST, INFO, WARNING, TASK_REQUEST, QUERY, …", valueName: "type"))
  var type = "BROADCAST"

  @Option(
    help: ArgumentHelp("LOW, NORMAL, HIGH, URGENT or CRITICAL.", valueName: "priority"),
    completion: .list(["LOW", "NORMAL", "HIGH", "URGENT", "CRITICAL"]))
  var priority = "NORMAL"

  @Option(help: ArgumentHelp("How long it may wait: 90s, 15m, 12h, 7d.", valueName: "time"))
  var ttl = TimeSpan(seconds: 7 * 24 * 3_600)

  @Option(
    help: ArgumentHelp(
      "MIME type of the body (default: text, for --file octet-stream).", valueName: "type"))
  var contentType: String?

  @Flag(help: "Compress before sealing; only for bodies that hold nothing but your own text.")
  var compress = false

  func check() throws {
    guard text == nil || file == nil else { throw ValidationError("--text and --file contradict each other") }
  }

  var mediaType: String {
    contentType ?? (file == nil ? "text/plain; charset=utf-8" : "application/octet-stream")
  }

  var options: SendOptions {
    var options = SendOptions()
    (options.type, options.priority, options.ttlSeconds) = (type, priority, ttl.seconds)
    options.compress = compress
    return options
  }

  func readBody() throws -> [UInt8] { try messageBody(text: text, file: file) }
}

/// From `--text`, `--file` or standard input.
func messageBody(text: String?, file: String?) throws -> [UInt8] {
  if let text { return Array(text.utf8) }
  // One byte more than a body may have is enough to be refused; nothing larger is read into memory.
  let bytesMax = 10 << 20 + 1
  guard let file else {
    return [UInt8](try FileHandle.standardInput.read(upToCount: bytesMax) ?? Data())
  }
  guard let handle = FileHandle(forReadingAtPath: file) else {
    throw ValidationError("\(file): cannot be read")
  }
  return [UInt8](try handle.read(upToCount: bytesMax) ?? Data())
}

/// Prints what became of a message for many.
/// - Returns: the worst of it.
func showPublished(_ published: PublishedMessage, _ common: CommonOptions) throws -> ExitStatus {
  let form = PublishedForm(published)
  if common.json {
    try Terminal.write(jsonLine(form))
  } else {
    let name = published.topic.map { "topic: \($0)\n" } ?? ""
    try Terminal.write("\(name)members: \(published.memberCount)\nenvelopes: \(published.messages.count)\n")
    for message in form.messages { try Terminal.write("  \(message.messageID)  \(message.state)\n") }
    for member in form.unreached {
      try Terminal.write("  not for \(member.address): \(member.error.message)\n")
    }
  }
  if published.memberCount == 0 { Terminal.note("note: there is nobody to send it to") }
  var worst = ExitStatus.done
  func note(_ status: ExitStatus) {
    let order: [ExitStatus] = [.done, .keptForLater, .refused, .untrusted]
    if (order.firstIndex(of: status) ?? 0) > (order.firstIndex(of: worst) ?? 0) { worst = status }
  }
  for message in published.messages {
    switch message.state {
    case .accepted: break
    case .queued(let error), .waiting(let error):
      report(error)
      note(.keptForLater)
    case .refused(let error):
      report(error)
      note(error.kind == .untrusted ? .untrusted : .refused)
    }
  }
  for member in published.unreached { note(member.error.kind == .untrusted ? .untrusted : .refused) }
  return worst
}

struct PublishedForm: Encodable {
  struct Part: Encodable {
    let messageID: String
    let envelopeID: String?
    let state: String
    let error: ErrorForm?
  }
  struct Unreached: Encodable {
    let address: String
    let error: ErrorForm
  }
  let topic: String?
  let members: Int
  let messages: [Part]
  let unreached: [Unreached]

  init(_ published: PublishedMessage) {
    (topic, members) = (published.topic, published.memberCount)
    messages = published.messages.map { message in
      let (state, error): (String, EngramError?) =
        switch message.state {
        case .accepted: ("accepted", nil)
        case .queued(let error): ("queued", error)
        case .refused(let error): ("refused", error)
        case .waiting(let error): ("waiting", error)
        }
      return Part(
        messageID: message.messageID, envelopeID: message.envelopeID, state: state,
        error: error.map(ErrorForm.init))
    }
    unreached = published.unreached.map { Unreached(address: $0.address, error: ErrorForm($0.error)) }
  }
}
