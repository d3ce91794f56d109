import ArgumentParser
import EngramCore
import Foundation

struct QueueCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "queue", abstract: "Look into mailboxes and dead letters.",
    discussion: """
      A message that fails too often, or that its recipient rejects, becomes a dead letter of its mailbox. \
      Nobody here can read it; what is shown is what travels in the clear, and the history of its failures.

      Examples:
        engram-node admin queue list
        engram-node admin queue list 17
        engram-node admin queue inspect 17 4
        engram-node admin queue requeue 17 4
      """,
    subcommands: [ListCommand.self, InspectCommand.self, RequeueCommand.self, DropCommand.self])
  @ParentCommand var admin: AdminCommand

  struct ListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "list", abstract: "All mailboxes, or what waits in one of them.",
      discussion: """
        Examples:
          engram-node admin queue list --dead
          engram-node admin queue list 17 --after 40 --max 20
        """)
    @ParentCommand var queue: QueueCommand
    @OptionGroup var options: AdminOptions
    @Argument(help: "A mailbox's number.") var mailbox: Int64?
    @Option(help: ArgumentHelp("Of one mailbox: start behind this message.", valueName: "number"))
    var after: UInt64?
    @Option(
      help: ArgumentHelp("Of one mailbox: at most so many, 1 to 1000 (default: 100).", valueName: "count"))
    var max: Int?
    @Flag(help: "Of all mailboxes: only those of dead letters.") var dead = false

    func validate() throws {
      if let max, !(1...1_000).contains(max) { throw ValidationError("--max is 1 to 1000") }
      guard mailbox == nil else {
        if dead { throw ValidationError("--dead is for the list of all mailboxes") }
        return
      }
      guard after == nil, max == nil else { throw ValidationError("--after and --max need a mailbox") }
    }

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(queue.admin.options, options)
        if let mailbox {
          let data = try await connection.raw(
            "GET", "queues/\(mailbox)?after=\(after ?? 0)&max=\(max ?? 100)")
          if connection.json { return print(String(decoding: data, as: UTF8.self)) }
          printMessages(try connection.decode(data, as: MessagesAnswer.self).messages)
        } else {
          let data = try await connection.raw("GET", "queues")
          var answer = try connection.decode(data, as: QueuesAnswer.self)
          if dead { answer.queues.removeAll { $0.kind != "dead-letters" } }
          if connection.json { return printJSON(answer) }
          printQueues(answer.queues)
        }
      }
    }

    private func printQueues(_ queues: [QueueAnswer]) {
      guard !queues.isEmpty else { return print(dead ? "no dead letters" : "no mailboxes yet") }
      printTable(
        ["MAILBOX", "KIND", "OWNER", "WAITING", "HELD", "LEASED", "CONSUMERS"],
        queues.map {
          [
            "\($0.mailbox)", $0.kind, $0.owner, "\($0.waiting)", "\($0.held)", "\($0.leased)",
            "\($0.consumers)",
          ]
        })
    }

    private func printMessages(_ messages: [WaitingAnswer]) {
      guard !messages.isEmpty else { return print("nothing waits there") }
      printTable(
        ["MESSAGE", "STATE", "TYPE", "PRIORITY", "FROM", "FAILURES", "LAST", "EXPIRES"],
        messages.map {
          [
            "\($0.seq)", $0.state, $0.type, "\($0.priority)", $0.sender, "\($0.attempt)",
            $0.history.last?.name ?? "-", timeText($0.expiresMs),
          ]
        })
    }
  }

  struct InspectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "inspect", abstract: "One message with the history of its failures.",
      discussion: """
        Example:
          engram-node admin queue inspect 17 4 --json
        """)
    @ParentCommand var queue: QueueCommand
    @OptionGroup var options: AdminOptions
    @OptionGroup var place: QueuePlace

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(queue.admin.options, options)
        let data = try await connection.raw("GET", place.path)
        if connection.json { return print(String(decoding: data, as: UTF8.self)) }
        let message = try connection.decode(data, as: WaitingAnswer.self)
        print("envelope  \(message.envelope)\nfrom      \(message.sender)")
        print("to        \(message.recipients.joined(separator: ", "))")
        print("type      \(message.type), priority \(message.priority), \(message.bytes) bytes")
        print("state     \(message.state), \(message.attempt) failures")
        print("created   \(timeText(message.createdMs))\nexpires   \(timeText(message.expiresMs))")
        if message.heldUntilMs > 0 { print("held to   \(timeText(message.heldUntilMs))") }
        guard !message.history.isEmpty else { return }
        print("")
        printTable(
          ["FAILURE", "AT", "WHY", "DEVICE"],
          message.history.map { ["\($0.attempt)", timeText($0.atMs), $0.name, $0.device ?? "-"] })
      }
    }
  }

  struct RequeueCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "requeue", abstract: "Give a dead letter another round, from its first attempt.",
      discussion: """
        Example:
          engram-node admin queue requeue 17 4
        """)
    @ParentCommand var queue: QueueCommand
    @OptionGroup var options: AdminOptions
    @OptionGroup var place: QueuePlace

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(queue.admin.options, options)
        try await connection.raw("POST", place.path + "/requeue")
        say("message \(place.message) is ready again", done: "requeued", json: connection.json)
      }
    }
  }

  struct DropCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "drop", abstract: "Take a message out for good.",
      discussion: """
        The sender of one that was still open is told that it failed: not permitted.

        Example:
          engram-node admin queue drop 17 4 --yes
        """)
    @ParentCommand var queue: QueueCommand
    @OptionGroup var options: AdminOptions
    @OptionGroup var place: QueuePlace
    @Flag(name: .shortAndLong, help: "Do not ask.") var yes = false

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(queue.admin.options, options)
        guard yes || confirm("drop message \(place.message)? It cannot be brought back. [y/N] ") else {
          throw Failure(.failed, "nothing was changed")
        }
        try await connection.raw("DELETE", place.path)
        say("message \(place.message) is dropped", done: "dropped", json: connection.json)
      }
    }
  }
}

/// Where a message lies.
struct QueuePlace: ParsableArguments {
  @Argument(help: "The mailbox's number, from `queue list`.") var mailbox: Int64
  @Argument(help: "The message's number, from `queue list MAILBOX`.") var message: UInt64

  var path: String { "queues/\(mailbox)/\(message)" }
}

private struct QueuesAnswer: Codable {
  var queues: [QueueAnswer]
}

private struct QueueAnswer: Codable {
  var mailbox: Int64
  var kind: String
  var owner: String
  var waiting: Int
  var held: Int
  var leased: Int
  var consumers: Int
}

private struct MessagesAnswer: Decodable {
  var messages: [WaitingAnswer]
}

private struct WaitingAnswer: Decodable {
  struct FailureAnswer: Decodable {
    var attempt: UInt32
    var atMs: UInt64
    var name: String
    var device: String?
  }
  var seq: UInt64
  var envelope: String
  var sender: String
  var type: String
  var priority: UInt8
  var state: String
  var createdMs: UInt64
  var expiresMs: UInt64
  var heldUntilMs: UInt64
  var attempt: UInt32
  var history: [FailureAnswer]
  var recipients: [String]
  var bytes: Int
}

struct ClockCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clock",
    abstract: "The node's time, and whether the machine's clock has jumped away from it.",
    discussion: """
      The node follows small corrections of the machine's clock and nothing else: a clock that jumps neither \
      expires nor revives a message. After a jump, accept it here, or restart the node, once it is right.
      """,
    subcommands: [ShowCommand.self, AcceptCommand.self], defaultSubcommand: ShowCommand.self)
  @ParentCommand var admin: AdminCommand

  fileprivate struct Answer: Codable {
    var nowMs: UInt64
    var jumpMs: Int64?

    func show(json: Bool) {
      if json { return printJSON(self) }
      print("node      \(timeText(nowMs))")
      if let jumpMs {
        print(
          "machine   \(jumpMs.magnitude / 1_000) seconds \(jumpMs > 0 ? "ahead" : "behind"); not followed")
      } else {
        print("machine   agrees")
      }
    }
  }

  struct ShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "show", abstract: "Show both clocks.",
      discussion: """
        Example:
          engram-node admin clock show --json
        """)
    @ParentCommand var clock: ClockCommand
    @OptionGroup var options: AdminOptions

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(clock.admin.options, options)
        try await connection.send("GET", "clock", as: Answer.self).show(json: connection.json)
      }
    }
  }

  struct AcceptCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "accept", abstract: "Take the machine's clock for right, however far it jumped.",
      discussion: """
        What has expired by then expires at once, and is not revived by setting the clock back.

        Example:
          engram-node admin clock accept
        """)
    @ParentCommand var clock: ClockCommand
    @OptionGroup var options: AdminOptions

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(clock.admin.options, options)
        try await connection.send("POST", "clock/accept", as: Answer.self).show(json: connection.json)
      }
    }
  }
}
