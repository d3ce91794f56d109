internal import ArgumentParser
internal import EngramClient

struct QueueCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "queue",
    abstract: "Show what waits for this agent at its node, or how its devices share it.",
    discussion: """
      In mode `each`, the one that every agent begins with, each of its devices has its own copy of every \
      message. In mode `one` they share a queue: each message goes to one of them. What waits is taken along \
      when the mode changes.

      Examples:
        engram queue
        engram queue mode one
        engram queue show --json | jq .waiting
      """,
    subcommands: [ShowCommand.self, ModeCommand.self], defaultSubcommand: ShowCommand.self)

  struct ShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "show",
      abstract: "How many messages wait, rest, and are being worked on.",
      discussion: """
        waiting: ready, and with nobody. held: before its time, or resting after a failure. leased: in a \
        consumer's hands. consumers: connections that take work now.

        Example:
          engram queue show
        """)
    @OptionGroup var common: CommonOptions

    func run() async throws {
      try await common.withClient { client in
        let form = QueueForm(try await client.queueState())
        try say(common, form, form.text)
      }
    }
  }

  struct ModeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "mode",
      abstract: "Decide whether devices share one queue.",
      discussion: """
        Examples:
          engram queue mode one
          engram queue mode each
        """)
    @Argument(help: "one or each.", completion: .list(["one", "each"]))
    var mode: String
    @OptionGroup var common: CommonOptions

    func validate() throws {
      guard ["one", "each"].contains(mode) else { throw ValidationError("the mode is one or each") }
    }

    func run() async throws {
      try await common.withClient { client in
        let form = QueueForm(try await client.setQueueMode(mode))
        try say(common, form, form.text)
      }
    }
  }
}

struct QueueForm: Encodable {
  let mode: String
  let waiting: Int
  let held: Int
  let leased: Int
  let consumers: Int

  init(_ report: QueueReport) {
    (mode, waiting, held) = (report.mode, report.waiting, report.held)
    (leased, consumers) = (report.leased, report.consumers)
  }

  var text: String {
    "mode: \(mode)\nwaiting: \(waiting)\nheld: \(held)\nleased: \(leased)\nconsumers: \(consumers)\n"
  }
}
