package import EngramCore

/// The federation protocol of one link, as a value: events in, actions out. It owns no socket, clock, disk or
/// random source; time comes with each event. `docs/protocol/federation.md` describes the same in words.
///
/// 1. Both sides prove themselves with a signed hello (`LinkStateMachine+Hello`).
/// 2. Rows of the peer's mailbox go out by priority and age, as deliver frames and parts (`OutboundStream`).
/// 3. What comes in is verified, committed and then acknowledged (`InboundStream`).
/// 4. Receipts travel in sequence on a stream of their own (`ReceiptsStream`).
/// 5. Directory questions, requests, pings and goodbyes pass in between (`LinkStateMachine+Control`,
///    `LinkStateMachine+Requests`).
package struct LinkStateMachine: Sendable {
  enum Phase: Equatable {
    case awaitingHello
    /// The peer's hello holds; whether this link may live is being asked.
    case claiming(HelloBody)
    case closed
    case established
    /// The dialler reads its numbers before it says hello.
    case loading
    case redrawing
    /// The numbers are read (again) after the claim, so that none is older than the peer's.
    case reloading(HelloBody, replacedOther: Bool)
    case waiting
  }

  /// What exists only between two sides that have proved themselves.
  struct Session {
    var features: LinkFeatures
    var outbound: OutboundStream
    var inbound: InboundStream
    var receiptsOut: ReceiptsOutStream
    var receiptsIn: ReceiptsInStream
  }

  package let configuration: LinkConfiguration
  var phase = Phase.waiting
  var session: Session?
  /// Our numbers at the moment of our hello; `ackedThrough` of then cannot be newer than the peer's answer.
  var numbersAtHello: LinkNumbers?
  var directory = QuestionDesk()
  var requests = QuestionDesk()
  var liveness: Liveness
  /// Frames that arrived before the peer's hello was dealt with (the listener may send right behind its own).
  var held: [LinkFrame] = []
  var drain: (code: ErrorCode, sinceMs: UInt64)?
  var isWritable = true
  var nowMs: UInt64 = 0
  var actions: [LinkAction] = []

  package init(_ configuration: LinkConfiguration, nowMs: UInt64) {
    self.configuration = configuration
    liveness = Liveness(nowMs: nowMs, idlePingMs: configuration.settings.idlePingMs)
  }

  package var isEstablished: Bool { phase == .established }
  package var isClosed: Bool { phase == .closed }
  /// Messages sent and not acknowledged.
  package var inFlight: Int { session?.outbound.inFlightCount ?? 0 }
  /// More deliveries could go out as soon as the transport takes them.
  package var wantsToWrite: Bool { isWritable && session?.hasBulk == true && drain == nil }
  /// The edge should read no further until this is false again.
  package var isReadingPaused: Bool {
    switch phase {
    case .claiming, .reloading: true
    case .established: session?.inbound.isOverfull == true
    default: false
    }
  }
  /// Senders whose certificates this link has carried already, with the versions of their device lists.
  package var certificatesSent: [Kid: UInt64] { session?.outbound.certificatesSent ?? [:] }

  /// Takes one event and says what follows from it. After `close` nothing follows any more.
  package mutating func handle(_ event: LinkEvent, nowMs: UInt64) -> [LinkAction] {
    guard phase != .closed else { return afterClosing(event) }
    self.nowMs = nowMs
    switch event {
    case .opened, .numbersLoaded, .claimed, .epochRedrawn: handshake(event)
    case .received(let frame): receive(frame)
    case .batchCommitted, .batchVerified, .certificateLearned, .receiptsCommitted: inbound(event)
    case .envelopesAvailable, .envelopesRead, .envelopesReadFailed, .largeRead, .largeReadFailed,
      .receiptsAvailable, .receiptsRead, .receiptsReadFailed, .settled:
      outbound(event)
    case .directoryAnswered, .directoryLookup: directory(event)
    case .requestAnswered, .requestMade: request(event)
    case .drain(let code): startDraining(code)
    case .failed(let code): fail(code)
    case .probed: probe()
    case .ticked: tick()
    case .transportLost: end(.lost)
    case .writabilityChanged(let value): isWritable = value
    }
    if phase == .established { pump() }
    defer { actions = [] }
    return actions
  }

  private func afterClosing(_ event: LinkEvent) -> [LinkAction] {
    switch event {
    case .directoryLookup(let id, _): [.resolveLookup(id: id, .failure(.peerUnreachable))]
    case .requestMade(let id, _, _): [.resolveRequest(id: id, .failure(.peerUnreachable))]
    default: []
    }
  }

  mutating func send(_ type: FrameType, _ payload: [UInt8] = []) { actions.append(.send(type, payload)) }

  /// Says why, then closes. The code tells the peer and our operator whose fault it is.
  mutating func fail(_ code: ErrorCode) {
    if phase != .waiting { send(.goodbye, GoodbyeFrame(code: code).encoded()) }
    end(.closedByUs(code))
  }

  mutating func end(_ reason: LinkEnd) {
    phase = .closed
    session = nil
    held = []
    actions.append(.close(reason))
    // After the end, so that whoever asked finds the link gone and may ask over another one.
    for id in directory.takeAll() { actions.append(.resolveLookup(id: id, .failure(.peerUnreachable))) }
    for id in requests.takeAll() { actions.append(.resolveRequest(id: id, .failure(.peerUnreachable))) }
  }

  /// Hands deliveries to the transport, a bounded amount at a time, and asks the store for more.
  private mutating func pump() {
    advanceInbound()
    guard drain == nil else { return finishDraining() }
    var bytes = 0
    while isWritable, bytes < LinkLimits.bulkQuantumBytes, let (type, payload) = session?.nextBulkFrame() {
      send(type, payload)
      bytes += payload.count
    }
    requestReads()
  }

  private mutating func requestReads() {
    guard let features = session?.features else { return }
    if features.contains(.deliver), let read = session?.outbound.nextRead() {
      actions.append(.readEnvelopes(after: read.after, maxCount: read.maxCount, maxBytes: read.maxBytes))
    }
    if let seq = session?.outbound.nextLargeRead() { actions.append(.readLarge(seq: seq)) }
    if features.contains(.receipts), let read = session?.receiptsOut.nextRead() {
      actions.append(.readReceipts(after: read.after, maxCount: read.maxCount))
    }
  }
}

extension LinkStateMachine.Session {
  var hasBulk: Bool { outbound.hasFrames || receiptsOut.hasFrames }

  /// The next frame of deliveries or receipts; receipts first, since they are few and free the other side's
  /// rows.
  mutating func nextBulkFrame() -> (FrameType, [UInt8])? {
    if let frame = receiptsOut.nextFrame() { return (.receipts, frame) }
    return outbound.nextFrame()
  }
}
