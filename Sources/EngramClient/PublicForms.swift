internal import EngramClientStore
internal import EngramCore

// Rows of the client's store as the plain values that applications see.

extension DeliveryReceipt {
  init(_ row: ReceiptRow) {
    self.init(
      state: row.state.name, role: row.role.name, issuer: row.issuer, recipient: row.recipient?.text,
      recipientDevice: row.recipientKid?.description, code: row.code.rawValue, codeName: row.code.name,
      atMs: row.atMs)
  }
}

extension OutboxEntry {
  init(_ row: OutboxRow) {
    let header = try? UnverifiedEnvelope(parsing: row.envelope).header
    var recipients: [String] = []
    for recipient in header?.recipients ?? [] where recipients.last != recipient.address.text {
      recipients.append(recipient.address.text)
    }
    let (state, reason): (State, EngramError?) =
      switch row.state {
      case .accepted: (.accepted, nil)
      case .cancelled: (.cancelled, nil)
      case .refused: (.refused, EngramError(refusal: row.code))
      case .waiting: (.waiting, row.reason)
      }
    self.init(
      messageID: row.messageID.description, envelopeID: row.envelopeID.description, recipients: recipients,
      state: state, reason: reason, createdMs: row.createdMs, expiresMs: row.expiresMs, attempts: row.attempts
    )
  }

  init(_ row: QueuedRow) {
    let isExpired = row.code == .expired
    let reason =
      row.code == .none
      ? EngramError(.unreachable, name: "keys-not-available", "a recipient's keys cannot be had now")
      : EngramError(refusal: row.code)
    self.init(
      messageID: row.draft.messageID.description, envelopeID: nil,
      recipients: row.draft.recipients.map(\.text),
      state: isExpired ? .refused : .queued, reason: reason, createdMs: row.draft.createdMs,
      expiresMs: row.draft.expiresMs,
      attempts: row.attempts)
  }
}

extension Alarm {
  init(_ row: AlarmRow) {
    let kind =
      switch row.kind {
      case .fork: "fork"
      case .gap: "gap"
      case .identityChanged: "identity-changed"
      case .receiptRefused: "receipt-refused"
      case .unopened: "unopened"
      }
    self.init(
      kind: kind, atMs: row.atMs, address: row.address, device: row.kid?.description,
      envelopeID: row.envelope?.description, code: row.code.rawValue, codeName: row.code.name,
      missing: row.missing, isResolved: row.resolvedMs != nil)
  }
}
