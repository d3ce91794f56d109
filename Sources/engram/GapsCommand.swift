internal import ArgumentParser
internal import EngramClient

struct GapsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gaps",
    abstract: "Show messages that are missing, and ask their senders about them.",
    discussion: """
      The messages of one device to another are a signed chain, so that nobody on the way can drop one
      unseen. A gap closes when the message comes, or when the sender's device shows by its signed stub
      that it existed: it was called back, refused, has expired or is still on its way. Senders are asked
      by themselves while this client receives, half a minute after the gap was seen; --ask does it now.
      The answer comes with later messages.

      `shared` means that this client's devices share a queue, or did lately, as the node says: another one
      may have taken the message. Its sender is asked all the same; where that device has signed for it, the
      answer proves it.

      A gap that stays `unknown` means that the sender's device has no record of it: it was restored from
      a backup, or is not what it was.

      Examples:
        engram gaps
        engram gaps --ask
      """)

  @Flag(help: "Ask the senders of all open gaps now.")
  var ask = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      if ask {
        let count = try await client.askAboutGaps()
        if !common.json { Terminal.note("\(count) control message\(count == 1 ? "" : "s") sent") }
      }
      let gaps = try await client.gaps()
      for gap in gaps {
        let form = GapForm(gap)
        try Terminal.write(common.json ? jsonLine(form) : form.text)
      }
      let announced = try await client.announced()
      for message in announced {
        let form = AnnouncedForm(message)
        try Terminal.write(common.json ? jsonLine(form) : form.text)
      }
      if gaps.isEmpty, announced.isEmpty, !common.json { Terminal.note("nothing is missing") }
    }
  }
}

struct GapForm: Encodable {
  struct Places: Encodable {
    let first: UInt64
    let last: UInt64
  }
  let state: String
  let from: String
  let device: String
  let missing: [Places]
  let sinceMs: UInt64
  let askedMs: UInt64?
  let asks: Int

  init(_ gap: Gap) {
    (state, from, device) = (gap.state.rawValue, gap.from, gap.device)
    missing = gap.missing.map { Places(first: $0.lowerBound, last: $0.upperBound) }
    (sinceMs, askedMs, asks) = (gap.sinceMs, gap.askedMs, gap.asks)
  }

  var text: String {
    let places = missing.map { $0.first == $0.last ? "\($0.first)" : "\($0.first) to \($0.last)" }
    var text = "\(timeText(sinceMs))  \(state)  \(from)  device \(device)  missing "
    text += places.joined(separator: ", ")
    if let askedMs { text += "  asked \(asks)×, last \(timeText(askedMs))" }
    return text + "\n"
  }
}

struct AnnouncedForm: Encodable {
  let state = "announced"
  let from: String?
  let device: String
  let place: UInt64
  let envelopeID: String
  let expiresMs: UInt64
  let takenBy: String?

  init(_ message: AnnouncedMessage) {
    (from, device, place) = (message.from, message.device, message.place)
    (envelopeID, expiresMs, takenBy) = (message.envelopeID, message.expiresMs, message.takenBy)
  }

  var text: String {
    let fate =
      takenBy.map { "processed by your device \($0)" } ?? "not delivered; expires \(timeText(expiresMs))"
    return "announced  \(from ?? "unknown")  device \(device)  place \(place)  \(envelopeID)  \(fate)\n"
  }
}
