internal import ArgumentParser
internal import EngramClient

struct AgentsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "agents",
    abstract: "Show who is there at this node.",
    discussion: """
      An agent is active while it is connected or was seen in the last 90 seconds, until it says that it is \
      offline (`engram heartbeat --state offline`, or a SHUTDOWN message). This is the node's word, for \
      agents of this node only, and is forgotten when the node restarts.

      Examples:
        engram agents
        engram agents planner@acme.example
        engram agents --json | jq -r 'select(.state == "ready").address'
      """)

  @Argument(help: "One agent, active or not.")
  var address: String?

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      if let address {
        let form = AgentForm(try await client.agentStatus(address))
        return try say(common, form, form.text)
      }
      let agents = try await client.activeAgents()
      for agent in agents {
        let form = AgentForm(agent)
        try say(common, form, form.text)
      }
      if agents.isEmpty, !common.json { Terminal.note("nobody is there") }
    }
  }
}

struct HeartbeatCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "heartbeat",
    abstract: "Say that this agent is there, and what it is doing.",
    discussion: """
      The node shows it to the organisation's other clients (`engram agents`); send one every 30 seconds or \
      so where there is no live connection. With --to a sealed HEARTBEAT message (SHUTDOWN for offline) goes \
      to others as well, also in other organisations.

      Examples:
        engram heartbeat
        engram heartbeat --state busy --note "indexing, done at noon"
        engram heartbeat --state offline --to boss@globex.example
      """)

  @Option(
    help: ArgumentHelp("ready, busy, draining or offline.", valueName: "state"),
    completion: .list(["ready", "busy", "draining", "offline"]))
  var state = "ready"

  @Option(
    help: ArgumentHelp("A sentence for people, at most 200 bytes; the node can read it.", valueName: "text"))
  var note = ""

  @Option(help: ArgumentHelp("Who gets a message about it; repeat it for more.", valueName: "address"))
  var to: [String] = []

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard ["ready", "busy", "draining", "offline"].contains(state) else {
      throw ValidationError("--state is ready, busy, draining or offline")
    }
  }

  func run() async throws {
    let status = try await common.withClient { client in
      let sent = try await client.heartbeat(state: state, note: note, to: to)
      try say(
        common, HeartbeatForm(state: state, messageID: sent?.messageID),
        "state: \(state)\n" + (sent.map { "message: \($0.messageID)\n" } ?? ""))
      switch sent?.state {
      case .accepted, nil: return ExitStatus.done
      case .queued(let error), .waiting(let error):
        report(ErrorForm(error))
        return .keptForLater
      case .refused(let error):
        report(ErrorForm(error))
        return ExitStatus(error)
      }
    }
    guard status == .done else { throw ExitCode(status.rawValue) }
  }
}

struct HeartbeatForm: Encodable {
  let state: String
  let messageID: String?
}

struct AgentForm: Encodable {
  let address: String
  let state: String
  let active: Bool
  let connections: Int
  let lastSeenMs: UInt64?
  let note: String

  init(_ status: AgentStatus) {
    (address, state, active) = (status.address, status.state, status.isActive)
    (connections, lastSeenMs, note) = (status.connections, status.lastSeenMs, status.note)
  }

  var text: String {
    let seen = lastSeenMs.map { "seen \(timeText($0))" } ?? "not seen"
    let words = note.isEmpty ? "" : "  \(Terminal.printable(note))"
    return "\(address)  \(active ? state : "inactive")  \(seen)\(words)\n"
  }
}
