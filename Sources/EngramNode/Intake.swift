package import EngramCore
package import EngramCrypto
internal import EngramStore
internal import Logging

// The path of a message. Both edges enter here, and nothing else writes messages.
//
//   1. parse       size caps, structure, suite                 any thread
//   2. pattern     slots as this hop must see them             any thread
//   3. verify      device known, active, at home; signature    any thread
//   4. time        created, expires, not before                any thread
//   5. authorise   may this sender send now                    commit thread
//   6. route       recipients to mailboxes, pure               commit thread
//   7. store       message + deliveries, deduplicated          commit thread, one transaction
//   8. receipt     signed once per group, after the commit     commit thread
//
// Delivery learns of work from the store (`Outbox.swift`, `Mailboxes.swift`), never from here.

extension Node {
  /// Steps 1 to 4: about 70 µs of CPU, nearly all of it one Ed25519 verification. Safe on any thread.
  package func verify(_ bytes: [UInt8], from source: Source) -> Result<VerifiedEnvelope, ErrorCode> {
    do throws(ErrorCode) {
      let envelope = try parseEnvelope(bytes)
      try checkPattern(envelope, from: source)
      let verified = try checkSender(envelope, from: source)
      let code = checkTimes(verified.header, nowMs: clock.nowMs(), ttlMsMax: settings.maxTTLMs)
      guard code == .none else { throw code }
      return .success(verified)
    } catch {
      metrics.addRefusal(error)
      return .failure(error)
    }
  }

  // 1.
  private func parseEnvelope(_ bytes: [UInt8]) throws(ErrorCode) -> UnverifiedEnvelope {
    guard bytes.count <= settings.envelopeBytesMax else { throw .tooLarge }
    do throws(CodecError) { return try UnverifiedEnvelope(parsing: bytes) } catch { throw error.code }
  }

  // 2. From a client everything is full; from a peer exactly our own clients' wraps are, and there is at
  //    least one.
  private func checkPattern(_ envelope: UnverifiedEnvelope, from source: Source) throws(ErrorCode) {
    guard !envelope.isStub else { throw .stubRefused }
    switch source {
    case .client:
      guard envelope.hasPattern(fullFor: { _ in true }) else { throw .slotPattern }
    case .peer:
      let name = identity.name
      guard envelope.hasPattern(fullFor: { $0.address.node == name }) else { throw .slotPattern }
      guard envelope.header.recipients.contains(where: { $0.address.node == name }) else {
        throw .unknownRecipient
      }
    }
  }

  // 3.
  private func checkSender(_ envelope: UnverifiedEnvelope, from source: Source) throws(ErrorCode)
    -> VerifiedEnvelope
  {
    let header = envelope.header
    switch source {
    case .client(let session):
      guard header.sender == session.address, header.senderKid == session.kid else { throw .wrongHome }
    case .peer(let peer):
      guard header.sender.node == peer else { throw .wrongHome }
    }
    guard let device = try roster.device(header.senderKid) else {
      throw refusal(ofUnknown: header.senderKid, from: source)
    }
    let standing = device.standing(nowMs: clock.nowMs())
    guard standing == .none else { throw standing }
    do throws(CredentialError) { return try VerifiedEnvelope(envelope, sender: device.certificate) } catch {
      throw error.code
    }
  }

  /// A peer's device is unknown although its certificate came first: the certificate was refused, and that is
  /// the reason to give. Without one it may still come, so the envelope is put off.
  private func refusal(ofUnknown kid: Kid, from source: Source) -> ErrorCode {
    guard case .peer(let peer) = source else { return .unknownDevice }
    return refusedSenders.code(of: kid, from: peer) ?? .unknownDevice
  }

  /// Steps 5 to 8 for a batch of a client; outcomes come in the batch's order, after the commit.
  package func accept(
    _ batch: [Result<VerifiedEnvelope, ErrorCode>], from session: ClientSession,
    completion: @escaping @Sendable ([ItemOutcome]) -> Void
  ) {
    let source = Source.client(session)
    commitLoop.submit(
      CommitCommand(weight: batch.count) { [self] group in
        let decisions = try batch.map { try admit($0, from: source, in: group) }
        group.afterCommit { [metrics] receipts in
          metrics.add(.acceptedFromClients, decisions.count { $0.outcome == .accepted })
          completion(
            decisions.map {
              ItemOutcome($0.outcome, code: $0.code, receipt: $0.receipt.map { receipts[$0] } ?? [])
            })
        }
      } refused: { code in
        completion(batch.map { _ in ItemOutcome(code.isRetryable ? .later : .refused, code: code) })
      })
  }

  /// Steps 5 to 8 for a batch of a peer. The link's progress, the highest number, commits with the messages.
  /// A failure means that nothing was judged: there is no answer, and everything has to come again on another
  /// link.
  package func acceptFromPeer(
    _ peer: NodeName, epoch: UInt64, seqs: [UInt64], batch: [Result<VerifiedEnvelope, ErrorCode>],
    completion: @escaping @Sendable (Result<[AckFrame.Item], ErrorCode>) -> Void
  ) {
    let through = seqs.max() ?? 0
    commitLoop.submit(
      CommitCommand(weight: batch.count) { [self] group in
        guard let known = roster.peer(peer), known.peer.isEnabled else { throw ErrorCode.peerSuspended }
        let decisions = try batch.map { try admit($0, from: .peer(peer), in: group) }
        var link = try group.transaction.link(peer: known.envelopes)
        link.inThrough = link.inEpoch == epoch ? max(link.inThrough, through) : through
        link.inEpoch = epoch
        try group.transaction.setLink(link)
        group.afterCommit { [metrics] receipts in
          metrics.add(.acceptedFromPeers, decisions.count { $0.outcome == .accepted })
          let items = zip(seqs, decisions).map { seq, decision in
            AckFrame.Item(
              seq: seq, outcome: decision.outcome, code: decision.code,
              receipt: decision.receipt.map { receipts[$0] } ?? [])
          }
          completion(.success(items))
        }
      } refused: { code in
        switch code {
        // Room comes back, and a damaged row is one sender's or recipient's: the link stays for the others.
        case .overloaded, .storageFull, .damagedRow:
          completion(.success(seqs.map { AckFrame.Item(seq: $0, outcome: .later, code: code) }))
        default: completion(.failure(code))
        }
      })
  }

  private struct Decision {
    var outcome: DeliveryOutcome
    var code = ErrorCode.none
    /// Index into the group's receipts.
    var receipt: Int?
  }

  /// Steps 5 to 8 for one message, inside the group's transaction.
  private func admit(
    _ result: Result<VerifiedEnvelope, ErrorCode>, from source: Source, in group: CommitGroup
  ) throws -> Decision {
    guard case .success(let envelope) = result else {
      guard case .failure(let code) = result else { preconditionFailure("two cases") }
      return Decision(outcome: code.isRetryable ? .later : .refused, code: code)
    }
    // 5.
    if isDiskLow { return Decision(outcome: .later, code: .storageFull) }
    let standing = try authorise(envelope, in: group)
    guard standing == .none else { return refuse(envelope, standing, from: source, in: group) }
    // 6.
    let routes = try route(envelope, from: source, in: group)
    guard !routes.destinations.isEmpty else {
      return refuse(envelope, routes.unreachable.first?.code ?? .unknownRecipient, from: source, in: group)
    }
    // 7.
    switch try store(envelope, routes: routes, source: source, in: group) {
    case .inserted:
      break
    case .exists(let existing, let acceptedMs):
      guard existing == envelope.id else {
        metrics.add(.idReused)
        group.audit(
          AuditLeaf(
            .idReused, atMs: group.nowMs, actor: envelope.header.sender.text, envelope: envelope.id,
            code: .messageIDReused))
        log.warning("a message id was used twice with different bytes")
        return refuse(envelope, .messageIDReused, from: source, in: group)
      }
      metrics.add(.duplicates)
      return Decision(outcome: .duplicate, receipt: group.sign(statement(envelope, source, atMs: acceptedMs)))
    }
    // 8.
    notePresence(envelope.header, from: source, in: group)
    for failure in routes.unreachable { try tellSender(failure, about: envelope, source: source, in: group) }
    return Decision(outcome: .accepted, receipt: group.sign(statement(envelope, source, atMs: group.nowMs)))
  }

  /// Until grants arrive the policy is: our clients may send, pinned peers may deliver for their own clients.
  /// The device is asked about again here, because it may have been disabled since step 3.
  private func authorise(_ envelope: VerifiedEnvelope, in group: CommitGroup) throws -> ErrorCode {
    guard envelope.header.expiresMs > purgedThroughMs else { return .replayWindowClosed }
    guard let device = try roster.device(envelope.header.senderKid, in: group) else {
      return .unknownDevice
    }
    return device.standing(nowMs: group.nowMs)
  }

  private func route(
    _ envelope: VerifiedEnvelope, from source: Source, in group: CommitGroup
  ) throws -> Routes {
    let isLocal = if case .client = source { true } else { false }
    return try EngramNode.route(
      envelope.header.recipients, home: identity.name, mayForward: isLocal,
      device: { try roster.device($0, in: group) }, peer: { roster.peer($0) })
  }

  private func store(
    _ envelope: VerifiedEnvelope, routes: Routes, source: Source, in group: CommitGroup
  ) throws -> InsertOutcome {
    let header = envelope.header
    let origin: Int64 =
      switch source {
      case .client: 0
      case .peer(let name): roster.peer(name)?.envelopes ?? 0
      }
    let outcome = try group.transaction.insertMessage(
      NewMessage(
        dedupe: dedupeKey(header), envelopeID: envelope.id, sender: header.sender,
        senderKid: header.senderKid,
        type: header.type, priority: header.priority, createdMs: header.createdMs,
        expiresMs: header.expiresMs,
        notBeforeMs: header.notBeforeMs, origin: origin, acceptedMs: group.nowMs,
        openDeliveries: routes.destinations.count, bytes: envelope.envelope.bytes)
    )
    guard case .inserted(let message) = outcome else { return outcome }
    for destination in routes.destinations {
      let seq = try group.nextSeq(destination.mailbox)
      let place = try waitingPlace(destination, seq: seq, message: message, header, in: group)
      try group.transaction.insertDelivery(place)
      // What is held gets another number when it is due, so readers must not know this one.
      if place.holdMs > 0 {
        group.putUnseen(in: place.mailbox)
      } else {
        let lane = destination.kind == .peer ? Ranking.lane(rank: place.rank) : nil
        let fresh = FreshEnvelope(envelope.envelope, lane: lane ?? header.priority, acceptedMs: group.nowMs)
        group.keep(.envelope(fresh), in: place.mailbox, seq: seq)
      }
      if destination.kind != .peer, let rank = place.rank {
        group.note(
          .ready(
            mailbox: place.mailbox,
            ReadyEntry(key: ReadyKey(rank: rank, seq: seq), attempt: 0, kids: place.kids)))
      }
    }
    try cancelNamed(by: header, in: group)
    group.audit(
      AuditLeaf(.accepted, atMs: group.nowMs, actor: header.sender.text, envelope: envelope.id))
    return outcome
  }

  /// How a message waits at one of its destinations: in order of work, held until its time, or in a lane of
  /// an outbox. What is for later goes to the recipient's node at once and is held there.
  private func waitingPlace(
    _ destination: Routes.Destination, seq: UInt64, message: Int64, _ header: EnvelopeHeader,
    in group: CommitGroup
  ) throws -> DeliveryPlace {
    var place = DeliveryPlace(
      mailbox: destination.mailbox, seq: seq, message: message, slots: destination.slots)
    switch destination.kind {
    case .peer:
      place.rank = Ranking.lane(try outboxLane(of: header, in: group))
      return place
    case .device: break
    case .workQueue(let kids): place.kids = kids
    }
    if header.notBeforeMs > group.nowMs {
      place.holdMs = header.notBeforeMs
    } else {
      place.rank = Ranking.rank(
        readyMs: group.nowMs, priority: header.priority, ageStepMs: settings.ageStepMs)
    }
    return place
  }

  private func refuse(
    _ envelope: VerifiedEnvelope, _ code: ErrorCode, from source: Source, in group: CommitGroup
  ) -> Decision {
    metrics.addRefusal(code)
    var body = statement(envelope, source, atMs: group.nowMs)
    (body.state, body.code) = (.failed, code)
    return Decision(outcome: code.isRetryable ? .later : .refused, code: code, receipt: group.sign(body))
  }

  private func statement(_ envelope: VerifiedEnvelope, _ source: Source, atMs: UInt64) -> ReceiptBody {
    let isLocal = if case .client = source { true } else { false }
    return ReceiptBody(
      role: isLocal ? .homeNode : .recipientNode, issuerName: identity.name.text, issuerKey: identity.id.key,
      envelope: envelope.id, sender: envelope.header.sender, senderKid: envelope.header.senderKid,
      messageID: envelope.header.messageID, state: isLocal ? .accepted : .admitted, atMs: atMs)
  }

  /// A recipient that no route leads to, while others have one: the sender gets a failed receipt about it.
  private func tellSender(
    _ failure: Routes.Unreachable, about envelope: VerifiedEnvelope, source: Source, in group: CommitGroup
  ) throws {
    let recipient = envelope.header.recipients[failure.slot]
    var body = statement(envelope, source, atMs: group.nowMs)
    (body.state, body.code) = (.failed, failure.code)
    (body.recipient, body.recipientKid) = (recipient.address, recipient.kid)
    try post([body], towards: envelope.header.sender, kid: envelope.header.senderKid, in: group)
  }
}

/// (sender address, sender kid, message id): one effect per key, whatever the route.
func dedupeKey(_ header: EnvelopeHeader) -> Digest {
  dedupeKey(sender: header.sender, kid: header.senderKid, message: header.messageID)
}

func dedupeKey(sender: Address, kid: Kid, message: MessageID) -> Digest {
  let transcript = Transcript("dedupe")
  transcript.absorb(sender.text)
  transcript.absorb(kid)
  transcript.absorb(message)
  return transcript.identifier()
}
