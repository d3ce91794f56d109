import EngramCore
import NIOCore
import Synchronization

typealias QuestionCompletion = @Sendable (Result<[UInt8], ErrorCode>) -> Void

/// What is asked of a peer over its link and answered there.
enum LinkQuestion: Sendable {
  case directory(Address)
  case request(RequestKind, [UInt8])
}

/// A link as others see it: something to tell events, from any thread.
final class LinkPort: Sendable {
  /// Ours: whether we dialled.
  let role: LinkRole
  let channel: any Channel
  private let handler: NIOLoopBound<LinkHandler>
  private let inFlightCount = Atomic<Int>(0)

  /// On the channel's event loop.
  init(_ handler: LinkHandler, role: LinkRole, channel: any Channel) {
    (self.role, self.channel) = (role, channel)
    self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
  }

  /// Messages sent and not acknowledged, as of the last turn.
  var inFlight: Int {
    get { inFlightCount.load(ordering: .relaxed) }
    set { inFlightCount.store(newValue, ordering: .relaxed) }
  }

  func post(_ event: LinkEvent) {
    channel.eventLoop.execute { [handler] in handler.value.handle(event) }
  }

  func ask(_ question: LinkQuestion, _ completion: @escaping QuestionCompletion) {
    channel.eventLoop.execute { [handler] in handler.value.ask(question, completion) }
  }
}
