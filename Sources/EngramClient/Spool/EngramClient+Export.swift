internal import EngramCore

/// What an export wrote.
public struct SpoolExportSummary: Sendable {
  public internal(set) var written: [SpoolState: Int] = [:]
  /// Messages whose bodies are not kept any more.
  public internal(set) var withoutBody = 0
  public internal(set) var bytes = 0
  public var total: Int { written.values.reduce(0, +) }
}

extension SpoolState {
  /// Where a message in this state lies. What ended badly lies in `expired`, its document says how it ended;
  /// so does one of which nobody knows any more how.
  init(_ status: DeliveryStatus?) {
    self =
      switch status {
      case .pending: .pending
      case .delivered: .delivered
      case .processed: .processed
      case .expired, .failed, .deadLettered, .cancelled, nil: .expired
      }
  }
}

extension EngramClient {
  /// Writes every message that this home keeps as a spool. The files hold the bodies in clear.
  ///
  /// May be repeated: a message is written under the same name again, and leaves the folder it was in before.
  /// - Parameters:
  ///   - path: made if it is missing, for its owner only.
  ///   - query: only what fits.
  ///   - progress: called after each page with the number of files written so far.
  /// - Throws: `EngramError` when the folder cannot be written or the local store fails.
  public func exportSpool(
    _ path: String, query: SearchQuery = .init(),
    progress: @escaping @Sendable (Int) -> Void = { _ in }
  ) async throws -> SpoolExportSummary {
    let folder = try SpoolFolder(path, creates: true)
    var summary = SpoolExportSummary()
    var cursor: String?
    repeat {
      try Task.checkCancellation()
      let page = try await search(query, limit: SpoolLimits.batchMax, cursor: cursor)
      for found in page.items {
        guard found.hasBody, var document = SpoolDocument(try await message(found.envelopeID)) else {
          summary.withoutBody += 1
          continue
        }
        if found.isOwn {
          let receipts = try await receipts(of: found.messageID)
          document.receipts = receipts.isEmpty ? nil : receipts.map { SpoolValue($0) }
        }
        let state = SpoolState(found.state)
        do throws(SpoolProblem) { try folder.place(document, in: state) } catch {
          throw EngramError(.local, name: error.name, "a file of the spool cannot be written")
        }
        summary.written[state, default: 0] += 1
        summary.bytes += document.body.count
      }
      progress(summary.total)
      cursor = page.next
    } while cursor != nil
    return summary
  }
}

extension SpoolFolder {
  /// Writes a document where its state says, and takes it away from where it was.
  func place(_ document: SpoolDocument, in state: SpoolState) throws(SpoolProblem) {
    let name = document.name.text
    try write(document.encoded(), as: name, in: state.rawValue)
    for other in SpoolState.allCases where other != state { try remove(name, from: other.rawValue) }
  }
}

extension SpoolDocument {
  /// A kept message; nil without its body.
  init?(_ message: HistoryMessage) {
    guard let body = message.body, let priority = Priority(name: message.priority),
      let id = SpoolDocument.identifier(message)
    else { return nil }
    self.init(id: id, to: message.to, priority: priority, createdMs: message.createdMs, body: body)
    direction = message.isOwn ? .outgoing : .incoming
    from = message.from
    type = message.type
    (expiresMs, notBeforeMs) = (message.expiresMs, message.notBeforeMs)
    (thread, replyTo, labels) = (message.thread, message.replyTo, message.labels)
    contentType = message.contentType
    (state, envelope) = (message.state?.rawValue, message.envelopeID)
  }

  /// Our own messages keep their id. Those of others get one from the envelope's hash: a sender could choose
  /// a message id to replace somebody else's file.
  private static func identifier(_ message: HistoryMessage) -> MessageID? {
    message.isOwn
      ? bytes(hex: message.messageID).flatMap { MessageID($0) } : identifier(envelope: message.envelopeID)
  }

  static func identifier(envelope: String) -> MessageID? {
    bytes(hex: envelope).flatMap { MessageID(Array($0.prefix(16))) }
  }
}
