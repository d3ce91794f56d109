internal import NIOCore
internal import NIOWebSocket

/// The client's end of an open WebSocket: joins messages, answers control frames, notices silence.
final class WebSocketHandler: ChannelDuplexHandler {
  typealias InboundIn = WebSocketFrame
  typealias OutboundIn = WebSocketFrame
  typealias OutboundOut = WebSocketFrame

  private enum Phase {
    case open
    /// Our close frame is sent; data may still come until the peer's.
    case closing
    case ended
  }

  private let delivery: WebSocketDelivery
  private let inbox: Inbox
  private let limits: WireLimits
  private let endPromise: EventLoopPromise<WebSocketEnd>
  private var phase = Phase.open
  private var assembly: MessageAssembly
  /// The inbox is full: reads of the channel wait.
  private var isPaused = false
  private var readWaits = false
  private var isSilent = false
  private var pings: Scheduled<Void>?
  private var deadline: Scheduled<Void>?
  private var context: ChannelHandlerContext?

  var ended: EventLoopFuture<WebSocketEnd> { endPromise.futureResult }

  init(
    delivery: WebSocketDelivery, inbox: Inbox, limits: WireLimits, ended: EventLoopPromise<WebSocketEnd>
  ) {
    self.delivery = delivery
    self.inbox = inbox
    self.limits = limits
    self.endPromise = ended
    self.assembly = MessageAssembly(bytesMax: limits.messageBytesMax)
    if case .callback = delivery { inbox.finish() }
  }

  /// A frame as clients must send it: masked (RFC 6455 section 5.3).
  static func frame(_ opcode: WebSocketOpcode, _ bytes: ByteBuffer) -> WebSocketFrame {
    WebSocketFrame(fin: true, opcode: opcode, maskKey: .random(), data: bytes)
  }

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    awaitSilence(context)
    let resumption = NIOLoopBound(self, eventLoop: context.eventLoop)
    inbox.onDemand { [loop = context.eventLoop] in loop.execute { resumption.value.resumeReading() } }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish(.failed(.closed))
    self.context = nil
  }

  // MARK: - Input

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard phase != .ended else { return }
    isSilent = false
    switch assembly.take(unwrapInboundIn(data)) {
    case .closing(let code, let reason): peerCloses(context, code, reason)
    case .failed(let error): abort(context, error)
    case .message(let bytes): deliver(bytes)
    case .ping(let bytes): context.writeAndFlush(wrapOutboundOut(Self.frame(.pong, bytes)), promise: nil)
    case .nothing: break
    }
  }

  private func deliver(_ bytes: ByteBuffer) {
    switch delivery {
    case .callback(let receive): receive(bytes)
    case .stream: isPaused = !inbox.offer(Array(bytes.readableBytesView))
    }
  }

  func read(context: ChannelHandlerContext) {
    if isPaused { readWaits = true } else { context.read() }
  }

  private func resumeReading() {
    isPaused = false
    guard readWaits else { return }
    readWaits = false
    context?.read()
  }

  private func awaitSilence(_ context: ChannelHandlerContext) {
    let interval = TimeAmount(limits.pingInterval)
    pings = context.eventLoop.assumeIsolated().scheduleTask(in: interval) { [self] in
      guard phase == .open else { return }
      if isSilent && !isPaused { return abort(context, .timeout) }
      isSilent = true
      context.writeAndFlush(wrapOutboundOut(Self.frame(.ping, ByteBuffer())), promise: nil)
      awaitSilence(context)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if case NIOWebSocketError.invalidFrameLength? = error as? NIOWebSocketError {
      abort(context, .tooLarge(limitBytes: limits.messageBytesMax))
    } else {
      abort(context, WireError(error))
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(.failed(.closed))
    context.fireChannelInactive()
  }

  // MARK: - Closing

  func startClosing(code: UInt16, reason: String) {
    guard phase == .open, let context else { return }
    phase = .closing
    sendClose(context, code: code, reason: reason)
    // Whoever closes stops reading messages, but the peer's close frame must get through.
    resumeReading()
    deadline = context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(limits.closeTimeout)) {
      [self] in
      abort(context, .timeout)
    }
  }

  private func peerCloses(_ context: ChannelHandlerContext, _ code: UInt16?, _ reason: String) {
    if phase == .open { sendClose(context, code: code, reason: "") }
    // 1005 is never sent: it stands for a close frame without a code.
    finish(.closed(code: code ?? 1005, reason: reason))
    context.close(promise: nil)
  }

  private func sendClose(_ context: ChannelHandlerContext, code: UInt16?, reason: String) {
    var payload = ByteBuffer()
    if let code {
      payload.writeInteger(code)
      payload.writeString(MessageAssembly.closeReason(reason))
    }
    context.writeAndFlush(wrapOutboundOut(Self.frame(.connectionClose, payload)), promise: nil)
  }

  private func abort(_ context: ChannelHandlerContext, _ error: WireError) {
    guard phase != .ended else { return }
    if let code = error.closeCode, phase == .open { sendClose(context, code: code, reason: "") }
    finish(.failed(error))
    context.close(promise: nil)
  }

  private func finish(_ end: WebSocketEnd) {
    guard phase != .ended else { return }
    phase = .ended
    pings?.cancel()
    deadline?.cancel()
    inbox.finish()
    endPromise.succeed(end)
  }
}

extension WireError {
  /// What the peer is told, where it is at fault: RFC 6455 section 7.4.1.
  fileprivate var closeCode: UInt16? {
    switch self {
    case .protocolViolation: 1002
    case .tooLarge: 1009
    case .cancelled, .closed, .invalidRequest, .overloaded, .refused, .timeout, .tls, .tlsSetup, .unreachable:
      nil
    }
  }
}

/// Makes messages of frames, RFC 6455 sections 5.4 to 5.6.
struct MessageAssembly {
  enum Step {
    case closing(code: UInt16?, reason: String)
    case failed(WireError)
    case message(ByteBuffer)
    case nothing
    case ping(ByteBuffer)
  }

  let bytesMax: Int
  private var partial: ByteBuffer?

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  mutating func take(_ frame: WebSocketFrame) -> Step {
    // No extension was negotiated, and servers do not mask.
    guard !frame.rsv1 && !frame.rsv2 && !frame.rsv3 && frame.maskKey == nil else {
      return .failed(.protocolViolation)
    }
    switch frame.opcode {
    case .binary, .text:
      guard partial == nil else { return .failed(.protocolViolation) }
      return add(ByteBuffer(), frame)
    case .continuation:
      guard let begun = partial else { return .failed(.protocolViolation) }
      return add(begun, frame)
    case .connectionClose: return Self.close(frame.data)
    case .ping: return .ping(frame.data)
    case .pong: return .nothing
    default: return .failed(.protocolViolation)
    }
  }

  private mutating func add(_ begun: ByteBuffer, _ frame: WebSocketFrame) -> Step {
    partial = nil
    guard begun.readableBytes + frame.data.readableBytes <= bytesMax else {
      return .failed(.tooLarge(limitBytes: bytesMax))
    }
    if frame.fin && begun.readableBytes == 0 { return .message(frame.data) }
    var joined = begun
    joined.writeImmutableBuffer(frame.data)
    if frame.fin { return .message(joined) }
    partial = joined
    return .nothing
  }

  private static func close(_ payload: ByteBuffer) -> Step {
    var payload = payload
    if payload.readableBytes == 0 { return .closing(code: nil, reason: "") }
    guard let code = payload.readInteger(as: UInt16.self) else { return .failed(.protocolViolation) }
    return .closing(code: code, reason: payload.readString(length: payload.readableBytes) ?? "")
  }

  /// A control frame has at most 125 bytes, two of them for the code (RFC 6455 section 5.5).
  static func closeReason(_ reason: String) -> String {
    var end = reason.startIndex
    var bytes = 0
    while end < reason.endIndex, bytes + reason[end].utf8.count <= 123 {
      bytes += reason[end].utf8.count
      end = reason.index(after: end)
    }
    return String(reason[..<end])
  }
}
