import EngramCore

/// Directory questions, signs of life, and endings.
extension LinkStateMachine {
  // MARK: - Directory

  mutating func directory(_ event: LinkEvent) {
    switch event {
    case .directoryLookup(let id, let address):
      guard session?.features.contains(.directory) == true, drain == nil else {
        return actions.append(.resolveLookup(id: id, .failure(.peerUnreachable)))
      }
      guard let request = directory.ask(id, deadlineMs: nowMs + LinkLimits.queryTimeoutMs) else {
        return actions.append(.resolveLookup(id: id, .failure(.overloaded)))
      }
      send(.directoryQuery, DirectoryQueryFrame(request: request, address: address).encoded())
    case .directoryAnswered(let request, let code, let answer):
      directory.unanswered -= 1
      send(.directoryAnswer, DirectoryAnswerFrame(request: request, code: code, answer: answer).encoded())
    default: break
    }
  }

  mutating func receiveDirectoryQuery(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    let frame = try parsed { () throws(CodecError) in try DirectoryQueryFrame(parsing: payload) }
    guard directory.unanswered < LinkLimits.queriesMax else {
      let refusal = DirectoryAnswerFrame(request: frame.request, code: .overloaded, answer: [])
      return send(.directoryAnswer, refusal.encoded())
    }
    directory.unanswered += 1
    actions.append(.answerDirectory(request: frame.request, frame.address))
  }

  mutating func receiveDirectoryAnswer(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    let frame = try parsed { () throws(CodecError) in try DirectoryAnswerFrame(parsing: payload) }
    switch directory.take(frame.request) {
    case .known(let id):
      let result: Result<[UInt8], ErrorCode> =
        frame.code == .none ? .success(frame.answer) : .failure(frame.code)
      actions.append(.resolveLookup(id: id, result))
    // It came after its time was up.
    case .late: break
    case .neverAsked: throw LinkRefusal(.unexpectedFrame)
    }
  }

  // MARK: - Time

  mutating func tick() {
    for id in directory.expired(nowMs: nowMs) {
      actions.append(.resolveLookup(id: id, .failure(.peerUnreachable)))
    }
    for id in requests.expired(nowMs: nowMs) {
      actions.append(.resolveRequest(id: id, .failure(.peerUnreachable)))
    }
    if let due = session?.outbound.duePostponed(nowMs: nowMs), !due.isEmpty {
      actions.append(.settle(through: 0, due))
    }
    // A silence that we impose ourselves says nothing about the peer.
    if isReadingPaused { liveness.received(nowMs: nowMs) }
    // Signals tell of new rows; now and then we look anyway, for rows that an expired one hid or a failed
    // read left.
    if liveness.isSweepDue(nowMs: nowMs) {
      session?.outbound.sweep()
      session?.receiptsOut.workArrived()
    }
    switch liveness.tick(nowMs: nowMs, isEstablished: phase == .established) {
    case .dead: fail(.idleTimeout)
    case .fine: break
    case .ping: send(.ping)
    }
  }

  mutating func probe() {
    guard phase == .established else { return }
    liveness.probe(nowMs: nowMs)
    send(.ping)
  }

  // MARK: - Endings

  mutating func receiveGoodbye(_ payload: ArraySlice<UInt8>) {
    guard let frame = try? GoodbyeFrame(parsing: payload) else { return fail(.malformed) }
    end(.closedByPeer(frame.code, retryAfterMs: frame.retryAfterMs))
  }

  mutating func startDraining(_ code: ErrorCode) {
    guard phase == .established else { return fail(code) }
    if drain == nil { drain = (code, nowMs) }
  }

  /// Everything taken in is acknowledged before the goodbye; what we sent gets a moment to be acknowledged.
  mutating func finishDraining() {
    guard let drain, let session else { return }
    guard session.inbound.isIdle, session.receiptsIn.isIdle else { return }
    if session.outbound.inFlightCount == 0 || nowMs >= drain.sinceMs + LinkLimits.drainMs { fail(drain.code) }
  }
}

/// Signs of life of the peer: any frame counts.
struct Liveness: Sendable {
  enum Verdict { case dead, fine, ping }

  private let idlePingMs: UInt64
  private var helloDeadlineMs: UInt64
  private var lastReceivedMs: UInt64
  private var silentPings: UInt64 = 0
  private var probeDeadlineMs: UInt64?
  private var lastSweepMs: UInt64

  init(nowMs: UInt64, idlePingMs: UInt64) {
    self.idlePingMs = idlePingMs
    (lastReceivedMs, lastSweepMs) = (nowMs, nowMs)
    helloDeadlineMs = nowMs + LinkLimits.helloTimeoutMs
  }

  mutating func established(nowMs: UInt64) { received(nowMs: nowMs) }

  mutating func received(nowMs: UInt64) {
    lastReceivedMs = nowMs
    silentPings = 0
    probeDeadlineMs = nil
  }

  mutating func probe(nowMs: UInt64) {
    if probeDeadlineMs == nil { probeDeadlineMs = nowMs + LinkLimits.probeMs }
  }

  mutating func isSweepDue(nowMs: UInt64) -> Bool {
    guard nowMs >= lastSweepMs + LinkLimits.sweepMs else { return false }
    lastSweepMs = nowMs
    return true
  }

  mutating func tick(nowMs: UInt64, isEstablished: Bool) -> Verdict {
    guard isEstablished else { return nowMs >= helloDeadlineMs ? .dead : .fine }
    if let probeDeadlineMs, nowMs >= probeDeadlineMs { return .dead }
    guard nowMs >= lastReceivedMs + idlePingMs * (silentPings + 1) else { return .fine }
    guard silentPings < LinkLimits.silentPingsMax else { return .dead }
    silentPings += 1
    return .ping
  }
}
