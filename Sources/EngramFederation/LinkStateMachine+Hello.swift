import EngramCore
import EngramCrypto
import EngramNode

/// The first frame both ways. The dialler speaks first; the listener answers only after it verified that
/// hello, so that somebody who merely reached the port learns nothing.
extension LinkStateMachine {
  mutating func handshake(_ event: LinkEvent) {
    switch (event, phase) {
    case (.opened, .waiting):
      switch configuration.role {
      case .dialler:
        phase = .loading
        actions.append(.loadNumbers)
      case .listener: phase = .awaitingHello
      }
    case (.numbersLoaded(let numbers), .loading):
      sendHello(numbers)
      phase = .awaitingHello
    case (.claimed(.refused(let code)), .claiming): fail(code)
    case (.claimed(.granted(let replacedOther)), .claiming(let hello)):
      phase = .reloading(hello, replacedOther: replacedOther)
      actions.append(.loadNumbers)
    case (.numbersLoaded(let numbers), .reloading(let hello, let replacedOther)):
      establish(hello, numbers, replacedOther: replacedOther)
    case (.epochRedrawn, .redrawing): fail(.peerRolledBack)
    default: break
    }
  }

  private mutating func sendHello(_ numbers: LinkNumbers) {
    let body = HelloBody(
      role: configuration.role, name: configuration.identity.name, nodeID: configuration.identity.id,
      peerName: configuration.peer.name, peerNodeID: configuration.peer.id, nowMs: nowMs,
      epoch: numbers.outEpoch,
      throughEpoch: numbers.inEpoch, through: numbers.inThrough,
      window: UInt32(clamping: configuration.settings.windowMessages), features: configuration.features)
    numbersAtHello = numbers
    send(.hello, signHello(body, exporter: configuration.exporter, key: configuration.identity.key))
  }

  /// Nothing of the peer is looked at before this frame, and nothing else is accepted in its place.
  mutating func receiveHello(_ payload: ArraySlice<UInt8>) {
    let hello: HelloBody
    do throws(CredentialError) {
      hello = try verifyHello(payload, exporter: configuration.exporter, pinned: configuration.peer.id)
    } catch {
      return fail(error == .inconsistent(.wrongPeer) ? .wrongPeer : .helloInvalid)
    }
    let code = judge(hello)
    guard code == .none else { return fail(code) }
    phase = .claiming(hello)
    actions.append(.claim)
  }

  private func judge(_ hello: HelloBody) -> ErrorCode {
    let own = configuration.identity
    guard hello.version == HelloBody.version else { return .versionMismatch }
    guard hello.role == configuration.role.opposite else { return .helloInvalid }
    guard hello.name == configuration.peer.name, hello.peerName == own.name, hello.peerNodeID == own.id else {
      return .wrongPeer
    }
    let skew = hello.nowMs > nowMs ? hello.nowMs - nowMs : nowMs - hello.nowMs
    guard skew <= Limits.clockSkewMs else { return .helloSkew }
    guard hello.maxFrame >= LinkLimits.peerFrameBytesMin, hello.window >= 1 else { return .helloInvalid }
    return .none
  }

  /// The numbers decide where delivery resumes, and show when one side's store went back in time:
  /// - the peer committed more than we ever assigned: we were rolled back, and start a new numbering;
  /// - the peer committed less than it had acknowledged: it was rolled back, which only an operator can mend.
  private mutating func establish(_ hello: HelloBody, _ numbers: LinkNumbers, replacedOther: Bool) {
    if hello.throughEpoch == numbers.outEpoch {
      if hello.through > numbers.highestAssigned {
        phase = .redrawing
        actions.append(.redrawEpoch)
        return
      }
      // While another link was delivering, the peer's number may honestly be older than ours.
      let acked = (numbersAtHello ?? numbers).ackedThrough
      if hello.through < acked, !replacedOther { actions.append(.reportPeerRollback) }
    }
    if configuration.role == .listener { sendHello(numbers) }
    phase = .established
    session = Session(hello, numbers, configuration)
    liveness.established(nowMs: nowMs)
    actions.append(.established)
    let waiting = held
    held = []
    for frame in waiting where phase == .established { receive(frame) }
  }
}

extension LinkStateMachine.Session {
  init(_ hello: HelloBody, _ numbers: LinkNumbers, _ configuration: LinkConfiguration) {
    let own = configuration.identity.id
    let settings = configuration.settings
    features = configuration.features.intersection(hello.features)
    outbound = OutboundStream(
      origin: own, destination: configuration.peer.id, epoch: numbers.outEpoch,
      windowMessages: min(Int(hello.window), settings.windowMessages), windowBytes: settings.windowBytes,
      frameBytesMax: min(Int(hello.maxFrame), Limits.frameBytesMax), canPart: features.contains(.parts))
    inbound = InboundStream(
      origin: configuration.peer.id, destination: own, epoch: hello.epoch,
      committedThrough: numbers.inEpoch == hello.epoch ? numbers.inThrough : 0,
      windowMessages: settings.windowMessages)
    receiptsOut = ReceiptsOutStream(
      epoch: numbers.outEpoch, windowReceipts: min(Int(hello.window), settings.windowMessages))
    receiptsIn = ReceiptsInStream(epoch: hello.epoch, windowReceipts: settings.windowMessages)
  }
}
