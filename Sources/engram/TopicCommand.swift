internal import ArgumentParser
internal import EngramClient
internal import EngramCore

struct TopicCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "topic",
    abstract: "Publish to topics and subscribe to them.",
    discussion: """
      A topic is words joined by dots, and lives at one node: orders.new@acme.example. Without @NODE your \
      own node is meant. Members may belong to any organisation that federates with that node.

      A subscription may hold wildcards: * is any one word, > at the end is one or more. Quote them, or the \
      shell will look for files.

      Examples:
        engram topic subscribe 'orders.*'
        engram topic subscribe 'alerts.>@globex.example'
        engram topic publish orders.new --text "order 4711"
        engram topic publish config.limits --retain --file limits.json --content-type application/json
        engram topic members orders.new
      """,
    subcommands: [
      TopicSubscribe.self, TopicUnsubscribe.self, TopicList.self, TopicMembers.self, TopicPublish.self,
      TopicForget.self,
    ])
}

struct TopicSubscribe: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "subscribe",
    abstract: "Become a member of a topic, or of all that a pattern matches.",
    discussion: """
      From the next publication on, its messages come into the inbox like any others. Subscribing twice \
      changes nothing.

      Examples:
        engram topic subscribe orders.new
        engram topic subscribe 'builds.*.failed@globex.example'
      """)

  @Argument(help: ArgumentHelp("Topic or pattern, with @NODE where it is not yours.", valueName: "topic"))
  var topic: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      try await client.subscribe(topic)
      try say(common, TopicForm(topic: topic, done: "subscribed"), "subscribed to \(topic)\n")
    }
  }
}

struct TopicUnsubscribe: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "unsubscribe",
    abstract: "End a subscription.",
    discussion: """
      Takes the same text as `subscribe` did; `engram topic list` shows it. What was published before may \
      still come.

      Example:
        engram topic unsubscribe 'orders.*'
      """)

  @Argument(help: ArgumentHelp("The subscription's text.", valueName: "topic"))
  var topic: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      try await client.unsubscribe(topic)
      try say(common, TopicForm(topic: topic, done: "unsubscribed"), "no longer subscribed to \(topic)\n")
    }
  }
}

struct TopicList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List this client's subscriptions.",
    discussion: """
      Topics whose last value this client keeps are listed with --retained.

      Examples:
        engram topic list
        engram topic list --retained
      """)

  @Flag(help: "List the topics whose last value is kept here instead.")
  var retained = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      if retained {
        for topic in try await client.retainedTopics() {
          try say(common, TopicForm(topic: topic, done: "retained"), topic + "\n")
        }
        return
      }
      for row in try await client.subscriptions() {
        let form = SubscriptionForm(topic: row.topic, sinceMs: row.sinceMs)
        try say(common, form, "\(row.topic)  since \(timeText(row.sinceMs))\n")
      }
    }
  }
}

struct TopicMembers: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "members",
    abstract: "List who would get a message now.",
    discussion: """
      Example:
        engram topic members orders.new@acme.example
      """)

  @Argument(help: ArgumentHelp("A topic without wildcards.", valueName: "topic"))
  var topic: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      for address in try await client.topicMembers(topic) {
        try say(common, MemberForm(address: address), address + "\n")
      }
    }
  }
}

struct TopicPublish: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "publish",
    abstract: "Seal a message for every member of a topic.",
    discussion: """
      The members are asked for now, so that whoever left a moment ago gets nothing. The message is sealed \
      on this machine, in one envelope for each organisation: none of them learns who listens elsewhere. You \
      do not get it yourself.

      --retain keeps it here as the topic's last value. Members who join later get it from you, when you run \
      `engram inbox` or anything that receives.

      Examples:
        engram topic publish orders.new --text "order 4711"
        make report | engram topic publish reports.daily@globex.example --type INFO --priority LOW
      """)

  @Argument(help: ArgumentHelp("A topic without wildcards.", valueName: "topic"))
  var topic: String

  @Flag(help: "Keep it as the topic's last value, for members who join later.")
  var retain = false

  @Option(
    help: ArgumentHelp("BROADCAST, INFO, WARNING, TASK_REQUEST, QUERY, …", valueName: "type"),
    completion: .list(MessageType.allCases.map(\.name)))
  var type = MessageType.broadcast.name

  @OptionGroup var message: MessageOptions
  @OptionGroup var common: CommonOptions

  func run() async throws {
    let body = try message.readBody()
    var options = message.sendOptions()
    options.type = type
    let asked = options
    let status = try await common.withClient { client in
      let published = try await client.publish(
        topic, body: body, contentType: message.effectiveContentType, options: asked, retain: retain)
      return try showPublished(published, common)
    }
    guard status == .done else { throw ExitCode(status.rawValue) }
  }
}

struct TopicForget: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "forget",
    abstract: "Forget the last value that was kept for a topic.",
    discussion: """
      Who has had it keeps it; members who join later get nothing.

      Example:
        engram topic forget config.limits
      """)

  @Argument(help: ArgumentHelp("A topic without wildcards.", valueName: "topic"))
  var topic: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      let existed = try await client.forgetRetained(topic)
      let text = existed ? "forgotten: \(topic)\n" : "nothing was kept for \(topic)\n"
      try say(common, TopicForm(topic: topic, done: existed ? "forgotten" : "nothing"), text)
    }
  }
}

struct TopicForm: Encodable {
  let topic: String
  let done: String
}

struct SubscriptionForm: Encodable {
  let topic: String
  let sinceMs: UInt64
}

struct MemberForm: Encodable {
  let address: String
}

/// JSON or text, as was asked for.
func say(_ common: CommonOptions, _ form: some Encodable, _ text: String) throws {
  try Terminal.write(common.json ? jsonLine(form) : text)
}
