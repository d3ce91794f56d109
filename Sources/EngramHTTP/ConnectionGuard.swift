import EngramCore
import HTTPTypes
import NIOCore
import NIOHTTP1

/// Keeps one HTTP/1.1 connection within its bounds: deadlines for header and body, size of a body, what
/// cannot be parsed, and the end of the connection after a last response. Sits between the HTTP codec and
/// whoever answers.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  struct Timeouts {
    var firstRequest: TimeAmount
    var keepAlive: TimeAmount
    var body: TimeAmount
  }

  private let timeouts: Timeouts
  private let metrics: HTTPMetrics
  private var course: ConnectionCourse
  private var timer: Scheduled<Void>?
  /// We gave up: nothing that comes in or goes out counts any more.
  private var isOver = false

  init(timeouts: Timeouts, bodyBytesMax: Int, metrics: HTTPMetrics) {
    (self.timeouts, self.metrics) = (timeouts, metrics)
    course = ConnectionCourse(bodyBytesMax: bodyBytesMax)
  }

  func handlerAdded(context: ChannelHandlerContext) { arm(.firstRequest, context) }

  func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    isOver = true
    context.fireChannelInactive()
  }

  // MARK: - Requests

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isOver else { return }
    switch unwrapInboundIn(data) {
    case .head(let head):
      // After a request to upgrade the parser takes what follows for the other protocol.
      let isLast = !head.isKeepAlive || head.headers.contains(name: "upgrade") || head.method == .CONNECT
      follow(course.requestHead(isLast: isLast), .tooLarge, context)
      if expectsContinue(head) {
        context.writeAndFlush(
          wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .continue))), promise: nil)
      }
    case .body(let bytes):
      follow(course.requestBody(bytes.readableBytes), .tooLarge, context)
    case .end:
      timer?.cancel()
      if let deadline = course.requestEnd() { arm(deadline, context) }
    }
    if !isOver { context.fireChannelRead(data) }
  }

  /// RFC 9110 section 10.1.1. A body that is too large anyway is not asked for.
  private func expectsContinue(_ head: HTTPRequestHead) -> Bool {
    guard head.version == .http1_1, head.headers.first(name: "expect")?.lowercased() == "100-continue" else {
      return false
    }
    return head.headers.first(name: "content-length").flatMap { Int($0) }.map {
      $0 <= HTTPLimits.batchBytesMax
    }
      ?? true
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard let error = error as? HTTPParserError else { return context.fireErrorCaught(error) }
    let isHeader = error == .headerOverflow
    let problem = isHeader ? Problem(.tooLarge, status: .requestHeaderFieldsTooLarge) : Problem(.malformed)
    refuse(problem, context)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard event is ChannelShouldQuiesceEvent else { return context.fireUserInboundEventTriggered(event) }
    follow(course.quiesce(), .shuttingDown, context)
  }

  // MARK: - Responses

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    guard !isOver else {
      promise?.fail(ChannelError.ioOnClosedChannel)
      return
    }
    switch unwrapOutboundIn(data) {
    case .head(var head) where head.status.code >= 200:
      course.responseHead(
        saysClose: head.headers[canonicalForm: "connection"].contains { $0.lowercased() == "close" })
      if course.isLast { head.headers.replaceOrAdd(name: "connection", value: "close") }
      context.write(wrapOutboundOut(.head(head)), promise: promise)
    case .end:
      context.write(data, promise: promise)
      follow(course.responseEnd(), .none, context)
    case .head, .body: context.write(data, promise: promise)
    }
  }

  // MARK: - Ends

  private func follow(_ step: ConnectionCourse.Step, _ code: ErrorCode, _ context: ChannelHandlerContext) {
    switch step {
    case .none: break
    case .arm(let deadline): arm(deadline, context)
    case .close:
      isOver = true
      timer?.cancel()
      context.flush()
      context.close(promise: nil)
    case .refuse: refuse(Problem(code), context)
    }
  }

  private func arm(_ deadline: ConnectionCourse.Deadline, _ context: ChannelHandlerContext) {
    timer?.cancel()
    let timeout =
      switch deadline {
      case .body: timeouts.body
      case .firstRequest: timeouts.firstRequest
      case .keepAlive: timeouts.keepAlive
      }
    timer = context.eventLoop.assumeIsolated().scheduleTask(in: timeout) { [self] in
      guard !isOver else { return }
      metrics.timeouts.add()
      follow(course.reached(deadline), .idleTimeout, context)
    }
  }

  private func refuse(_ problem: Problem, _ context: ChannelHandlerContext) {
    guard !isOver else { return }
    isOver = true
    timer?.cancel()
    metrics.refusedRequests.add()
    if course.canAnswer { writeProblem(problem, context) }
    context.close(promise: nil)
  }

  private func writeProblem(_ problem: Problem, _ context: ChannelHandlerContext) {
    let body = ByteBuffer(bytes: problem.body)
    var head = HTTPResponseHead(version: .http1_1, status: .init(statusCode: problem.status.code))
    for field in problem.headers { head.headers.replaceOrAdd(name: field.name.rawName, value: field.value) }
    head.headers.replaceOrAdd(name: "content-length", value: "\(body.readableBytes)")
    head.headers.replaceOrAdd(name: "connection", value: "close")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
  }
}
