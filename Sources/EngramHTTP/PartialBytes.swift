import NIOCore
import NIOWebSocket

/// What one WebSocket has sent of a message that is not complete, wherever those bytes are: in the decoder,
/// or among the fragments. Beyond a small free part they are drawn from what all connections may hold
/// together.
///
/// Belongs to one event loop.
final class PartialBytes {
  private let budget: ByteBudget
  private var held = 0
  /// Of `held`, in frames that are complete while their message is not.
  private var inFragments = 0
  private var drawn = 0

  init(_ budget: ByteBudget) { self.budget = budget }

  deinit { budget.give(drawn) }

  /// False when all connections together hold too much.
  func add(_ count: Int) -> Bool {
    held += count
    let missing = held - HTTPLimits.partialBytesFree - drawn
    guard missing > 0 else { return true }
    let step = HTTPLimits.partialBytesStep
    let wanted = (missing + step - 1) / step * step
    guard budget.take(wanted) else { return false }
    drawn += wanted
    return true
  }

  /// A whole frame left the decoder.
  func took(_ frame: WebSocketFrame) {
    let count = Self.wireLength(frame)
    if frame.opcode.isControlOpcode {
      held -= count
    } else if frame.fin {
      held -= inFragments + count
      inFragments = 0
    } else {
      inFragments += count
    }
    // A header may be longer than it has to be; what is counted too much then is let go here.
    held = max(held, inFragments)
    guard drawn > 0, held <= HTTPLimits.partialBytesFree else { return }
    budget.give(drawn)
    drawn = 0
  }

  /// RFC 6455 section 5.2: two bytes, the extended length, the masking key, the payload.
  private static func wireLength(_ frame: WebSocketFrame) -> Int {
    let extended = frame.length < 126 ? 0 : frame.length <= 0xffff ? 2 : 8
    return 2 + extended + (frame.maskKey == nil ? 0 : 4) + frame.length
  }
}

/// This connection may hold no more of an unfinished message now.
struct PartialBytesExhausted: Error {}

/// Counts bytes before they reach the frame decoder, which keeps them until a frame is complete.
final class PartialBytesEntry: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let partial: PartialBytes
  private let metrics: HTTPMetrics
  private var isOver = false

  init(_ partial: PartialBytes, _ metrics: HTTPMetrics) { (self.partial, self.metrics) = (partial, metrics) }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    // The middle of a message is missing then: nothing behind it can be read.
    guard !isOver else { return }
    guard partial.add(unwrapInboundIn(data).readableBytes) else {
      isOver = true
      metrics.partialsRefused.add()
      return context.fireErrorCaught(PartialBytesExhausted())
    }
    context.fireChannelRead(data)
  }
}

/// Sees what the frame decoder lets go.
final class PartialBytesExit: ChannelInboundHandler {
  typealias InboundIn = WebSocketFrame

  private let partial: PartialBytes
  init(_ partial: PartialBytes) { self.partial = partial }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    partial.took(unwrapInboundIn(data))
    context.fireChannelRead(data)
  }
}
