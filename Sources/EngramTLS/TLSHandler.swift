public import NIOCore
internal import NIOTLS

/// TLS 1.3 over a stream channel: ciphertext below, plaintext above.
///
/// Fires `TLSUserEvent.handshakeCompleted` once, from when on `connectionInfo` is there. Failures are fired
/// as `TLSError` before the channel closes. With `allowRemoteHalfClosure` the peer's `close_notify` is fired
/// as `ChannelEvent.inputClosed` and writing goes on; without it the channel closes.
public final class TLSHandler: ChannelDuplexHandler {
  public typealias InboundIn = ByteBuffer
  public typealias InboundOut = ByteBuffer
  public typealias OutboundIn = ByteBuffer
  public typealias OutboundOut = ByteBuffer

  private enum Phase {
    case waiting
    case handshaking
    case open
    /// Our last record is sent; input is awaited only to let the peer read it before TCP resets.
    case closing
    case closed
  }

  private enum OutputClosure {
    case none
    /// Asked for before the handshake was over.
    case requested(EventLoopPromise<Void>?)
    case done
  }

  private let session: TLSSession
  private let limits: TLSLimits
  private var phase = Phase.waiting
  private var pending = PendingWrites()
  private var outputClosure = OutputClosure.none
  /// The peer's `close_notify` was read.
  private var inputEnded = false
  /// A `read()` from above has not been answered with plaintext yet.
  private var readOutstanding = false
  /// Between the first `channelRead` and the end of `channelReadComplete`.
  private var inReadBurst = false
  private var sealScheduled = false
  private var closePromise: EventLoopPromise<Void>?
  private var deadline: Scheduled<Void>?

  /// What the handshake established; `nil` until it is over. Read it on the channel's event loop.
  public private(set) var connectionInfo: TLSConnectionInfo?

  /// A client gives the name or address that the server must prove; a name is also sent as SNI.
  public init(
    context: TLSContext, serverName: String? = nil, limits: TLSLimits = TLSLimits()
  ) throws(TLSError) {
    self.session = try TLSSession(context: context, serverName: serverName)
    self.limits = limits
  }

  /// Keying material that only the two ends of this very connection can compute (RFC 8446 section 7.5, empty
  /// context). On the channel's event loop, after the handshake.
  public func exporter(label: String, length: Int) throws(TLSError) -> [UInt8] {
    guard connectionInfo != nil, let material = session.exporter(label: label, length: length) else {
      throw .internalFailure
    }
    return material
  }

  // MARK: - Life cycle

  public func handlerAdded(context: ChannelHandlerContext) {
    if context.channel.isActive { start(context) }
  }

  public func handlerRemoved(context: ChannelHandlerContext) {
    deadline?.cancel()
    failPromises(ChannelError.ioOnClosedChannel)
  }

  public func channelActive(context: ChannelHandlerContext) {
    start(context)
    context.fireChannelActive()
  }

  public func channelInactive(context: ChannelHandlerContext) {
    let before = phase
    phase = .closed
    deadline?.cancel()
    closePromise?.succeed(())
    closePromise = nil
    failPromises(ChannelError.ioOnClosedChannel)
    switch before {
    case .waiting, .handshaking: context.fireErrorCaught(TLSError.closedDuringHandshake)
    case .open where !inputEnded: context.fireErrorCaught(TLSError.truncated)
    case .open, .closing, .closed: break
    }
    context.fireChannelInactive()
  }

  private func start(_ context: ChannelHandlerContext) {
    guard phase == .waiting else { return }
    phase = .handshaking
    setDeadline(context, limits.handshakeTimeout)
    if session.context.configuration.role == .client { advanceHandshake(context) }
    if phase == .handshaking { context.read() }
  }

  private func setDeadline(_ context: ChannelHandlerContext, _ timeout: TimeAmount) {
    deadline?.cancel()
    deadline = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [self] in
      switch phase {
      case .handshaking: fail(context, .handshakeTimedOut)
      case .closing: finish(context)
      case .waiting, .open, .closed: break
      }
    }
  }

  // MARK: - Handshake

  private func advanceHandshake(_ context: ChannelHandlerContext) {
    switch session.handshake() {
    case .done:
      sendCiphertext(context, promise: nil)
      completeHandshake(context)
    case .failed: fail(context, session.handshakeFailure())
    case .needsInput: sendCiphertext(context, promise: nil)
    }
  }

  private func completeHandshake(_ context: ChannelHandlerContext) {
    deadline?.cancel()
    deadline = nil
    guard let info = session.connectionInfo() else {
      session.sendCloseNotify()
      return fail(context, .noApplicationProtocol)
    }
    phase = .open
    connectionInfo = info
    context.fireUserInboundEventTriggered(
      TLSUserEvent.handshakeCompleted(negotiatedProtocol: info.applicationProtocol))
    // From here on anything may have happened inside the event: every step looks at the phase again.
    if phase == .open { sealFlushed(context) }
    if phase == .open, case .requested(let promise) = outputClosure { closeOutput(context, promise) }
  }

  // MARK: - Input

  public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data)
    inReadBurst = true
    // Nothing after close_notify counts (RFC 8446 section 6.1), nor after we gave the connection up.
    guard !inputEnded && session.alertSent == nil else { return }
    switch phase {
    case .waiting, .closed: return
    case .handshaking:
      session.transport.receive(bytes)
      advanceHandshake(context)
      if phase == .open { decrypt(context) }
    case .open, .closing:
      session.transport.receive(bytes)
      decrypt(context)
    }
  }

  private func decrypt(_ context: ChannelHandlerContext) {
    var plaintext = context.channel.allocator.buffer(capacity: session.transport.inbound.readableBytes)
    let step = session.read(into: &plaintext)
    if step == .ended { inputEnded = true }
    sendCiphertext(context, promise: nil)  // an answer to KeyUpdate
    if plaintext.readableBytes > 0 && phase == .open {
      readOutstanding = false
      context.fireChannelRead(wrapInboundOut(plaintext))
    }
    // The reader may have closed the channel, even reentered here, so the phase decides anew.
    switch (step, phase) {
    case (.needsInput, _), (_, .waiting), (_, .handshaking), (_, .closed): break
    case (.ended, .open): peerEnded(context)
    case (.failed, .open): fail(context, session.failure())
    case (.ended, .closing), (.failed, .closing): finish(context)
    }
  }

  private func peerEnded(_ context: ChannelHandlerContext) {
    let halfClosure = try? context.channel.syncOptions?.getOption(.allowRemoteHalfClosure)
    switch outputClosure {
    case .done: finish(context)
    case .none, .requested:
      if halfClosure == true {
        context.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
      } else {
        close(context: context, mode: .all, promise: nil)
      }
    }
  }

  public func channelReadComplete(context: ChannelHandlerContext) {
    session.transport.releaseInbound()
    switch phase {
    // Whoever reads by demand asked for plaintext: records that brought none must not end the demand.
    case .open where readOutstanding: context.read()
    case .handshaking, .closing: context.read()
    case .waiting, .open, .closed: break
    }
    context.fireChannelReadComplete()
    inReadBurst = false
    if phase == .open && pending.hasFlushed { sealFlushed(context) }
  }

  public func read(context: ChannelHandlerContext) {
    readOutstanding = true
    context.read()
  }

  /// TCP's end of stream. It proves nothing: only `close_notify` says that the peer sent all it wanted.
  public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard case ChannelEvent.inputClosed? = event as? ChannelEvent else {
      return context.fireUserInboundEventTriggered(event)
    }
    switch phase {
    case .waiting, .handshaking: fail(context, .closedDuringHandshake)
    case .open where !inputEnded: fail(context, .truncated)
    case .open, .closed: break
    case .closing: finish(context)
    }
  }

  // MARK: - Output

  public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let bytes = unwrapOutboundIn(data)
    switch (phase, outputClosure) {
    case (.closing, _), (.closed, _):
      promise?.fail(ChannelError.ioOnClosedChannel)
    case (_, .done), (_, .requested):
      promise?.fail(ChannelError.outputClosed)
    case (.open, .none):
      pending.append(bytes, promise: promise)
    case (.waiting, .none), (.handshaking, .none):
      pending.append(bytes, promise: promise)
      if pending.bytes > limits.pendingBytesMax {
        // Losing one write out of a stream would corrupt it, so the connection goes.
        fail(context, .pendingWritesTooLarge(limitBytes: limits.pendingBytesMax))
      }
    }
  }

  /// Sealing waits for the end of the burst (of reads, or of this turn of the event loop), at most until a
  /// record is full: a record per small write would cost about five times as much.
  public func flush(context: ChannelHandlerContext) {
    pending.markFlushed()
    guard phase == .open && pending.hasFlushed else { return context.flush() }
    if pending.flushedBytes >= TLSSizes.recordPayloadMax {
      sealFlushed(context)
    } else if !inReadBurst && !sealScheduled {
      sealScheduled = true
      context.eventLoop.assumeIsolated().execute { [self] in
        sealScheduled = false
        if phase == .open { sealFlushed(context) }
      }
    }
  }

  private func sealFlushed(_ context: ChannelHandlerContext) {
    while let (bytes, promise) = pending.next(allocator: context.channel.allocator) {
      guard seal(context, bytes, promise) else { return }
    }
    context.flush()
  }

  private func seal(
    _ context: ChannelHandlerContext, _ bytes: ByteBuffer, _ promise: EventLoopPromise<Void>?
  ) -> Bool {
    var rest = bytes
    repeat {
      let length = min(rest.readableBytes, TLSSizes.ciphertextChunk)
      guard let part = rest.readSlice(length: length), session.write(part) else {
        let error = session.failure()
        promise?.fail(error)
        fail(context, error)
        return false
      }
      let isLast = rest.readableBytes == 0
      context.write(wrapOutboundOut(session.transport.takeOutbound()), promise: isLast ? promise : nil)
    } while rest.readableBytes > 0
    return true
  }

  private func sendCiphertext(_ context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
    let bytes = session.transport.takeOutbound()
    guard bytes.readableBytes > 0 else { return }
    context.writeAndFlush(wrapOutboundOut(bytes), promise: promise)
  }

  // MARK: - Closing

  public func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    switch (mode, phase) {
    case (.input, _): promise?.fail(ChannelError.operationUnsupported)
    case (.output, .waiting), (.output, .handshaking):
      guard case .none = outputClosure else { promise?.fail(ChannelError.outputClosed); return }
      outputClosure = .requested(promise)
    case (.output, .open): closeOutput(context, promise)
    case (.output, .closing), (.output, .closed): promise?.fail(ChannelError.outputClosed)
    case (.all, .open):
      closePromise.setOrCascade(to: promise)
      sealFlushed(context)
      guard phase == .open else { return }
      if case .done = outputClosure {} else { session.sendCloseNotify() }
      phase = .closing
      sendCiphertext(context, promise: nil)
      failPromises(ChannelError.ioOnClosedChannel)
      if inputEnded { finish(context) } else { awaitPeer(context) }
    case (.all, .closing): closePromise.setOrCascade(to: promise)
    case (.all, .waiting), (.all, .handshaking), (.all, .closed):
      closePromise.setOrCascade(to: promise)
      finish(context)
    }
  }

  private func closeOutput(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
    if case .done = outputClosure { promise?.fail(ChannelError.outputClosed); return }
    sealFlushed(context)
    guard phase == .open else { promise?.fail(ChannelError.outputClosed); return }
    outputClosure = .done
    session.sendCloseNotify()
    sendCiphertext(context, promise: nil)
    if inputEnded {
      closePromise.setOrCascade(to: promise)
      finish(context)
    } else {
      context.close(mode: .output, promise: promise)
    }
  }

  private func awaitPeer(_ context: ChannelHandlerContext) {
    guard phase == .closing else { return }
    setDeadline(context, limits.shutdownTimeout)
    context.read()
  }

  private func finish(_ context: ChannelHandlerContext) {
    deadline?.cancel()
    deadline = nil
    phase = .closed
    failPromises(ChannelError.ioOnClosedChannel)
    let promise = closePromise
    closePromise = nil
    context.close(promise: promise)
  }

  /// Reports the error and closes. After an alert of ours TCP is only half closed until the peer had time to
  /// read it: closing with unread input would reset the connection and destroy the alert on its way.
  private func fail(_ context: ChannelHandlerContext, _ error: TLSError) {
    guard phase != .closing && phase != .closed else { return }
    let lingers = session.alertSent != nil && context.channel.isActive
    deadline?.cancel()
    deadline = nil
    phase = lingers ? .closing : .closed
    sendCiphertext(context, promise: nil)
    failPromises(error)
    context.fireErrorCaught(error)
    if lingers {
      context.close(mode: .output, promise: nil)
      awaitPeer(context)
    } else {
      context.close(promise: nil)
    }
  }

  private func failPromises(_ error: any Error) {
    let requested: EventLoopPromise<Void>? =
      if case .requested(let promise) = outputClosure { promise } else { nil }
    if case .requested = outputClosure { outputClosure = .none }
    for promise in pending.takeAll() { promise?.fail(error) }
    requested?.fail(error)
  }
}
