internal import EngramClient

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
      report(ErrorForm(error))
      note(.keptForLater)
    case .refused(let error):
      report(ErrorForm(error))
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
