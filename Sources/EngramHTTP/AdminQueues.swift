import EngramCore
import EngramNode
import HTTPTypes
import Hummingbird
import HummingbirdCore
import NIOPosix

/// An element of `GET /admin/v1/queues`.
struct QueueSummaryDocument: Encodable {
  let mailbox: Int64
  let kind: String
  let owner: String
  let waiting: Int
  let held: Int
  let leased: Int
  let consumers: Int

  init(_ queue: QueueSummary) {
    (mailbox, kind, owner) = (queue.mailbox, queue.kind, queue.owner)
    (waiting, held, leased, consumers) = (queue.waiting, queue.held, queue.leased, queue.consumers)
  }
}

/// An element of `GET /admin/v1/queues/{mailbox}`, and `GET /admin/v1/queues/{mailbox}/{seq}` whole.
struct WaitingDocument: Encodable {
  struct Failure: Encodable {
    let attempt: UInt32
    let atMs: UInt64
    let code: UInt16
    let name: String
    let device: String?

    private enum CodingKeys: String, CodingKey {
      case attempt, code, name, device
      case atMs = "at_ms"
    }
  }

  let mailbox: Int64
  let seq: UInt64
  let envelope: String
  let sender: String
  let type: String
  let priority: UInt8
  let state: String
  let createdMs: UInt64
  let expiresMs: UInt64
  let heldUntilMs: UInt64
  let attempt: UInt32
  let history: [Failure]
  let recipients: [String]
  let bytes: Int

  init(_ waiting: WaitingSummary) {
    (mailbox, seq, envelope) = (waiting.mailbox, waiting.seq, "\(waiting.envelope)")
    (sender, type, priority) = (waiting.sender.text, waiting.type.name, waiting.priority.rawValue)
    (state, createdMs, expiresMs) = (waiting.state, waiting.createdMs, waiting.expiresMs)
    (heldUntilMs, attempt, bytes) = (waiting.heldUntilMs, waiting.attempt, waiting.bytes)
    history = waiting.history.map {
      Failure(
        attempt: $0.attempt, atMs: $0.atMs, code: $0.code.rawValue, name: $0.code.name,
        device: $0.kid.map { "\($0)" })
    }
    recipients = waiting.recipients.map(\.text)
  }

  private enum CodingKeys: String, CodingKey {
    case mailbox, seq, envelope, sender, type, priority, state, attempt, history, recipients, bytes
    case createdMs = "created_ms"
    case expiresMs = "expires_ms"
    case heldUntilMs = "held_until_ms"
  }
}

/// `GET /admin/v1/clock`.
struct ClockDocument: Encodable {
  let nowMs: UInt64
  /// How far the machine's clock has jumped away; null when it has not.
  let jumpMs: Int64?

  private enum CodingKeys: String, CodingKey {
    case nowMs = "now_ms"
    case jumpMs = "jump_ms"
  }
}

/// Queues, dead letters and the clock. The node's reads and commits block, so they go to the thread pool.
func addQueueAdministration(to admin: RouterGroup<BasicRequestContext>, _ node: Node) {
  admin.get("queues") { _, _ in
    let queues = try await blocking { () throws(ErrorCode) in try node.queues() }
    return response(.ok, .json, jsonBytes(["queues": queues.map(QueueSummaryDocument.init)]))
  }
  admin.get("queues/:mailbox") { request, context in
    let mailbox: Int64 = try number("mailbox", context)
    let page = try QueuePage(request.uri)
    let waiting = try await blocking { () throws(ErrorCode) in
      try node.waiting(in: mailbox, after: page.after, maxCount: page.maxCount)
    }
    return response(.ok, .json, jsonBytes(["messages": waiting.map(WaitingDocument.init)]))
  }
  admin.get("queues/:mailbox/:seq") { _, context in
    let (mailbox, seq): (Int64, UInt64) = (try number("mailbox", context), try number("seq", context))
    let waiting = try await blocking { () throws(ErrorCode) in try node.inspect(mailbox, seq: seq) }
    return response(.ok, .json, jsonBytes(WaitingDocument(waiting)))
  }
  admin.post("queues/:mailbox/:seq/requeue") { _, context in
    let (mailbox, seq): (Int64, UInt64) = (try number("mailbox", context), try number("seq", context))
    try await blocking { () throws(ErrorCode) in try node.requeue(mailbox, seq: seq) }
    return Response(status: .noContent)
  }
  admin.delete("queues/:mailbox/:seq") { _, context in
    let (mailbox, seq): (Int64, UInt64) = (try number("mailbox", context), try number("seq", context))
    try await blocking { () throws(ErrorCode) in try node.drop(mailbox, seq: seq) }
    return Response(status: .noContent)
  }
  admin.get("clock") { _, _ in
    response(.ok, .json, jsonBytes(ClockDocument(nowMs: node.clock.nowMs(), jumpMs: node.clock.jumpMs)))
  }
  admin.post("clock/accept") { _, _ in
    node.acceptClock()
    return response(.ok, .json, jsonBytes(ClockDocument(nowMs: node.clock.nowMs(), jumpMs: nil)))
  }
}

/// What of a mailbox is asked for: behind which message, and how many.
private struct QueuePage {
  var after: UInt64 = 0
  var maxCount = 100

  init(_ uri: URI) throws(Problem) {
    for (name, text) in uri.queryParameters {
      switch name {
      case "after": after = try queryNumber(text)
      case "max": maxCount = try queryCount(text, max: HTTPLimits.queuePageMax)
      default: throw Problem(.malformed)
      }
    }
  }
}

private func number<T: FixedWidthInteger>(
  _ name: String, _ context: BasicRequestContext
) throws(Problem) -> T {
  guard let number = context.parameters.get(name).flatMap({ T($0) }) else { throw Problem(.notFound) }
  return number
}

@discardableResult
private func blocking<T: Sendable>(_ body: @escaping @Sendable () throws(ErrorCode) -> T) async throws -> T {
  let result: Result<T, ErrorCode> = try await NIOThreadPool.singleton.runIfActive {
    do throws(ErrorCode) { return .success(try body()) } catch { return .failure(error) }
  }
  return try value(result)
}
