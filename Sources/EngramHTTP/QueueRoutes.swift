import EngramCore
import EngramNode
import FoundationEssentials
import HTTPTypes
import Hummingbird
import HummingbirdCore
import NIOCore
import NIOPosix

/// `GET` and `PUT …/queue`.
struct QueueDocument: Encodable {
  let mode: String
  let waiting: Int
  let held: Int
  let leased: Int
  let consumers: Int
  let changedMs: UInt64

  private enum CodingKeys: String, CodingKey {
    case mode, waiting, held, leased, consumers
    case changedMs = "changed_ms"
  }

  init(_ state: QueueState) {
    (mode, waiting, held) = (state.mode.name, state.waiting, state.held)
    (leased, consumers, changedMs) = (state.leased, state.consumers, state.changedMs)
  }
}

private struct QueueRequest: Decodable {
  let mode: String
}

/// Taking work and saying what became of it. Each route authenticates in its first line.
func addQueueRoutes(to agent: RouterGroup<APIContext>, _ edge: Edge) {
  agent.post("messages/settle") { request, context in
    let (session, _) = try edge.owner(request, context)
    try MediaType.settlements.require(in: request.headers)
    return try await edge.body(of: request, max: HTTPLimits.acksBytesMax) { bytes in
      let settlements = try decoded { () throws(CodecError) in try Settlement.decode(bytes[...]) }
      return outcomesResponse(await edge.settle(settlements, session), request)
    }
  }
  agent.delete("messages/:message") { request, context in
    let (session, _) = try edge.owner(request, context)
    guard let id = context.parameters.get("message").flatMap({ bytes(hex: $0) }).flatMap({ MessageID($0) })
    else { throw Problem(.notFound) }
    let outcome = await withCheckedContinuation { continuation in
      edge.node.cancel(id, session) { continuation.resume(returning: $0) }
    }
    guard outcome.outcome == .accepted else { throw Problem(outcome.code) }
    return Response(status: .noContent)
  }
  agent.get("queue") { request, context in
    let (session, _) = try edge.owner(request, context)
    return response(.ok, .json, jsonBytes(QueueDocument(try value(await edge.queueState(session)))))
  }
  agent.put("queue") { request, context in
    let (session, _) = try edge.owner(request, context)
    try MediaType.json.require(in: request.headers)
    return try await edge.body(of: request, max: HTTPLimits.queueBodyBytesMax) { bytes in
      guard let wanted = try? JSONDecoder().decode(QueueRequest.self, from: Data(bytes)),
        let mode = QueueMode(name: wanted.mode)
      else { throw Problem(.malformed, hint: #"send {"mode":"one"} or {"mode":"each"}"#) }
      let code = await withCheckedContinuation { continuation in
        edge.node.setQueueMode(mode, session) { continuation.resume(returning: $0) }
      }
      guard code == .none else { throw Problem(code) }
      return response(.ok, .json, jsonBytes(QueueDocument(try value(await edge.queueState(session)))))
    }
  }
}

extension Edge {
  /// Runs a blocking read of the node on the thread pool.
  func reading<T: Sendable>(_ body: @escaping @Sendable () throws(ErrorCode) -> T) async -> Result<
    T, ErrorCode
  > {
    await withCheckedContinuation { continuation in
      blocking.submit { state in
        guard state == .active else { return continuation.resume(returning: .failure(.shuttingDown)) }
        let result: Result<T, ErrorCode>
        do throws(ErrorCode) { result = .success(try body()) } catch { result = .failure(error) }
        continuation.resume(returning: result)
      }
    }
  }

  func queueState(_ session: ClientSession) async -> Result<QueueState, ErrorCode> {
    await reading { [node] () throws(ErrorCode) in try node.queueState(session) }
  }

  /// Leases for a poll, senders' certificates included.
  func lease(
    _ session: ClientSession, maxCount: Int, seconds: Int
  ) async -> Result<[MailboxItem], ErrorCode> {
    let request = LeaseRequest(
      maxCount: maxCount, maxBytes: HTTPLimits.itemsBytesMax, visibilityMs: UInt64(seconds) * 1_000)
    return await reading { [node] () throws(ErrorCode) in
      var known = KnownSenders()
      return try node.lease(session, request, knownSenders: &known)
    }
  }

  /// On the thread pool: a settlement with a receipt costs a signature check.
  func settle(_ settlements: [Settlement], _ session: ClientSession) async -> [ItemOutcome] {
    await withCheckedContinuation { continuation in
      blocking.submit { [node] state in
        guard state == .active else {
          return continuation.resume(
            returning: settlements.map { _ in ItemOutcome(.later, code: .shuttingDown) })
        }
        node.settle(settlements, session) { continuation.resume(returning: $0) }
      }
    }
  }
}
