import EngramCore
import EngramNode
import HTTPTypes
import Hummingbird
import HummingbirdCore

/// Every route of the public port. Each authenticates in its first line, or says why it need not.
func apiRouter(_ edge: Edge) -> Router<APIContext> {
  let router = Router(context: APIContext.self)
  router.add(middleware: AnswerMiddleware(metrics: edge.metrics, log: edge.log))
  addOpenRoutes(to: router, edge)
  let api = router.group("api/v1")
  addIdentityRoutes(to: api, edge)
  addTopicRoutes(to: api, edge)
  addPresenceRoutes(to: api, edge)
  addTemplateRoutes(to: api, edge)
  let agent = api.group("agents/:id")
  addKeyRoutes(to: agent, edge)
  addDeviceRoutes(to: agent, edge)
  addMessageRoutes(to: agent, edge)
  addQueueRoutes(to: agent, edge)
  return router
}

/// Without authentication: what load balancers, monitoring and new clients need to know. Figures, and why the
/// node is not ready, are for those to whom the operator opened `/metrics`.
private func addOpenRoutes(to router: Router<APIContext>, _ edge: Edge) {
  router.get("healthz") { _, _ in response(.ok, .text, Array("ok\n".utf8)) }
  let access = edge.settings.metrics
  router.get("readyz") { _, context in
    guard !edge.isReady else { return response(.ok, .text, Array("ready\n".utf8)) }
    guard access.admits(context.remoteAddress) else {
      return response(.serviceUnavailable, .text, Array("not ready\n".utf8))
    }
    throw Problem(edge.isDraining ? .shuttingDown : .storageFailed)
  }
  router.get("metrics") { _, context in
    guard access.admits(context.remoteAddress) else {
      throw Problem(.notPermitted, hint: "the operator decides with `metrics` in [node]")
    }
    return response(.ok, .metrics, Array(metricsText(edge.samples()).utf8))
  }
  router.get("api/v1/node") { _, _ in
    let identity = edge.node.identity
    return response(
      .ok, .json,
      jsonBytes(NodeDocument(name: identity.name.text, nodeID: "\(identity.id)", version: edge.version)))
  }
}

private func addIdentityRoutes(to api: RouterGroup<APIContext>, _ edge: Edge) {
  // The invite in the request is the authentication.
  api.post("agents/register") { request, context in
    try edge.admitSignIn(context)
    try MediaType.registration.require(in: request.headers)
    return try await edge.body(of: request, max: HTTPLimits.registrationBytesMax) { bytes in
      response(.created, .directory, try value(await edge.register(bytes)))
    }
  }
  // Authenticated by a token of the device, not by a session.
  api.post("sessions") { request, context in
    try edge.admitSignIn(context)
    guard let token = bearerToken(request.headers) else { throw Problem(.tokenInvalid) }
    return response(.created, .json, jsonBytes(SessionDocument(try value(await edge.openSession(token)))))
  }
  api.post("sessions/renew") { request, _ in
    guard let bearer = bearerToken(request.headers) else { throw Problem(.tokenInvalid) }
    return response(.ok, .json, jsonBytes(SessionDocument(try value(edge.node.renewSession(bearer)))))
  }
  api.get("directory/:address") { request, context in
    _ = try edge.session(request.headers)
    guard let address = context.parameters.get("address").flatMap({ address(inPath: $0) }) else {
      throw Problem(.notFound)
    }
    return response(.ok, .directory, try value(await edge.directoryAnswer(address)))
  }
}

/// What a device publishes about itself: its signed prekey, and its client's newest device list.
private func addKeyRoutes(to agent: RouterGroup<APIContext>, _ edge: Edge) {
  func publish(
    _ path: RouterPath, _ type: MediaType, max: Int,
    _ store: @escaping @Sendable ([UInt8], ClientSession, @escaping @Sendable (ErrorCode) -> Void) -> Void
  ) {
    agent.put(path) { request, context in
      let (session, _) = try edge.owner(request, context)
      try type.require(in: request.headers)
      return try await edge.body(of: request, max: max) { bytes in
        let code = await withCheckedContinuation { continuation in
          store(bytes, session) { continuation.resume(returning: $0) }
        }
        guard code == .none else { throw Problem(code) }
        return Response(status: .noContent)
      }
    }
  }
  let node = edge.node
  publish("prekeys", .prekeys, max: Limits.prekeyBytesMax) { node.putPrekey($0, $1, completion: $2) }
  publish("device-list", .deviceList, max: Limits.deviceListBytesMax) {
    node.putDeviceList($0, $1, completion: $2)
  }
}

private func addMessageRoutes(to agent: RouterGroup<APIContext>, _ edge: Edge) {
  agent.post("messages") { request, context in
    let (session, _) = try edge.owner(request, context)
    try MediaType.envelopes.require(in: request.headers)
    return try await edge.body(of: request, max: HTTPLimits.batchBytesMax) { bytes in
      let envelopes = try decoded { () throws(CodecError) in try splitBatch(bytes[...]) }
      edge.metrics.envelopesIn.add(UInt64(envelopes.count))
      return outcomesResponse(await edge.accept(envelopes, from: session, on: context.loop), request)
    }
  }
  agent.post("messages/ack") { request, context in
    let (session, _) = try edge.owner(request, context)
    try MediaType.acks.require(in: request.headers)
    return try await edge.body(of: request, max: HTTPLimits.acksBytesMax) { bytes in
      let acks = try decoded { () throws(CodecError) in try MailboxAck.decode(bytes[...]) }
      return outcomesResponse(await edge.acknowledge(acks, session), request)
    }
  }
  agent.get("messages") { request, context in
    let (session, bearer) = try edge.owner(request, context)
    let query = try PollQuery(request.uri)
    let items = try value(await edge.poll(session, bearer, query, on: context.loop))
    return items.isEmpty ? Response(status: .noContent) : response(.ok, .items, MailboxItem.encode(items))
  }
  // A permitted upgrade never comes here; this answers the others.
  agent.get("realtime") { request, context -> Response in
    _ = try edge.owner(request, context)
    if edge.isDraining { throw Problem(.shuttingDown) }
    throw Problem(
      .malformed, status: .upgradeRequired,
      hint: "open a WebSocket (RFC 6455), version 13, with the first request of the connection")
  }
}

/// Outcomes as the client asked for them: binary, or JSON with `Accept: application/json`.
func outcomesResponse(_ outcomes: [ItemOutcome], _ request: Request) -> Response {
  request.headers[.accept]?.lowercased() == MediaType.json.rawValue
    ? response(.ok, .json, jsonBytes(outcomes.map(OutcomeDocument.init)))
    : response(.ok, .outcomes, ItemOutcome.encode(outcomes))
}

func value<T>(_ result: Result<T, ErrorCode>) throws(Problem) -> T {
  switch result {
  case .success(let value): return value
  case .failure(let code): throw Problem(code)
  }
}

func decoded<T>(_ body: () throws(CodecError) -> [T]) throws(Problem) -> [T] {
  let elements: [T]
  do throws(CodecError) { elements = try body() } catch { throw Problem(error.code) }
  guard !elements.isEmpty else { throw Problem(.malformed) }
  return elements
}
