import EngramCore
import EngramCrypto
import EngramNode
import NIOCore
import NIOPosix
import NIOWebSocket

/// One `…/realtime` connection after the upgrade: sends and acknowledgements in, outcomes and pushed items
/// out (`RealtimeFrame`). The session was checked before the upgrade. The connection may outlive it: the node
/// says when the client is no longer welcome, and until then a second proof would show nothing that this one
/// did not.
final class RealtimeHandler: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = WebSocketFrame
  typealias OutboundIn = WebSocketFrame
  typealias OutboundOut = WebSocketFrame

  private let edge: Edge
  private let session: ClientSession
  private var context: ChannelHandlerContext?
  private var window = PushWindow()
  /// Set by `consume`: from then on envelopes come as leases, and the window pushes receipts only.
  private var feed: WorkFeed?
  private var assembly = MessageAssembly(
    bytesMax: HTTPLimits.batchBytesMax, fragmentsMax: HTTPLimits.fragmentsMax)
  private var line = SendLine<Verdicts>()
  private var known = KnownSenders()
  private var load = InFlight()
  private var watches: [Watch] = []
  private var heartbeat: Scheduled<Void>?
  private var missedPings = 0
  /// A close frame of ours is out; only the other side's is awaited.
  private var isClosing = false

  /// The client was disabled before the upgrade was through.
  private var endsAtOnce = false

  /// Watches the session from now on, so nothing that happens to it during the upgrade is missed.
  init(edge: Edge, session: ClientSession, loop: any EventLoop) {
    (self.edge, self.session) = (edge, session)
    let this = NIOLoopBound(self, eventLoop: loop)
    watches = [edge.node.watchSession(session) { loop.execute { this.value.sessionEnded() } }]
  }

  // MARK: - Life cycle

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    let loop = context.eventLoop
    let this = NIOLoopBound(self, eventLoop: loop)
    let bell = WorkBell(loop: loop) { this.value.workArrived() }
    watches.append(edge.node.followMailbox(session))
    watches.append(edge.node.watch(mailbox: session.mailbox) { bell.ring() })
    watches.append(edge.node.noteConnection(session))
    if endsAtOnce { return sessionEnded() }
    beat(after: HTTPLimits.pingInterval)
  }

  func handlerRemoved(context: ChannelHandlerContext) { release() }

  func channelInactive(context: ChannelHandlerContext) {
    release()
    context.fireChannelInactive()
  }

  private func release() {
    context = nil
    heartbeat?.cancel()
    for watch in watches { watch.cancel() }
    watches = []
    feed?.consumer?.cancel()
    feed = nil
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    switch event {
    case is ChannelShouldQuiesceEvent: end(.shuttingDown, .goingAway)
    case ChannelEvent.inputClosed as ChannelEvent: context.close(promise: nil)
    default: context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case NIOWebSocketError.invalidFrameLength: end(.tooLarge, .messageTooLarge)
    case is NIOWebSocketError: end(.malformed, .protocolError)
    // RFC 6455 has no "try again later" among its own codes; 1013 is registered with IANA for it.
    case is PartialBytesExhausted: end(.overloaded, .unknown(1013))
    default: context.close(promise: nil)
    }
  }

  // MARK: - In

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let frame = unwrapInboundIn(data)
    missedPings = 0
    edge.metrics.realtimeFramesIn.add()
    if frame.opcode == .connectionClose { return closeReceived(frame) }
    guard !isClosing else { return }
    // RFC 6455 sections 5.1 and 5.2: a client masks, and no extension was negotiated.
    guard frame.maskKey != nil, frame.reservedBits.isEmpty else { return end(.malformed, .protocolError) }
    switch frame.opcode {
    case .binary, .continuation: assemble(frame)
    case .ping: write(.pong, frame.payload)
    case .pong: break
    case .text: end(.unsupportedMedia, .unacceptableData)
    default: end(.unknownFrame, .protocolError)
    }
  }

  private func assemble(_ frame: WebSocketFrame) {
    switch assembly.add(frame) {
    case .incomplete: break
    case .message(let bytes): receive(Array(bytes.readableBytesView))
    case .violation(let close): end(close == .messageTooLarge ? .tooLarge : .malformed, close)
    }
  }

  private func receive(_ bytes: [UInt8]) {
    let frame: RealtimeFrame
    do throws(CodecError) { frame = try RealtimeFrame(parsing: bytes[...]) } catch {
      return end(error.code, .dataInconsistentWithMessage)
    }
    switch frame {
    case .send(let request, let envelopes): send(request, envelopes, bytes.count)
    case .ack(let request, let acks): acknowledge(request, acks, bytes.count)
    case .credit(let count):
      window.grant(count)
      push()
    case .consume(let request): consume(request)
    case .settle(let request, let settlements): settle(request, settlements, bytes.count)
    case .items, .outcomes, .problem: end(.unexpectedFrame, .protocolError)
    }
  }

  private func send(_ request: UInt32, _ envelopes: [ArraySlice<UInt8>], _ bytes: Int) {
    guard let context else { return }
    edge.metrics.envelopesIn.add(UInt64(envelopes.count))
    load.add(bytes)
    let ticket = line.add(request: request, bytes: bytes)
    let this = NIOLoopBound(self, eventLoop: context.eventLoop)
    edge.lanes.verify(envelopes, from: .client(session), on: context.eventLoop) { verdicts in
      this.value.verified(ticket, verdicts)
    }
  }

  private func verified(_ ticket: Int, _ verdicts: Verdicts) {
    let ready = line.finish(ticket, verdicts)
    guard let loop = context?.eventLoop else { return }
    let this = NIOLoopBound(self, eventLoop: loop)
    for send in ready {
      edge.node.accept(send.verdict, from: session) { outcomes in
        loop.execute { this.value.answer(send.request, outcomes, send.bytes) }
      }
    }
  }

  private func acknowledge(_ request: UInt32, _ acks: [MailboxAck], _ bytes: Int) {
    guard let loop = context?.eventLoop else { return }
    load.add(bytes)
    let this = NIOLoopBound(self, eventLoop: loop)
    // Each acknowledgement of an envelope costs a signature check, so not on the event loop.
    edge.blocking.submit { [node = edge.node, session] state in
      guard state == .active else { return }
      node.acknowledge(acks, session) { outcomes in
        loop.execute { this.value.answer(request, outcomes, bytes) }
      }
    }
  }

  private func settle(_ request: UInt32, _ settlements: [Settlement], _ bytes: Int) {
    guard let loop = context?.eventLoop else { return }
    load.add(bytes)
    let this = NIOLoopBound(self, eventLoop: loop)
    edge.blocking.submit { [node = edge.node, session] state in
      guard state == .active else { return }
      node.settle(settlements, session) { outcomes in
        loop.execute { this.value.answer(request, outcomes, bytes) }
      }
    }
  }

  private func answer(_ request: UInt32, _ outcomes: [ItemOutcome], _ bytes: Int) {
    load.remove(bytes)
    if !isClosing { write(.outcomes(request: request, outcomes)) }
    resumeReading()
  }

  // MARK: - Reading is held back while too much is in flight or the client does not read its answers

  func read(context: ChannelHandlerContext) {
    if load.isFull || !context.channel.isWritable && !isClosing {
      load.heldRead = true
    } else {
      context.read()
    }
  }

  private func resumeReading() {
    guard load.heldRead, let context, !load.isFull, context.channel.isWritable || isClosing else { return }
    load.heldRead = false
    context.read()
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    window.setWritable(context.channel.isWritable)
    feed?.setWritable(context.channel.isWritable)
    push()
    fetch()
    resumeReading()
    context.fireChannelWritabilityChanged()
  }

  // MARK: - Out

  private func workArrived() {
    window.noteWork()
    push()
  }

  /// Makes this connection a consumer, once.
  private func consume(_ request: ConsumeRequest) {
    guard let context, feed == nil else { return end(.wrongMode, .protocolError) }
    guard request.problem == .none else { return end(request.problem, .dataInconsistentWithMessage) }
    feed = WorkFeed(isWritable: context.channel.isWritable)
    let loop = context.eventLoop
    let this = NIOLoopBound(self, eventLoop: loop)
    let bell = WorkBell(loop: loop) { this.value.fetchArrived() }
    edge.blocking.submit { [node = edge.node, session] state in
      guard state == .active else { return }
      let result: Result<Consumer, ErrorCode>
      do throws(ErrorCode) {
        result = .success(try node.consume(session, request) { bell.ring() })
      } catch { result = .failure(error) }
      loop.execute { this.value.consuming(result) }
    }
  }

  private func consuming(_ result: Result<Consumer, ErrorCode>) {
    switch result {
    // The connection may have ended meanwhile; what nobody keeps goes back by itself.
    case .success(let consumer):
      feed?.begin(consumer)
      fetch()
    case .failure(let code): end(code, .unexpectedServerError)
    }
  }

  private func fetchArrived() {
    feed?.noteWork()
    fetch()
  }

  private func fetch() {
    guard !isClosing, let loop = context?.eventLoop, let consumer = feed?.nextFetch() else { return }
    let this = NIOLoopBound(self, eventLoop: loop)
    edge.blocking.submit { [known] state in
      guard state == .active else { return }
      let found = fetchWork(consumer, known: known)
      loop.execute { this.value.finishFetch(found) }
    }
  }

  private func finishFetch(_ found: Result<FetchedWork, ErrorCode>) {
    switch found {
    case .success(let found):
      feed?.finishFetch(foundSome: found.count > 0)
      known = known.count <= HTTPLimits.knownSendersMax ? known.union(found.known) : KnownSenders()
      if !isClosing, found.count > 0 {
        edge.metrics.realtimeItemsOut.add(UInt64(found.count))
        write(.binary, found.frame)
      }
      fetch()
    case .failure(let code): end(code, .unexpectedServerError)
    }
  }

  private func push() {
    guard !isClosing, let loop = context?.eventLoop, let read = window.nextRead() else { return }
    // What was only just committed is in memory; everything else costs a query on another thread.
    let fresh = edge.node.freshItems(
      session, after: read.after, maxCount: read.maxCount, maxBytes: HTTPLimits.itemsBytesMax,
      knownSenders: known, noticesOnly: feed != nil)
    if let fresh { return finishRead(.success(FoundItems(fresh, known: known))) }
    let this = NIOLoopBound(self, eventLoop: loop)
    edge.blocking.submit { [node = edge.node, session, known, noticesOnly = feed != nil] state in
      guard state == .active else { return }
      let found = readItems(node, session, read, known, noticesOnly: noticesOnly)
      loop.execute { this.value.finishRead(found) }
    }
  }

  private func finishRead(_ found: Result<FoundItems, ErrorCode>) {
    switch found {
    case .success(let found):
      window.finishRead(found.items)
      known = known.count <= HTTPLimits.knownSendersMax ? known.union(found.known) : KnownSenders()
      guard !isClosing, !found.items.isEmpty else { return push() }
      edge.metrics.realtimeItemsOut.add(UInt64(found.items.count))
      write(.binary, found.frame)
      push()
    case .failure(let code): end(code, .unexpectedServerError)
    }
  }

  private func write(_ frame: RealtimeFrame) { write(.binary, ByteBuffer(bytes: frame.encoded())) }

  private func write(_ opcode: WebSocketOpcode, _ data: ByteBuffer) {
    context?.writeAndFlush(
      wrapOutboundOut(WebSocketFrame(fin: true, opcode: opcode, data: data)), promise: nil)
  }

  // MARK: - Staying alive

  private func beat(after delay: TimeAmount) {
    guard let context else { return }
    heartbeat = context.eventLoop.assumeIsolated().scheduleTask(in: delay) { [self] in
      guard !isClosing else { return }
      guard missedPings < HTTPLimits.pingsMissedMax else { return end(.idleTimeout, .unknown(4408)) }
      missedPings += 1
      write(.ping, ByteBuffer())
      beat(after: HTTPLimits.pingInterval)
    }
  }

  // MARK: - The end

  /// The client was disabled.
  private func sessionEnded() {
    endsAtOnce = true
    end(.sessionExpired, .unknown(4401))
  }

  /// The connection ended before it was upgraded.
  func abandon() { release() }

  private func end(_ code: ErrorCode, _ close: WebSocketErrorCode) {
    guard !isClosing, let context else { return }
    isClosing = true
    edge.metrics.realtimeClosedByUs.add()
    write(.problem(code))
    var reason = ByteBuffer()
    reason.write(webSocketErrorCode: close)
    write(.connectionClose, reason)
    heartbeat?.cancel()
    heartbeat = context.eventLoop.assumeIsolated().scheduleTask(in: HTTPLimits.closeTimeout) { [self] in
      self.context?.close(promise: nil)
    }
    resumeReading()
  }

  private func closeReceived(_ frame: WebSocketFrame) {
    if !isClosing {
      isClosing = true
      var data = frame.payload
      write(.connectionClose, data.readSlice(length: 2) ?? ByteBuffer())
    }
    context?.close(promise: nil)
  }
}

/// What one connection has handed in and not been answered yet.
private struct InFlight {
  private var requests = 0
  private var bytes = 0
  /// A read that waits for room.
  var heldRead = false

  var isFull: Bool { requests >= HTTPLimits.realtimeRequestsMax || bytes >= HTTPLimits.realtimeBytesMax }

  mutating func add(_ count: Int) {
    requests += 1
    bytes += count
  }

  mutating func remove(_ count: Int) {
    requests -= 1
    bytes -= count
  }
}

private struct FoundItems: Sendable {
  let items: [MailboxItem]
  let known: KnownSenders
  /// The encoded `RealtimeFrame.items`, made by whoever found them.
  let frame: ByteBuffer

  init(_ items: [MailboxItem], known: KnownSenders) {
    (self.items, self.known) = (items, known)
    frame = items.isEmpty ? ByteBuffer() : ByteBuffer(bytes: RealtimeFrame.items(items).encoded())
  }
}

private func readItems(
  _ node: Node, _ session: ClientSession, _ read: PushWindow.Read, _ known: KnownSenders, noticesOnly: Bool
) -> Result<FoundItems, ErrorCode> {
  var known = known
  do throws(ErrorCode) {
    let items = try node.items(
      session, after: read.after, maxCount: read.maxCount, maxBytes: HTTPLimits.itemsBytesMax,
      knownSenders: &known, noticesOnly: noticesOnly)
    return .success(FoundItems(items, known: known))
  } catch { return .failure(error) }
}
