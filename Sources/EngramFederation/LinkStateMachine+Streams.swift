import EngramCore

/// Frames and answers of the streams: what the four stream values decide is turned into actions here.
extension LinkStateMachine {
  mutating func receive(_ frame: LinkFrame) {
    liveness.received(nowMs: nowMs)
    guard let type = FrameType(rawValue: frame.type) else { return fail(.unknownFrame) }
    if type == .goodbye { return receiveGoodbye(frame.payload) }
    switch phase {
    case .awaitingHello where type == .hello: receiveHello(frame.payload)
    case .established: receive(type, frame.payload)
    // Only the listener may have spoken its last word of the handshake before we are ready.
    case .claiming, .reloading, .redrawing:
      guard configuration.role == .dialler, type != .hello else { return fail(.unexpectedFrame) }
      guard held.count < LinkLimits.heldFramesMax else { return fail(.windowExceeded) }
      held.append(frame)
    case .awaitingHello, .closed, .loading, .waiting: fail(.unexpectedFrame)
    }
  }

  private mutating func receive(_ type: FrameType, _ payload: ArraySlice<UInt8>) {
    guard let features = session?.features, features.isSuperset(of: type.requiredFeature), type != .hello
    else {
      return fail(.unexpectedFrame)
    }
    do throws(LinkRefusal) {
      switch type {
      case .deliver: try receiveDeliver(payload)
      case .part: try receivePart(payload)
      case .certificate: try receiveCertificate(payload)
      case .ack: try receiveAck(payload)
      case .receipts: try receiveReceipts(payload)
      case .receiptsAck: try receiveReceiptsAck(payload)
      case .directoryQuery: try receiveDirectoryQuery(payload)
      case .directoryAnswer: try receiveDirectoryAnswer(payload)
      case .request: try receiveRequest(payload)
      case .response: try receiveResponse(payload)
      case .ping:
        try requireEmpty(payload)
        send(.pong)
      case .pong: try requireEmpty(payload)
      case .goodbye, .hello: break
      }
    } catch { fail(error.code) }
  }

  // MARK: - Towards us

  /// A draining link drops what comes: unacknowledged, it is sent again to the next one.
  private mutating func receiveDeliver(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    guard drain == nil else { return }
    try session?.inbound.deliver(try parsed { () throws(CodecError) in try DeliverFrame(parsing: payload) })
  }

  private mutating func receivePart(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    guard drain == nil else { return }
    try session?.inbound.part(try parsed { () throws(CodecError) in try PartFrame(parsing: payload) })
  }

  private mutating func receiveCertificate(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    guard drain == nil else { return }
    try session?.inbound.certificate(
      try parsed { () throws(CodecError) in try CertificateItem(parsing: payload) })
  }

  private mutating func receiveReceipts(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    guard drain == nil else { return }
    let frame = try parsed { () throws(CodecError) in try ReceiptsFrame(parsing: payload) }
    if let ticket = try session?.receiptsIn.take(frame) {
      actions.append(.acceptReceipts(ticket, frame.receipts.map { Array($0) }))
    }
  }

  mutating func inbound(_ event: LinkEvent) {
    guard session != nil else { return }
    switch event {
    case .batchVerified: session?.inbound.batchVerified()
    case .certificateLearned(let code):
      session?.inbound.certificateLearned()
      // A certificate that is wrong refuses its envelopes; one that we could not store must come again.
      if code.isOurs { fail(code) }
    case .batchCommitted(let batch, let items):
      for frame in session?.inbound.committed(batch, items) ?? [] { send(.ack, frame) }
    case .receiptsCommitted(let ticket, let code):
      if code.isOurs { return fail(code) }
      if let ack = session?.receiptsIn.committed(ticket) { send(.receiptsAck, ack.encoded()) }
    default: break
    }
  }

  mutating func advanceInbound() {
    while let work = session?.inbound.nextWork() {
      switch work {
      case .accept(let batch): actions.append(.acceptEnvelopes(batch))
      case .learn(let certificate): actions.append(.learn(certificate))
      }
    }
  }

  // MARK: - Towards the peer

  private mutating func receiveAck(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    let frame = try parsed { () throws(CodecError) in try AckFrame(parsing: payload) }
    guard let (through, items) = try session?.outbound.acknowledge(frame, nowMs: nowMs) else { return }
    if !items.isEmpty { actions.append(.settle(through: through, items)) }
  }

  private mutating func receiveReceiptsAck(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
    let frame = try parsed { () throws(CodecError) in try ReceiptsAckFrame(parsing: payload) }
    if let through = try session?.receiptsOut.acknowledge(frame) {
      actions.append(.settleReceipts(through: through))
    }
  }

  mutating func outbound(_ event: LinkEvent) {
    guard session != nil else { return }
    switch event {
    case .envelopesAvailable: session?.outbound.workArrived()
    case .envelopesRead(let rows, let through, let certificates):
      // Certificates go ahead of everything that was read with them; each device list once per link.
      for certificate in certificates where session?.outbound.markSent(certificate) == true {
        send(.certificate, certificate.item.encoded())
      }
      refuse(session?.outbound.take(rows, through: through) ?? [])
    case .envelopesReadFailed: session?.outbound.readFailed()
    case .largeRead(let bytes): refuse(session?.outbound.takeLarge(bytes) ?? [])
    case .largeReadFailed: session?.outbound.largeReadFailed()
    case .receiptsAvailable: session?.receiptsOut.workArrived()
    case .receiptsReadFailed: session?.receiptsOut.readFailed()
    case .receiptsRead(let rows): session?.receiptsOut.take(rows)
    case .settled(let count): session?.outbound.settled(count)
    default: break
    }
  }

  /// Ends rows that this peer can never be sent.
  private mutating func refuse(_ unsendable: [AckFrame.Item]) {
    if !unsendable.isEmpty { actions.append(.settle(through: 0, unsendable)) }
  }
}

/// Why the peer's frame ends the link.
struct LinkRefusal: Error {
  let code: ErrorCode
  init(_ code: ErrorCode) { self.code = code }
}

func parsed<T>(_ body: () throws(CodecError) -> T) throws(LinkRefusal) -> T {
  do throws(CodecError) { return try body() } catch { throw LinkRefusal(error.code) }
}

private func requireEmpty(_ payload: ArraySlice<UInt8>) throws(LinkRefusal) {
  guard payload.isEmpty else { throw LinkRefusal(.trailingBytes) }
}
