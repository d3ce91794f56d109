import EngramCore
import EngramCrypto
import EngramNode
import EngramTLS
import Logging
import NIOCore
import NIOPosix
import NIOTLS

/// What every link of one service shares.
struct LinkEnvironment: Sendable {
  let node: Node
  let settings: LinkSettings
  /// For the store's reads, which block.
  let pool: NIOThreadPool
  let loops: [any EventLoop]
  let log: Logger
  let counters: FederationCounters
}

/// Runs a `LinkStateMachine` on its channel's event loop: turns frames and answers into events, and carries
/// the actions out. It decides nothing itself. Store reads go to the thread pool, commits to the node's own
/// thread; both answer by hopping back here.
final class LinkHandler: ChannelDuplexHandler {
  typealias InboundIn = LinkFrame
  typealias OutboundIn = Never
  typealias OutboundOut = ByteBuffer

  let environment: LinkEnvironment
  let supervisor: PeerSupervisor
  let peer: Peer
  private let role: LinkRole
  private var machine: LinkStateMachine?
  private var context: ChannelHandlerContext?
  private(set) var port: LinkPort?
  private var events = Queue<LinkEvent>()
  private var isRunning = false
  private var isInReadBurst = false
  private var needsFlush = false
  private var isReadHeld = false
  private var isContinuing = false
  private var hasEnded = false
  /// Time on this link: the wall clock's when the link began, from then on monotonic, so that a clock that is
  /// set cannot make a living peer look dead or a dead one alive.
  private let startedMs: UInt64
  private let started = NIODeadline.now()
  private var nowMs: UInt64 {
    startedMs + UInt64(max(0, (NIODeadline.now() - started).nanoseconds / 1_000_000))
  }
  private var transportError: TLSError?
  private var ticks: RepeatedTask?
  private var lookups: [UInt64: QuestionCompletion] = [:]
  private var nextLookup: UInt64 = 0
  var watches: [Watch] = []
  var mailboxes: (envelopes: Int64, receipts: Int64)?

  init(role: LinkRole, peer: Peer, supervisor: PeerSupervisor, environment: LinkEnvironment) {
    (self.role, self.peer, self.supervisor, self.environment) = (role, peer, supervisor, environment)
    startedMs = environment.node.clock.nowMs()
  }

  // MARK: - Channel

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    let port = LinkPort(self, role: role, channel: context.channel)
    guard supervisor.opened(port) else {
      hasEnded = true
      return context.close(promise: nil)
    }
    self.port = port
    // A listener joins after the handshake, which told it that this is federation.
    if role == .listener { begin(context) }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    ended(.lost)
    (self.context, port) = (nil, nil)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case TLSUserEvent.handshakeCompleted? = event as? TLSUserEvent, machine == nil { begin(context) }
    context.fireUserInboundEventTriggered(event)
  }

  private func begin(_ context: ChannelHandlerContext) {
    guard let tls = try? context.pipeline.syncOperations.handler(type: TLSHandler.self),
      let info = tls.connectionInfo, info.applicationProtocol == FederationService.applicationProtocol,
      info.verifiedPeerName == peer.name.text,
      let exporter = try? tls.exporter(label: HelloExporter.label, length: HelloExporter.bytes)
    else {
      ended(.closedByUs(.wrongPeer))
      return context.close(promise: nil)
    }
    machine = LinkStateMachine(
      LinkConfiguration(
        role: role, identity: environment.node.identity, peer: peer, exporter: exporter,
        settings: environment.settings),
      nowMs: nowMs)
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    ticks = context.eventLoop.scheduleRepeatedTask(
      initialDelay: FederationTimes.tick, delay: FederationTimes.tick
    ) { _ in bound.value.tick() }
    handle(.opened)
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    isInReadBurst = true
    handle(.received(unwrapInboundIn(data)))
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    isInReadBurst = false
    flushIfNeeded()
    context.fireChannelReadComplete()
  }

  /// Demand passes through here; while too much is undecided it waits.
  func read(context: ChannelHandlerContext) {
    if machine?.isReadingPaused == true { isReadHeld = true } else { context.read() }
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    handle(.writabilityChanged(context.channel.isWritable))
    context.fireChannelWritabilityChanged()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case let error as FrameError: handle(.failed(error.code))
    case let error as TLSError: transportError = error
    default: break
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    handle(.transportLost)
    ended(.lost)
    context.fireChannelInactive()
  }

  private func tick() {
    handle(.ticked)
    guard let channel = context?.channel,
      let unsent = try? channel.syncOptions?.getOption(.bufferedWritableBytes),
      unsent > LinkLimits.unsentBytesMax
    else { return }
    handle(.failed(.windowExceeded))
  }

  // MARK: - Machine

  /// On the event loop. Events that arise while one is being worked off wait for their turn.
  func handle(_ event: LinkEvent) {
    // Before TLS is up there is nothing to finish and nobody to say goodbye to.
    if machine == nil, case .drain(let code) = event { return close(.closedByUs(code)) }
    events.append(event)
    guard !isRunning else { return }
    isRunning = true
    while let next = events.popFirst() {
      for action in machine?.handle(next, nowMs: nowMs) ?? [] { perform(action) }
    }
    isRunning = false
    finishTurn()
  }

  private func finishTurn() {
    guard let context, let machine else { return }
    port?.inFlight = machine.inFlight
    if !isInReadBurst { flushIfNeeded() }
    if isReadHeld, !machine.isReadingPaused {
      isReadHeld = false
      context.read()
    }
    if machine.wantsToWrite, context.channel.isWritable, !isContinuing {
      isContinuing = true
      let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
      context.eventLoop.execute {
        bound.value.isContinuing = false
        if let context = bound.value.context {
          bound.value.handle(.writabilityChanged(context.channel.isWritable))
        }
      }
    }
  }

  private func flushIfNeeded() {
    guard needsFlush else { return }
    needsFlush = false
    context?.flush()
  }

  private func perform(_ action: LinkAction) {
    switch action {
    case .acceptEnvelopes(let batch): acceptEnvelopes(batch)
    case .acceptReceipts(let ticket, let receipts): acceptReceipts(ticket, receipts)
    case .answerDirectory(let request, let address): answerDirectory(request, address)
    case .answerRequest(let request, let kind, let payload): answerRequest(request, kind, payload)
    case .claim: if let port { handle(.claimed(supervisor.claim(port))) }
    case .close(let end): close(end)
    case .established:
      watchMailboxes()
      if let port { supervisor.established(port) }
    case .learn(let certificate): learn(certificate)
    case .loadNumbers: loadNumbers()
    case .readEnvelopes(let after, let maxCount, let maxBytes):
      readEnvelopes(
        after: after, maxCount: maxCount, maxBytes: maxBytes, sent: machine?.certificatesSent ?? [:])
    case .readLarge(let seq): readLarge(seq)
    case .readReceipts(let after, let maxCount): readReceipts(after: after, maxCount: maxCount)
    case .redrawEpoch: redrawEpoch()
    case .reportPeerRollback: reportPeerRollback()
    case .resolveLookup(let id, let result), .resolveRequest(let id, let result):
      lookups.removeValue(forKey: id)?(result)
    case .send(let type, let payload):
      guard let context else { return }
      context.write(
        wrapOutboundOut(encodeFrame(type, payload, allocator: context.channel.allocator)), promise: nil)
      needsFlush = true
    case .settle(let through, let items): settle(through: through, items)
    case .settleReceipts(let through): environment.node.settleReceipts(peer.name, through: through) {}
    }
  }

  /// Directory questions and requests share their ids.
  func ask(_ question: LinkQuestion, _ completion: @escaping QuestionCompletion) {
    guard machine != nil else { return completion(.failure(.peerUnreachable)) }
    nextLookup += 1
    lookups[nextLookup] = completion
    switch question {
    case .directory(let address): handle(.directoryLookup(id: nextLookup, address))
    case .request(let kind, let payload): handle(.requestMade(id: nextLookup, kind, payload))
    }
  }

  // MARK: - End

  private func close(_ end: LinkEnd) {
    needsFlush = false
    context?.flush()
    ended(end)
    context?.close(promise: nil)
  }

  /// Tells the supervisor, once. What TLS said explains a lost link better than its loss.
  private func ended(_ end: LinkEnd) {
    guard !hasEnded else { return }
    hasEnded = true
    ticks?.cancel()
    for watch in watches { watch.cancel() }
    watches = []
    if let port { supervisor.ended(port, end, because: end == .lost ? transportError : nil) }
    for completion in lookups.values { completion(.failure(.peerUnreachable)) }
    lookups = [:]
  }
}
