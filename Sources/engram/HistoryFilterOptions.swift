internal import ArgumentParser
internal import EngramClient
internal import EngramCore

/// Which of the kept messages a command is about; everything that is given has to hold.
struct HistoryFilterOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The sender.", valueName: "address"))
  var from: String?

  @Option(help: ArgumentHelp("One of the recipients.", valueName: "address"))
  var to: String?

  @Option(
    help: ArgumentHelp("The message type.", valueName: "type"),
    completion: .list(MessageType.allCases.map(\.name)))
  var type: String?

  @Option(
    help: ArgumentHelp("The priority.", valueName: "priority"),
    completion: .list(Priority.allCases.map(\.name)))
  var priority: String?

  @Option(
    help: ArgumentHelp("Sent at this time or later: 7d (ago), 2026-12-01T09:00:00Z.", valueName: "when"))
  var since: TimePoint?

  @Option(help: ArgumentHelp("Sent before this time.", valueName: "when"))
  var until: TimePoint?

  @Option(help: ArgumentHelp("The conversation.", valueName: "id"))
  var thread: String?

  @Option(
    help: ArgumentHelp("A label, with or without its value; repeat it for more.", valueName: "key[=value]"))
  var label: [KeyValue] = []

  @Option(
    help: ArgumentHelp(
      "\(DeliveryStatus.allCases.map(\.rawValue).joined(separator: ", ")). Of others' messages: delivered "
        + "until they are acknowledged, then processed.", valueName: "state"),
    completion: .list(DeliveryStatus.allCases.map(\.rawValue)))
  var state: StateName?

  var query: SearchQuery {
    var query = SearchQuery()
    (query.from, query.to, query.type, query.priority) = (from, to, type, priority)
    (query.sinceMs, query.untilMs, query.thread) = (since?.ms, until?.ms, thread)
    (query.labels, query.state) = (label.map { ($0.key, $0.value) }, state?.state)
    return query
  }
}

/// The states that `status` and `search` show.
struct StateName: ExpressibleByArgument {
  let state: DeliveryStatus

  init?(argument: String) {
    guard let state = DeliveryStatus(rawValue: argument) else { return nil }
    self.state = state
  }
}
