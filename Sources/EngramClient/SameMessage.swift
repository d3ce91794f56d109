internal import EngramClientStore
internal import EngramCore

extension ClientSnapshot {
  /// Whether a draft says what was kept here under its message id, as far as that is still known: a message
  /// that is sent again is the same one, and another one under its id would be lost without a word.
  /// - Parameter isThreadChosen: false when the draft's thread was drawn for it.
  func isRepeat(_ draft: Draft, isThreadChosen: Bool) throws -> Bool {
    if let kept = try queued(draft.messageID)?.draft {
      return Said(kept, isThreadChosen) == Said(draft, isThreadChosen) && kept.body == draft.body
    }
    guard let row = try messages(draft.messageID).first(where: \.isOwn) else { return true }
    guard Said(row, isThreadChosen) == Said(draft, isThreadChosen) else { return false }
    return try body(of: row.envelopeID).map { $0 == draft.body }
      ?? (row.head.bodyBytes == UInt64(draft.body.count))
  }
}

/// What makes a message what it is, apart from its body. Times are not: a repeat has later ones.
private struct Said: Equatable {
  let recipients: Set<Address>
  let type: MessageType
  let priority: Priority
  let thread: ThreadID?
  let parent: EnvelopeID?
  let labels: [Label]
  let contentType: String

  init(_ draft: Draft, _ isThreadChosen: Bool) {
    recipients = Set(draft.recipients)
    (type, priority, parent) = (draft.type, draft.priority, draft.parent)
    thread = isThreadChosen ? draft.thread : nil
    (labels, contentType) = (draft.labels, draft.contentType)
  }

  init(_ row: HistoryRow, _ isThreadChosen: Bool) {
    recipients = Set(row.head.recipients)
    (type, priority, parent) = (row.type, row.priority, row.parent)
    thread = isThreadChosen ? row.thread : nil
    (labels, contentType) = (row.head.labels, row.head.contentType)
  }
}
