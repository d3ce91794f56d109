internal import ArgumentParser
internal import EngramClient
internal import Foundation
internal import Glibc

struct InboxCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inbox",
    abstract: "Fetch, verify and show messages.",
    discussion: """
      What waits is shown by priority, CRITICAL first, of equals what came first: among the first 1,000 \
      messages or 16 MiB, then the next. With --follow messages are shown as they come.

      Without --ack messages are shown and stay: the next `inbox` shows them again, and their senders learn \
      that they were delivered. With --ack each one is acknowledged after it was written out: its sender \
      gets a signed receipt, and it is never shown again. One that expired in between is named in a warning \
      (with --json: `warning`, `code`, `message`); its receipt is sent all the same. One command at a time \
      receives for a home.

      Bodies that are not text are not printed; take them with --out, which writes each into a file named \
      after its envelope and makes sure that it is on the disk before it is acknowledged.

      Examples:
        engram inbox
        engram inbox --ack --out received
        engram inbox --follow --ack --json | ./agent
      """)

  @Flag(help: "Go on: wait for messages and show them as they come, until interrupted.")
  var follow = false

  @Flag(help: "Acknowledge each message after it was written out.")
  var ack = false

  @Option(help: ArgumentHelp("Stop after so many messages.", valueName: "count"))
  var max: Int?

  @Option(help: ArgumentHelp("Without --follow: how long to wait when there are none.", valueName: "time"))
  var wait = TimeSpan(seconds: 0)

  @Option(
    help: ArgumentHelp("Write bodies into this folder instead of showing them.", valueName: "dir"),
    completion: .directory)
  var out: String?

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard max.map({ $0 > 0 }) ?? true else { throw ValidationError("--max is a number above zero") }
  }

  func run() async throws {
    if let out, mkdir(out, 0o700) != 0, errno != EEXIST { throw unwritable(out) }
    let limit = max ?? .max
    try await common.withClient { client in
      var shown = 0
      if follow {
        await sayWhereMailIs(client)
        for try await message in client.follow() {
          try await hand(message, client)
          shown += 1
          if shown >= limit { return }
        }
        return
      }
      while shown < limit {
        let page = Swift.min(100, limit - shown)
        let messages = try await client.receive(
          max: page, waitSeconds: shown == 0 ? Int(wait.seconds) : 0, among: Self.among)
        if messages.isEmpty { break }
        for message in messages { try await hand(message, client, acknowledge: false) }
        if ack { try warn(await client.acknowledge(messages.map(\.envelopeID))) }
        shown += messages.count
      }
      if shown == 0 {
        if !common.json { Terminal.note("no messages") }
        await sayWhereMailIs(client)
      }
    }
  }

  /// Messages that are put in order at once.
  private static let among = 1_000

  /// Where this agent's devices share a queue, nothing comes to readers: a person is told what does.
  private func sayWhereMailIs(_ client: EngramClient) async {
    guard let queue = try? await client.queueState(), queue.mode == "one" else { return }
    Terminal.note(
      "this agent's devices share one queue, in which \(queue.waiting + queue.held) wait: take them with "
        + "`engram work`, or let each device have its own copy with `engram queue mode each`")
  }

  /// The application's word came too late for its node.
  private func warn(_ late: [WorkFailure]) throws {
    for failure in late {
      let form = LateForm(
        envelopeID: failure.envelopeID, warning: failure.error.name, code: failure.error.code,
        message: failure.error.message)
      if common.json {
        try Terminal.write(jsonLine(form))
      } else {
        Terminal.note("warning: \(failure.envelopeID): \(form.message) (\(form.warning), code \(form.code))")
        if let hint = failure.error.hint { Terminal.note("hint: \(hint)") }
      }
    }
  }

  /// Writes a message out; only then may it be acknowledged.
  private func hand(_ message: ReceivedMessage, _ client: EngramClient, acknowledge: Bool = true) async throws
  {
    var path: String?
    if let out {
      let target = out + "/" + message.envelopeID
      try writeDurably(message.body, to: target)
      path = target
    }
    let form = MessageForm(message, file: path)
    try Terminal.write(common.json ? jsonLine(form) : form.text)
    if ack, acknowledge { try warn(await client.acknowledge([message.envelopeID])) }
  }
}

private struct LateForm: Encodable {
  let envelopeID: String
  let warning: String
  let code: UInt16
  let message: String
}

private func unwritable(_ path: String) -> CommandFailure {
  CommandFailure(
    .failed, name: "file", "\(path) \(systemSentence(errno))", hint: "--out names a folder; nothing was lost")
}

/// Temporary name, fsync, rename, fsync of the folder: after this a power cut leaves the whole file.
private func writeDurably(_ bytes: [UInt8], to path: String) throws {
  let temporary = path + ".part"
  let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw unwritable(temporary) }
  defer { close(descriptor) }
  var offset = 0
  while offset < bytes.count {
    let count = bytes[offset...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else { throw unwritable(temporary) }
    offset += count
  }
  guard fsync(descriptor) == 0, rename(temporary, path) == 0 else {
    throw unwritable(path)
  }
  let folder = open(
    String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard folder >= 0 else { return }
  defer { close(folder) }
  fsync(folder)
}
