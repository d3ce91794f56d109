internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

/// A leased message for the application.
struct WorkOffer: Sendable {
  let id: EnvelopeID
  let seq: UInt64
  let token: UInt64
  let attempt: UInt32
  /// 0: as long as the connection lasts.
  let leaseMs: UInt32
  /// This home had it before and never settled it.
  let wasInHand: Bool
  /// Which time it is handed out by its desk.
  var turn: UInt64 = 0
}

/// What is said about a leased message without asking the application.
struct WorkAnswer: Sendable {
  let id: EnvelopeID
  let settlement: Settlement
}

extension Inbound {
  /// A leased message goes the way of any other. At its end stands an offer to the application, or an answer
  /// at once: the word that was signed before, a refusal, or "not now" where a person or a certificate is
  /// awaited.
  mutating func admitLeased(
    _ item: MailboxItem, purgedThroughMs: UInt64, in rows: ClientTransaction, _ result: inout InboundResult
  ) throws {
    guard let leased = try? LeasedEnvelope(parsing: item.payload[...]),
      let envelope = try? UnverifiedEnvelope(parsing: leased.envelope)
    else {
      // Under whose token is not known either: the lease ends by itself.
      try rows.raise(.unopened, .malformed, address: account.address.node.text, nowMs: nowMs)
      return result.hold(.malformed)
    }
    let id = EnvelopeDigests(of: envelope).id
    var plain = InboundResult()
    isLeased = true
    defer { isLeased = false }
    try admit(
      MailboxItem(kind: .envelope, seq: item.seq, payload: leased.envelope), purgedThroughMs: purgedThroughMs,
      in: rows, &plain)
    func answer(_ verb: Settlement.Verb) {
      let settlement = Settlement(seq: item.seq, token: leased.token, verb)
      result.answers.append(WorkAnswer(id: id, settlement: settlement))
    }
    result.stored += plain.stored
    result.controls += plain.controls
    if let ack = plain.acks.first {
      answer(.ack(receipt: ack.receipt))
    } else if plain.held > 0 {
      result.hold(plain.heldCode)
      answer(.nack(delayMs: nil, code: plain.heldCode))
    } else {
      let wasInHand = try !rows.markLeased(id)
      result.offers.append(
        WorkOffer(
          id: id, seq: item.seq, token: leased.token, attempt: leased.attempt, leaseMs: leased.leaseMs,
          wasInHand: wasInHand))
    }
  }
}
