internal import ArgumentParser
internal import EngramClient
internal import Foundation

struct SearchCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "search",
    abstract: "Find messages that were opened or sent on this device.",
    discussion: """
      Everything that is given has to hold; newest first. --text finds words in bodies that are text, \
      whatever their case and accents, and other forms of the same English word unless --exact is given. \
      Words in double quotes have to stand side by side.

      The index on the disk holds keyed hashes, not words. What another device sent or opened is not here.

      Pages: when there is more, the last line names the cursor of the next page. Messages that arrive \
      meanwhile do not shift it.

      Examples:
        engram search --text 'deploy "build failed"' --since 7d
        engram search --from planner@acme.example --type TASK_REQUEST --state delivered
        engram search --label project=apollo --limit 100 --json
      """)

  @Option(help: ArgumentHelp("Words of the body.", valueName: "words"))
  var text: String?

  @Flag(help: "Only these very words, not other forms of them.")
  var exact = false

  @Option(help: ArgumentHelp("At most so many, up to 200.", valueName: "count"))
  var limit = 50

  @Option(help: ArgumentHelp("Go on where the page before ended.", valueName: "cursor"))
  var cursor: String?

  @OptionGroup var filter: HistoryFilterOptions
  @OptionGroup var common: CommonOptions

  func run() async throws {
    var query = filter.query
    (query.text, query.stems) = (text, !exact)
    let asked = query
    try await common.withClient { client in
      let page = try await client.search(asked, limit: limit, cursor: cursor)
      for message in page.items {
        let form = HistoryForm(message)
        try Terminal.write(common.json ? jsonLine(form) : form.line)
      }
      if page.items.isEmpty, page.next == nil, !common.json { Terminal.note("nothing found") }
      try writeNext(page.next, json: common.json)
    }
  }
}

/// The cursor of the next page: a JSON line of its own, or a note.
func writeNext(_ cursor: String?, json: Bool) throws {
  struct Next: Encodable { let next: String }
  guard let cursor else { return }
  if json {
    try Terminal.write(jsonLine(Next(next: cursor)))
  } else {
    Terminal.note("more: --cursor \(cursor)")
  }
}

struct HistoryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "history",
    abstract: "Show how much is kept on this device, and set for how long.",
    discussion: """
      Bodies of messages that were opened or sent here stay, encrypted under this home's key, for 90 days \
      unless --keep says otherwise; who wrote to whom, and when, for a year more, so that late replies \
      find their thread. A shorter time takes effect at once. --keep 0s erases each body as soon as its \
      message is acknowledged.

      Examples:
        engram history
        engram history --keep 30d
      """)

  @Option(help: ArgumentHelp("Keep bodies for this long from now on: 12h, 30d.", valueName: "time"))
  var keep: TimeSpan?

  @OptionGroup var common: CommonOptions

  private struct Form: Encodable {
    let messages: Int
    let bodies: Int
    let oldestMs: UInt64?
    let retentionSeconds: UInt64
  }

  func run() async throws {
    try await common.withClient { client in
      if let keep { try await client.setHistoryRetention(seconds: keep.seconds) }
      let history = try await client.history()
      if common.json {
        try Terminal.write(
          jsonLine(
            Form(
              messages: history.messages, bodies: history.bodies, oldestMs: history.oldestMs,
              retentionSeconds: history.retentionSeconds)))
      } else {
        try Terminal.write(
          """
          messages: \(history.messages)
          with their bodies: \(history.bodies)
          oldest: \(history.oldestMs.map(timeText) ?? "none")
          bodies are kept for: \(TimeSpan(seconds: history.retentionSeconds))

          """)
      }
    }
  }
}
