import EngramCore
import EngramNode
import FoundationEssentials
import HTTPTypes
import Hummingbird
import HummingbirdCore
import NIOPosix

/// Subscriptions and members. `{topic}` is `orders.new@acme.example`, in subscriptions also a pattern; `@`,
/// `*` and `>` stand plainly or as `%40`, `%2A`, `%3E`.
func addTopicRoutes(to api: RouterGroup<APIContext>, _ edge: Edge) {
  let topics = api.group("topics")
  topics.get("subscriptions") { request, _ in
    let (session, _) = try edge.session(request.headers)
    let rows = try value(await edge.read { node throws(ErrorCode) in try node.subscriptions(session) })
    return response(.ok, .json, jsonBytes(SubscriptionsDocument(rows)))
  }
  topics.get(":topic/members") { request, context in
    _ = try edge.session(request.headers)
    let page = try PageQuery(request.uri, countMax: Limits.topicMembersPerPageMax)
    let topic = try topicAddress(context)
    let found = try value(await edge.topicMembers(topic, after: page.after))
    let cut = found.members.prefix(page.maxCount)
    let hasMore = found.hasMore || cut.count < found.members.count
    return response(.ok, .json, jsonBytes(MembersDocument(members: cut.map(\.text), hasMore: hasMore)))
  }
  func change(
    _ path: RouterPath, _ method: HTTPRequest.Method,
    _ carryOut:
      @escaping @Sendable (TopicAddress, ClientSession, @escaping @Sendable (ErrorCode) -> Void) -> Void
  ) {
    topics.on(path, method: method) { request, context in
      let (session, _) = try edge.session(request.headers)
      let topic = try topicAddress(context)
      let code = await withCheckedContinuation { continuation in
        carryOut(topic, session) { continuation.resume(returning: $0) }
      }
      guard code == .none else { throw Problem(code) }
      return Response(status: .noContent)
    }
  }
  let node = edge.node
  change(":topic/subscription", .put) { node.subscribe($0, $1, completion: $2) }
  change(":topic/subscription", .delete) { node.unsubscribe($0, $1, completion: $2) }
  change(":topic/retained", .put) { node.retain($0, keeps: true, $1, completion: $2) }
  change(":topic/retained", .delete) { node.retain($0, keeps: false, $1, completion: $2) }
}

/// Who is there. Every client of this node may ask; the list of all addresses is for those whom the operator
/// names.
func addPresenceRoutes(to api: RouterGroup<APIContext>, _ edge: Edge) {
  let node = edge.node
  api.get("agents") { request, _ in
    let (session, _) = try edge.session(request.headers)
    let page = try PageQuery(request.uri, countMax: HTTPLimits.agentsPerPageMax)
    let found = try value(
      await edge.read { node throws(ErrorCode) in
        try node.broadcastAddresses(after: page.after, maxCount: page.maxCount + 1, session)
      })
    return response(.ok, .json, jsonBytes(AddressesDocument(found, maxCount: page.maxCount)))
  }
  api.get("agents/active") { request, _ in
    _ = try edge.session(request.headers)
    let page = try PageQuery(request.uri, countMax: HTTPLimits.agentsPerPageMax)
    let found = node.activeAgents(after: page.after, maxCount: page.maxCount + 1)
    return response(.ok, .json, jsonBytes(AgentsDocument(found, maxCount: page.maxCount)))
  }
  api.get("agents/:id/status") { request, context in
    _ = try edge.session(request.headers)
    guard let address = context.parameters.get("id").flatMap({ address(inPath: $0) }) else {
      throw Problem(.notFound)
    }
    let presence = try value(await edge.read { node throws(ErrorCode) in try node.agentStatus(address) })
    return response(.ok, .json, jsonBytes(AgentDocument(presence)))
  }
  api.put("agents/:id/status") { request, context in
    let (session, _) = try edge.owner(request, context)
    try MediaType.json.require(in: request.headers)
    return try await edge.body(of: request, max: HTTPLimits.statusBytesMax) { bytes in
      let status = try StatusRequest(parsing: bytes)
      do throws(ErrorCode) { try node.declare(status.state, note: status.note, session) } catch {
        throw Problem(error)
      }
      return Response(status: .noContent)
    }
  }
}

extension Edge {
  /// A blocking read of the store, on the thread pool.
  func read<T: Sendable>(
    _ body: @escaping @Sendable (Node) throws(ErrorCode) -> T
  ) async -> Result<T, ErrorCode> {
    await withCheckedContinuation { continuation in
      blocking.submit { [node] state in
        guard state == .active else { return continuation.resume(returning: .failure(.shuttingDown)) }
        let result: Result<T, ErrorCode>
        do throws(ErrorCode) { result = .success(try body(node)) } catch { result = .failure(error) }
        continuation.resume(returning: result)
      }
    }
  }

  func topicMembers(_ topic: TopicAddress, after: Address?) async -> Result<TopicMembersPage, ErrorCode> {
    await withCheckedContinuation { continuation in
      blocking.submit { [node] state in
        guard state == .active else { return continuation.resume(returning: .failure(.shuttingDown)) }
        node.topicMembers(topic, after: after) { continuation.resume(returning: $0) }
      }
    }
  }
}

/// The query of a list by address: `after`, `max`. A number beyond its bound is lowered to it; anything else
/// is refused.
struct PageQuery: Equatable {
  var after: Address?
  var maxCount: Int

  init(_ uri: URI, countMax: Int) throws(Problem) {
    maxCount = countMax
    for (name, text) in uri.queryParameters {
      switch name {
      case "after":
        guard let address = address(inPath: text) else { throw Problem(.nonCanonical) }
        after = address
      case "max": maxCount = try queryCount(text, max: countMax)
      default: throw Problem(.malformed)
      }
    }
  }
}

/// The `{topic}` of the path.
private func topicAddress(_ context: APIContext) throws(Problem) -> TopicAddress {
  guard let text = context.parameters.get("topic").flatMap({ plainTopic($0) }) else {
    throw Problem(.topicInvalid)
  }
  do throws(CodecError) { return try TopicAddress(text) } catch { throw Problem(.topicInvalid) }
}

/// Only the three characters that some client libraries escape; anything else escaped is not ours.
private func plainTopic(_ segment: some StringProtocol) -> String? {
  let escapes = ["%40": "@", "%2A": "*", "%2a": "*", "%3E": ">", "%3e": ">"]
  var text = String(segment)
  for (escape, plain) in escapes { text = text.replacing(escape, with: plain) }
  return text.contains("%") || text.hasPrefix("#") ? nil : text
}
