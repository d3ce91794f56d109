internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import EngramSealing

/// The sender's path of a message:
///
/// 1. draft → the devices of its recipients, from judged directory answers
/// 2. keys missing → kept as plaintext, sealed under the storage key, until they can be had
/// 3. sealed; envelope and chain positions committed together
/// 4. only then transmitted, and again with the same bytes until the node has answered for good
/// 5. the node's receipt verified, the body dropped
extension ClientCore {
  /// Takes drafts through the whole path, as far as it goes now.
  /// - Parameters:
  ///   - blocked: addresses for whose keys earlier messages wait. Later ones queue behind them, so that they
  ///     arrive in the order in which they were given.
  ///   - known: devices that were looked up already.
  /// - Returns: what did not reach the outbox, and why what is in it still waits.
  func submit(
    _ drafts: [Draft], behind blocked: [Address: EngramError] = [:], known: [Address: [SealableDevice]] = [:]
  ) async throws -> [MessageID: SubmitOutcome] {
    var outcomes: [MessageID: SubmitOutcome] = [:]
    var ready: [(draft: Draft, devices: [SealableDevice])] = []
    var resolved = known.mapValues { Result<[SealableDevice], EngramError>.success($0) }
    for (address, error) in blocked { resolved[address] = .failure(error) }
    for draft in drafts {
      switch await devices(of: draft, &resolved) {
      case .success(let devices): ready.append((draft, devices))
      case .failure(let error) where error.kind == .unreachable:
        try await commit { try $0.enqueue(draft, code: error.registered) }
        outcomes[draft.messageID] = .queued(error)
      case .failure(let error): outcomes[draft.messageID] = .refused(error)
      }
    }
    for start in stride(from: 0, to: ready.count, by: ClientLimits.sealedPerCommit) {
      let chunk = Array(ready[start..<min(start + ClientLimits.sealedPerCommit, ready.count)])
      for (id, error) in try await seal(chunk, wereQueued: false) { outcomes[id] = .refused(error) }
    }
    do { try await transmitWaiting() } catch {
      let error = EngramError(error)
      for entry in ready where outcomes[entry.draft.messageID] == nil {
        outcomes[entry.draft.messageID] = .waiting(error)
      }
    }
    return outcomes
  }

  /// Step 1, each address once.
  private func devices(
    of draft: Draft, _ resolved: inout [Address: Result<[SealableDevice], EngramError>]
  ) async -> Result<[SealableDevice], EngramError> {
    var all: [SealableDevice] = []
    for address in draft.recipients {
      let result: Result<[SealableDevice], EngramError>
      if let known = resolved[address] {
        result = known
      } else {
        do { result = .success(try await sealableDevices(of: address)) } catch {
          result = .failure(EngramError(error))
        }
        resolved[address] = result
      }
      switch result {
      case .success(let devices): all += devices
      case .failure(let error): return .failure(error)
      }
    }
    return .success(all)
  }

  /// Step 3. A crash before the commit leaves nothing; after it, the next run transmits.
  /// - Returns: drafts that cannot be sealed as they are.
  func seal(
    _ batch: [(draft: Draft, devices: [SealableDevice])], wereQueued: Bool
  ) async throws -> [MessageID: EngramError] {
    let (address, device, now) = (account.address, device, nowMs())
    return try await commit { rows in
      var refused: [MessageID: EngramError] = [:]
      var chains: [Kid: ChainPosition] = [:]
      for (draft, devices) in batch {
        // Another process of this home may have sealed it meanwhile.
        if wereQueued, try rows.queued(draft.messageID) == nil { continue }
        // And of two that send under the same id at once, one does.
        if try rows.outbox(draft.messageID) != nil { continue }
        do {
          try rows.sealAndKeep(draft, for: devices, from: address, device: device, &chains, nowMs: now)
        } catch let error as SealError {
          refused[draft.messageID] = EngramError(
            .badInput, name: "cannot-seal", "the message cannot be sealed for these recipients (\(error))")
        }
        if wereQueued { try rows.dequeue(draft.messageID) }
      }
      for (kid, next) in chains { try rows.advanceChain(to: kid, next: next) }
      return refused
    }
  }

  /// Tries drafts again that waited for keys, in the order in which they were given. Those that expired stay
  /// listed, without their body.
  /// - Returns: addresses whose keys still cannot be had.
  @discardableResult
  func sealQueued() async -> [Address: EngramError] {
    let now = nowMs()
    var resolved: [Address: Result<[SealableDevice], EngramError>] = [:]
    var row: Int64 = 0
    while true {
      let after = row
      let page = try? await read { try $0.queuedAlive(after: after, limit: ClientLimits.sealedPerCommit) }
      guard let page, let last = page.last else { break }
      row = last.row
      var ready: [(draft: Draft, devices: [SealableDevice])] = []
      for draft in page.map(\.queued.draft) {
        guard now < draft.expiresMs else {
          try? await commit { try $0.expireQueued(draft) }
          continue
        }
        switch await devices(of: draft, &resolved) {
        case .success(let devices): ready.append((draft, devices))
        case .failure(let error):
          try? await commit { try $0.noteQueued(draft.messageID, code: error.registered) }
        }
      }
      if !ready.isEmpty { _ = try? await seal(ready, wereQueued: true) }
    }
    return resolved.compactMapValues { result in
      if case .failure(let error) = result, error.kind == .unreachable { error } else { nil }
    }
  }

  /// Steps 4 and 5 for everything that waits, in the order in which it was sealed.
  /// - Returns: how many messages the node has taken.
  /// - Throws: `EngramError` when the node cannot be reached, or its answer is not believed.
  @discardableResult
  func transmitWaiting() async throws -> Int {
    var taken = 0
    while true {
      let rows = try await read {
        try $0.waiting(limit: Limits.envelopesPerBatchMax, maxBytes: ClientLimits.postBytes)
      }
      guard !rows.isEmpty else { return taken }
      let envelopes = rows.map(\.envelope)
      let outcomes =
        if let link = liveLink, envelopes.reduce(0, { $0 + $1.count }) < Limits.frameBytesMax {
          try await link.submit(envelopes)
        } else {
          try await api.post(envelopes)
        }
      let settled = try await settle(rows, outcomes)
      taken += settled.accepted
      if let error = settled.later { throw error }
    }
  }

  /// Step 5. `accepted` needs the node's receipt: without it nobody has promised anything.
  private func settle(
    _ rows: [OutboxRow], _ outcomes: [ItemOutcome]
  ) async throws -> (accepted: Int, later: EngramError?) {
    let (account, credentials, now) = (account, credentials, nowMs())
    return try await commit { transaction in
      var judge = ReceiptJudge(account: account, credentials: credentials)
      var accepted = 0
      var later: EngramError?
      for (row, outcome) in zip(rows, outcomes) {
        switch outcome.outcome {
        case .accepted, .duplicate:
          let isProven = try transaction.keep(outcome.receipt, about: row, judge: &judge)
          if isProven || (outcome.outcome == .duplicate && outcome.receipt.isEmpty) {
            try transaction.settle(row, .accepted, code: .none)
            accepted += 1
          } else {
            try transaction.raise(
              .receiptRefused, .badSignature, address: account.address.node.text,
              envelope: row.envelopeID,
              nowMs: now)
            try transaction.noteAttempt(row.messageID, code: .badSignature)
            later = EngramError(.untrusted, .badSignature)
          }
        case .refused where !outcome.code.isNodeFailure:
          try transaction.settle(row, .refused, code: outcome.code)
          try transaction.lookAgain(after: outcome.code, row, at: account.address.node.text)
        // A node whose own disk fails has said nothing about the message.
        case .later, .refused:
          try transaction.noteAttempt(row.messageID, code: outcome.code)
          later = EngramError(.unreachable, outcome.code)
        }
      }
      return (accepted, later)
    }
  }
}

extension ClientTransaction {
  /// Seals a draft and keeps it, the history's copy included. The chains it moves on stand in `chains`, to be
  /// kept in the same transaction.
  func sealAndKeep(
    _ draft: Draft, for devices: [SealableDevice], from sender: Address, device: SigningKey,
    _ chains: inout [Kid: ChainPosition], nowMs: UInt64
  ) throws {
    var request = SealRequest(
      messageID: draft.messageID, thread: draft.thread, type: draft.type, createdMs: nowMs,
      expiresMs: draft.expiresMs, contentType: draft.contentType, body: draft.body,
      mayCompress: draft.mayCompress)
    request.priority = draft.priority
    request.parent = draft.parent
    request.notBeforeMs = draft.notBeforeMs
    (request.kind, request.labels, request.topic) = (draft.kind, draft.labels, draft.topic)
    let recipients = try devices.map {
      SealRecipient(
        $0.prekey, chain: try chains[$0.certificate.kid] ?? nextPosition(to: $0.certificate.kid))
    }
    let sealed = try seal(request, from: sender, for: recipients, device: device)
    try insertSealed(
      draft.messageID, envelope: sealed.id, bytes: sealed.bytes, createdMs: nowMs, expiresMs: draft.expiresMs)
    for recipient in recipients {
      let kid = recipient.recipient.kid
      chains[kid] = ChainPosition(seq: recipient.chain.seq + 1, previous: sealed.id)
      try recordSent(
        to: kid, seq: recipient.chain.seq, envelope: sealed.id, expiresMs: draft.expiresMs)
    }
    if draft.kind == .message {
      try keepSent(
        try UnverifiedEnvelope(parsing: sealed.bytes).header, sealed.id, contentType: draft.contentType,
        body: draft.body, nowMs: nowMs)
    }
  }

  /// Keeps the receipt that came with an outcome.
  /// - Returns: true when it is the home node's `accepted` for this very envelope.
  func keep(_ receipt: [UInt8], about row: OutboxRow, judge: inout ReceiptJudge) throws -> Bool {
    guard !receipt.isEmpty, case .success(let verified) = try judge.judge(receipt, about: row, in: self),
      verified.body.role == .homeNode
    else { return false }
    try insertReceipt(verified)
    return verified.body.state == .accepted
  }
}
