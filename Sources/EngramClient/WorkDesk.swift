internal import EngramClientStore
internal import EngramCore

/// What one consumer has in hand, and the word about it: to the node over the connection or, for leases of a
/// poll, by request. Words that are said at the same time share transactions and frames.
///
/// A connection's leases end with it. A message that is then offered again while the application still works
/// on it is not handed out twice: its new token takes the place of the old one. One that the application is
/// giving back is handed out anew: the node's offer can be faster than its answer.
actor WorkDesk {
  private struct Hold {
    /// Which time it was handed out: the word about an earlier time is not about this one.
    let turn: UInt64
    var seq: UInt64
    var token: UInt64
    /// Its connection ended and it was not offered again.
    var isAdrift = false
    /// It is being given back.
    var isLeaving = false
  }

  /// Leases of polls outlive connections, and are settled by request.
  private let isPolled: Bool
  /// The node counts a failure itself when the connection breaks.
  private let isFailedByBreak: Bool
  private let slot = LinkSlot()
  private let words: Batcher<WordStep, SignedWord?>
  private let settlements: Batcher<Settlement, ItemOutcome>
  private var holds: [EnvelopeID: Hold] = [:] {
    didSet { if holds.count < oldValue.count { wake() } }
  }
  private var lastTurn: UInt64 = 0
  /// Said while there was no connection: it stands for the next offer of that message.
  private var unsaid: [EnvelopeID: Settlement.Verb] = [:]
  /// Words that nobody waits for: how many are on their way, and which were not taken.
  private var underway = 0
  private var failures: [WorkFailure] = []
  private var waiters: [UInt64: Waiter] = [:]
  private var lastWaiter: UInt64 = 0

  private struct Waiter {
    /// Either this many in hand at most, or no word on its way.
    let handMax: Int?
    let continuation: CheckedContinuation<Void, Never>
  }

  init(core: ClientCore, isPolled: Bool, isFailedByBreak: Bool = false) {
    (self.isPolled, self.isFailedByBreak) = (isPolled, isFailedByBreak)
    words = Batcher(sizeMax: Limits.envelopesPerBatchMax) { try await core.write($0) }
    settlements = Batcher(sizeMax: Limits.envelopesPerBatchMax) { [slot] in
      if isPolled { return try await core.api.settle($0) }
      guard let link = slot.link else {
        throw EngramError(.unreachable, name: "unreachable", "there is no connection")
      }
      return try await link.settle($0)
    }
  }

  var handCount: Int { holds.count }

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
      } else if let hold = holds[offer.id], !hold.isLeaving {
        holds[offer.id] = Hold(turn: hold.turn, seq: offer.seq, token: offer.token)
      } else {
        lastTurn += 1
        holds[offer.id] = Hold(turn: lastTurn, seq: offer.seq, token: offer.token)
        var offer = offer
        offer.turn = lastTurn
        new.append(offer)
      }
    }
    return (new, answers)
  }

  func connected(_ link: LiveLink) { slot.link = link }

  /// - Parameter unread: items that the application was never given; they are forgotten.
  func disconnected(unread: [EnvelopeID]) {
    slot.link = nil
    for id in unread { holds[id] = nil }
    for id in holds.keys { holds[id]?.isAdrift = true }
  }

  /// Says what needs no application. What does not arrive is offered again.
  func answer(_ answers: [WorkAnswer]) async {
    await withDiscardingTaskGroup { group in
      for answer in answers {
        group.addTask { [settlements, words] in
          guard let outcome = try? await settlements.submit(answer.settlement), outcome.isTaken,
            case .ack(let receipt) = answer.settlement.verb
          else { return }
          _ = try? await words.submit(.settled(answer.id, receipt: receipt))
        }
      }
    }
  }

  // MARK: - Settling

  /// Signs the end of a message, keeps that, and tells the node.
  func finish(_ id: EnvelopeID, turn: UInt64, _ state: ReceiptState, _ code: ErrorCode) async throws {
    guard holds[id]?.turn == turn else { throw EngramError(.refused, .notLeased) }
    guard let word = try await words.submit(.sign(id, state, code)) else {
      throw EngramError(.local, .notFound)
    }
    do {
      let outcome = try await settle(id, turn, .ack(receipt: word.receipt))
      // Another consumer of this home has ended it, and the node knows: then it was that one's, not ours.
      guard outcome == .accepted || word.isOurs else { throw EngramError(refusal: .leaseLost) }
      _ = try await words.submit(.settled(id, receipt: word.receipt))
    } catch let error as EngramError where error.kind == .refused {
      drop(id, turn)
      if word.isOurs { _ = try await words.submit(.revoked(id, receipt: word.receipt)) }
      throw error
    } catch {
      // Kept: the node is told when it offers the message again, or with what else is left over.
      drop(id, turn)
      guard error is CancellationError || (error as? EngramError)?.kind == .unreachable else { throw error }
    }
  }

  /// As `finish`, but nobody waits: what the node does not take is kept for `flush`.
  func finishSoon(_ id: EnvelopeID, turn: UInt64) {
    underway += 1
    Task {
      do { try await finish(id, turn: turn, .processed, .none) } catch {
        failures = failures.suffix(WorkLimits.failuresKept - 1)
        failures.append(WorkFailure(envelopeID: id.description, error: EngramError(error)))
      }
      underway -= 1
      if underway == 0 { wake() }
    }
  }

  /// Waits for every word that was said by `finishSoon`.
  /// - Returns: those that were not taken since this was asked last.
  func flush() async -> [WorkFailure] {
    await wait(handMax: nil)
    defer { failures = [] }
    return failures
  }

  /// Gives a message back, or away. Without a connection it is the node's already, and this stands for its
  /// next offer.
  func giveUp(_ id: EnvelopeID, turn: UInt64, _ verb: Settlement.Verb) async throws {
    guard holds[id]?.turn == turn else { throw EngramError(.refused, .notLeased) }
    holds[id]?.isLeaving = true
    do {
      _ = try await settle(id, turn, verb)
    } catch let error as EngramError where error.kind == .unreachable {
      // Handed out again meanwhile: what becomes of it is said then.
      guard drop(id, turn) else { return }
      if isPolled { throw error }
      if case .nack = verb, isFailedByBreak { return }
      // Of messages that went elsewhere nothing more is heard.
      if unsaid.count >= Int(Limits.prefetchMax) { unsaid.removeAll() }
      unsaid[id] = verb
    } catch {
      drop(id, turn)
      throw error
    }
  }

  /// - Returns: false when it is in hand for another time.
  @discardableResult
  private func drop(_ id: EnvelopeID, _ turn: UInt64) -> Bool {
    guard let hold = holds[id] else { return true }
    guard hold.turn == turn else { return false }
    holds[id] = nil
    return true
  }

  func renew(_ id: EnvelopeID, turn: UInt64) async throws {
    guard let hold = holds[id], hold.turn == turn else { throw EngramError(.refused, .notLeased) }
    let outcome = try await settlements.submit(Settlement(seq: hold.seq, token: hold.token, .renew))
    guard outcome.isTaken else { throw EngramError(refusal: outcome.code) }
  }

  /// Renews whatever is in hand, in one go. A lease that is lost shows when it is settled.
  func renewAll() async {
    let renewals = holds.values.filter { !$0.isAdrift }.map {
      Settlement(seq: $0.seq, token: $0.token, .renew)
    }
    await withDiscardingTaskGroup { group in
      for renewal in renewals {
        group.addTask { [settlements] in _ = try? await settlements.submit(renewal) }
      }
    }
  }

  /// Tells the node, and again if it says "later" or the message came under a new token meanwhile.
  /// - Returns: accepted or duplicate.
  private func settle(
    _ id: EnvelopeID, _ turn: UInt64, _ verb: Settlement.Verb
  ) async throws -> DeliveryOutcome {
    var waitMs = WorkLimits.retryMs
    var tries = 0
    while true {
      tries += 1
      guard let hold = holds[id], hold.turn == turn else { throw EngramError(.refused, .notLeased) }
      var failure: EngramError
      do {
        let outcome = try await settlements.submit(Settlement(seq: hold.seq, token: hold.token, verb))
        guard !outcome.isTaken else {
          drop(id, turn)
          return outcome.outcome
        }
        failure = EngramError(refusal: outcome.code)
        if outcome.outcome == .later { failure = EngramError(.unreachable, outcome.code) }
      } catch let error as EngramError { failure = error }
      let isRenewed = holds[id].map { $0.turn == turn && $0.token != hold.token } ?? false
      let isWorthIt = isRenewed || (failure.kind == .unreachable && (isPolled || slot.link != nil))
      guard isWorthIt, tries < WorkLimits.triesMax else { throw failure }
      if !isRenewed { try await Task.sleep(for: .milliseconds(waitMs)) }
      waitMs *= 2
    }
  }

  // MARK: - Waiting

  /// Until so many are in hand at most, or the task is cancelled.
  func wait(handMax: Int?) async {
    guard !isReached(handMax), !Task.isCancelled else { return }
    lastWaiter += 1
    let key = lastWaiter
    await withTaskCancellationHandler {
      await withCheckedContinuation { waiters[key] = Waiter(handMax: handMax, continuation: $0) }
    } onCancel: {
      Task { await release(key) }
    }
  }

  private func isReached(_ handMax: Int?) -> Bool { handMax.map { holds.count <= $0 } ?? (underway == 0) }

  private func wake() {
    for (key, waiter) in waiters where isReached(waiter.handMax) { release(key) }
  }

  private func release(_ key: UInt64) { waiters.removeValue(forKey: key)?.continuation.resume() }
}

extension ItemOutcome {
  /// The node has it, now or before.
  fileprivate var isTaken: Bool { outcome == .accepted || outcome == .duplicate }
}
