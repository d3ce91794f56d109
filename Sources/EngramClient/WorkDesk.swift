internal import EngramClientStore
internal import EngramCore

/// What one consumer has in hand, and the word about it: to the node over the connection or, for leases of a
/// poll, by request.
///
/// A connection's leases end with it. A message that is then offered again while the application still works
/// on it is not handed out twice: its new token takes the place of the old one.
actor WorkDesk {
  private struct Hold {
    var seq: UInt64
    var token: UInt64
    /// Its connection ended and it was not offered again.
    var isAdrift = false
  }

  private let core: ClientCore
  /// Leases of polls outlive connections, and are settled by request.
  private let isPolled: Bool
  private var link: LiveLink?
  private var holds: [EnvelopeID: Hold] = [:]
  /// Said while there was no connection: it stands for the next offer of that message.
  private var unsaid: [EnvelopeID: Settlement.Verb] = [:]

  init(core: ClientCore, isPolled: Bool) { (self.core, self.isPolled) = (core, isPolled) }

  // MARK: - Coming in

  /// - Returns: what is new to the application, and what can be answered without it.
  func admit(_ offers: [WorkOffer]) -> (new: [WorkOffer], answers: [WorkAnswer]) {
    var new: [WorkOffer] = []
    var answers: [WorkAnswer] = []
    for offer in offers {
      if let verb = unsaid.removeValue(forKey: offer.id) {
        answers.append(
          WorkAnswer(
            id: offer.id, settlement: Settlement(seq: offer.seq, token: offer.token, verb)))
      } else {
        if holds[offer.id] == nil { new.append(offer) }
        holds[offer.id] = Hold(seq: offer.seq, token: offer.token)
      }
    }
    return (new, answers)
  }

  func connected(_ link: LiveLink) { self.link = link }

  /// - Parameter unread: items that the application was never given; they are forgotten.
  func disconnected(unread: [EnvelopeID]) {
    link = nil
    for id in unread { holds[id] = nil }
    for id in holds.keys { holds[id]?.isAdrift = true }
  }

  /// Says what needs no application. What does not arrive is offered again.
  func answer(_ answers: [WorkAnswer]) async {
    guard !answers.isEmpty, let outcomes = try? await transmit(answers.map(\.settlement)) else { return }
    let taken = zip(answers, outcomes).filter { $0.1.isTaken }.map(\.0)
    let words = taken.compactMap { answer -> (EnvelopeID, [UInt8])? in
      guard case .ack(let receipt) = answer.settlement.verb else { return nil }
      return (answer.id, receipt)
    }
    guard !words.isEmpty else { return }
    try? await core.commit { rows in
      for (id, receipt) in words { try rows.settleLeased(id, receipt: receipt) }
    }
  }

  // MARK: - Settling

  /// Signs the end of a message, keeps that, and tells the node.
  func finish(_ id: EnvelopeID, _ state: ReceiptState, _ code: ErrorCode) async throws {
    guard holds[id] != nil else { throw EngramError(.refused, .notLeased) }
    let inbound = Inbound(
      account: core.account, device: core.device, credentials: core.credentials, nowMs: core.nowMs())
    let word = try await core.commit { rows -> (receipt: [UInt8], isOurs: Bool)? in
      guard let row = try rows.unfinished(id) else {
        return try rows.inboxState(id)?.receipt.map { ($0, false) }
      }
      let receipt = inbound.sign(state, code, id, row.sender, row.senderKid, row.messageID)
      try rows.completeLeased(id, receipt: receipt)
      return (receipt, true)
    }
    guard let (receipt, isOurs) = word else { throw EngramError(.local, .notFound) }
    do {
      let outcome = try await settle(id, .ack(receipt: receipt))
      // Another consumer of this home has ended it, and the node knows: then it was that one's, not ours.
      guard outcome == .accepted || isOurs else { throw EngramError(refusal: .leaseLost) }
      try await core.commit { try $0.settleLeased(id, receipt: receipt) }
    } catch let error as EngramError where error.kind == .unreachable {
      // Kept: the node is told when it offers the message again, or with what else is left over.
      holds[id] = nil
    } catch {
      holds[id] = nil
      if isOurs { try await core.commit { try $0.revokeLeased(id, receipt: receipt) } }
      throw error
    }
  }

  /// Gives a message back, or away. Without a connection it is the node's already, and this stands for its
  /// next offer.
  func giveUp(_ id: EnvelopeID, _ verb: Settlement.Verb) async throws {
    guard holds[id] != nil else { throw EngramError(.refused, .notLeased) }
    do { _ = try await settle(id, verb) } catch let error as EngramError where error.kind == .unreachable {
      holds[id] = nil
      if isPolled { throw error }
      // Of messages that went elsewhere nothing more is heard.
      if unsaid.count >= Int(Limits.prefetchMax) { unsaid.removeAll() }
      unsaid[id] = verb
    } catch {
      holds[id] = nil
      throw error
    }
  }

  func renew(_ id: EnvelopeID) async throws {
    guard let hold = holds[id] else { throw EngramError(.refused, .notLeased) }
    let outcome = try await transmit([Settlement(seq: hold.seq, token: hold.token, .renew)])[0]
    guard outcome.isTaken else { throw EngramError(refusal: outcome.code) }
  }

  /// Renews whatever is in hand, in one go. A lease that is lost shows when it is settled.
  func renewAll() async {
    let settlements = holds.values.filter { !$0.isAdrift }.map {
      Settlement(seq: $0.seq, token: $0.token, .renew)
    }
    for start in stride(from: 0, to: settlements.count, by: Limits.envelopesPerBatchMax) {
      let end = min(start + Limits.envelopesPerBatchMax, settlements.count)
      _ = try? await transmit(Array(settlements[start..<end]))
    }
  }

  /// Tells the node, and again if it says "later" or the message came under a new token meanwhile.
  /// - Returns: accepted or duplicate.
  private func settle(_ id: EnvelopeID, _ verb: Settlement.Verb) async throws -> DeliveryOutcome {
    var waitMs = WorkLimits.retryMs
    for turn in 1... {
      guard let hold = holds[id] else { throw EngramError(.refused, .notLeased) }
      var failure: EngramError
      do {
        let outcome = try await transmit([Settlement(seq: hold.seq, token: hold.token, verb)])[0]
        guard !outcome.isTaken else {
          holds[id] = nil
          return outcome.outcome
        }
        failure = EngramError(refusal: outcome.code)
        if outcome.outcome == .later { failure = EngramError(.unreachable, outcome.code) }
      } catch let error as EngramError { failure = error }
      let isRenewed = holds[id].map { $0.token != hold.token } ?? false
      let isWorthIt = isRenewed || (failure.kind == .unreachable && (isPolled || link != nil))
      guard isWorthIt, turn < WorkLimits.triesMax else { throw failure }
      if !isRenewed { try await Task.sleep(for: .milliseconds(waitMs)) }
      waitMs *= 2
    }
  }

  private func transmit(_ settlements: [Settlement]) async throws -> [ItemOutcome] {
    if isPolled { return try await core.api.settle(settlements) }
    guard let link else { throw EngramError(.unreachable, name: "unreachable", "there is no connection") }
    return try await link.settle(settlements)
  }
}

extension ItemOutcome {
  /// The node has it, now or before.
  fileprivate var isTaken: Bool { outcome == .accepted || outcome == .duplicate }
}
