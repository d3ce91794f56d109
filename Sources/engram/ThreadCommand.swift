internal import ArgumentParser
internal import EngramClient
internal import EngramCore
internal import Foundation

struct ThreadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "thread",
    abstract: "List conversations, and read one in order.",
    discussion: """
      A thread is a conversation id that its messages share; answers name the message they answer. What \
      was opened or sent on this device is kept here, encrypted (`engram history`).

      Examples:
        engram thread list
        engram thread show 8d02…
      """,
    subcommands: [ThreadListCommand.self, ThreadShowCommand.self])
}

struct ThreadListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "Conversations, the one with the newest message first.",
    discussion: """
      Example:
        engram thread list --limit 20
      """)

  @Option(help: ArgumentHelp("At most so many, up to 200.", valueName: "count"))
  var limit = 20

  @Option(help: ArgumentHelp("Go on where the page before ended.", valueName: "cursor"))
  var cursor: String?

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      let page = try await client.threads(limit: limit, cursor: cursor)
      for thread in page.items {
        let form = ThreadForm(thread)
        try Terminal.write(common.json ? jsonLine(form) : form.text)
      }
      try writeNext(page.next, json: common.json)
    }
  }
}

struct ThreadShowCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "The messages of a conversation, answers after what they answer.",
    discussion: """
      Order: each sender's messages as its signed chain has them, answers after what they answer, the rest \
      by the senders' dates. A message whose parent is not here is shown all the same, and says so.

      Example:
        engram thread show 8d02…
      """)

  @Argument(help: "The thread id (32 digits), or the envelope id of one of its messages.")
  var thread: String

  @Option(help: ArgumentHelp("At most so many, the newest ones.", valueName: "count"))
  var limit = 200

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      for entry in try await client.thread(thread, limit: limit) {
        let quotes = try await client.quotedText(entry.message.quotes)
        let form = HistoryForm(
          entry.message, depth: entry.depth, isParentMissing: entry.isParentMissing, quoted: quotes)
        try Terminal.write(common.json ? jsonLine(form) : form.fullText)
      }
    }
  }
}

struct ReplyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reply",
    abstract: "Answer a message, in its thread.",
    discussion: """
      Goes to the sender of the message, or to its recipients if it is yours. A QUERY is answered by a \
      RESPONSE, a TASK_REQUEST by a TASK_RESULT, anything else by a DIRECT message.

      --quote refers to the message, or with --quote-lines to some of its lines, instead of copying them:
      each reader sees the words of their own verified copy. A message that is no longer kept here can be \
      answered with --to and --thread.

      Examples:
        engram reply 44f0… --text "done"
        engram reply 44f0… --all --quote-lines 2-4 --text "this part needs another look"
      """)

  @Argument(help: "The envelope id (64 digits), or the message id (32 digits) where it names one message.")
  var message: String

  @Option(help: ArgumentHelp("Answer to these instead; repeat it for more.", valueName: "address"))
  var to: [String] = []

  @Flag(help: "Answer to the sender and all recipients.")
  var all = false

  @Option(
    help: ArgumentHelp("Another type than the one that answers the message's.", valueName: "type"),
    completion: .list(MessageType.allCases.map(\.name)))
  var type: String?

  @Option(
    help: ArgumentHelp("The thread, for a message that is not kept here any more.", valueName: "id"))
  var thread: String?

  @Flag(help: "Quote the whole message, by reference.")
  var quote = false

  @Option(help: ArgumentHelp("Quote these lines of it, by reference.", valueName: "from-to"))
  var quoteLines: LineRange?

  @OptionGroup var outgoing: MessageOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard !all || to.isEmpty else { throw ValidationError("--all and --to contradict each other") }
    guard !quote || quoteLines == nil else {
      throw ValidationError("--quote and --quote-lines contradict each other")
    }
  }

  func run() async throws {
    let body = try outgoing.readBody()
    var options = outgoing.sendOptions()
    options.thread = thread
    let status = try await common.withClient { client in
      if quote || quoteLines != nil {
        let quoted = try await client.message(message).envelopeID
        options.quotes = [Quote(envelopeID: quoted, lines: quoteLines?.lines)]
      }
      let sent = try await client.reply(
        to: message, body: body, contentType: outgoing.effectiveContentType,
        recipients: to.isEmpty ? nil : to, toAll: all, type: type, options: options)
      return try showSent(sent, sent.receipts, nil, json: common.json)
    }
    guard status == .done else { throw ExitCode(status.rawValue) }
  }
}

/// `3` or `3-7`, counted from 1.
struct LineRange: ExpressibleByArgument {
  let lines: ClosedRange<Int>

  init?(argument: String) {
    let ends = argument.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
    guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first >= 1,
      first <= last
    else { return nil }
    lines = first...last
  }
}

struct ThreadForm: Encodable {
  let thread: String
  let messages: Int
  let open: Int
  let senders: [String]
  let firstMs: UInt64
  let lastMs: UInt64
  let last: HistoryForm

  init(_ thread: ThreadSummary) {
    (self.thread, messages, open) = (thread.thread, thread.messages, thread.open)
    (senders, firstMs, lastMs) = (thread.senders, thread.firstMs, thread.lastMs)
    last = HistoryForm(thread.last)
  }

  var text: String {
    let count = "\(messages) message\(messages == 1 ? "" : "s")\(open == 0 ? "" : ", \(open) open")"
    return
      "\(thread)  \(timeText(lastMs))  \(count)  \(senders.joined(separator: ", "))\n    \(last.glance)\n"
  }
}
