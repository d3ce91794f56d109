import EngramCore
import EngramNode
import FoundationEssentials
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore

/// What the administration works on.
struct AdminParts: Sendable {
  let node: Node
  let peers: AdminPeers
  let version: String
  let metrics: HTTPMetrics
  /// Of the whole node, as on the public port.
  let samples: @Sendable () -> [MetricSample]
  let log: Logger
}

/// Every route of the administration's socket. Whoever reached the socket may do all of this.
func adminRouter(_ parts: AdminParts) -> Router<BasicRequestContext> {
  let router = Router(context: BasicRequestContext.self)
  router.add(middleware: AnswerMiddleware(metrics: parts.metrics, log: parts.log))
  router.get("metrics") { _, _ in response(.ok, .metrics, Array(metricsText(parts.samples()).utf8)) }
  let admin = router.group("admin/v1")
  admin.get("status") { _, _ in
    let status = try caught { () throws(ErrorCode) in try parts.node.status() }
    return json(
      .ok,
      StatusDocument(
        status, version: parts.version, metrics: parts.node.metrics, peers: await parts.peers.list()))
  }
  addClientRoutes(to: admin, parts.node)
  addPeerRoutes(to: admin, parts.peers)
  addQueueAdministration(to: admin, parts.node)
  return router
}

private func addClientRoutes(to admin: RouterGroup<BasicRequestContext>, _ node: Node) {
  admin.get("clients") { _, _ in
    let clients = try caught { () throws(ErrorCode) in try node.clients() }
    return json(.ok, ["clients": clients.map(ClientDocument.init)])
  }
  admin.post("clients/invite") { request, _ in
    let invite = try await decode(InviteRequest.self, request)
    guard (1...HTTPLimits.inviteHoursMax).contains(invite.ttlHours) else {
      throw Problem(
        .tooLarge, status: .badRequest, detail: "an invite lives 1 to \(HTTPLimits.inviteHoursMax) hours")
    }
    let ttlMs = invite.ttlHours * 3_600_000
    let expiresMs = node.clock.nowMs() + ttlMs
    guard isLocalName(invite.name) else {
      throw Problem(.nonCanonical, hint: clientNameRule, detail: "this cannot be a client's name")
    }
    let made = await withCheckedContinuation { continuation in
      node.invite(name: invite.name, ttlMs: ttlMs) { continuation.resume(returning: $0) }
    }
    if case .failure(.nameTaken) = made {
      throw Problem(.nameTaken, detail: "a client has registered this name already")
    }
    let token = try value(made)
    return json(
      .created, InviteDocument(token: token, expiresMs: expiresMs, nodeID: "\(node.identity.id)"))
  }
  admin.post("clients/:name/disable") { _, context in
    guard let name = context.parameters.get("name") else { throw Problem(.notFound) }
    let code = await withCheckedContinuation { continuation in
      node.disable(name) { continuation.resume(returning: $0) }
    }
    guard code != .notFound else { throw Problem(.notFound, detail: "this node has no client of that name") }
    guard code == .none else { throw Problem(code) }
    return Response(status: .noContent)
  }
  admin.get("invites") { _, _ in
    let invites = try caught { () throws(ErrorCode) in try node.invites() }
    return json(.ok, ["invites": invites.map(InviteSummaryDocument.init)])
  }
}

private func addPeerRoutes(to admin: RouterGroup<BasicRequestContext>, _ peers: AdminPeers) {
  admin.get("peers") { _, _ in json(.ok, ["peers": await peers.list()]) }
  admin.get("peers/:name") { _, context in
    let name = context.parameters.get("name")
    guard let peer = await peers.list().first(where: { $0.name == name }) else { throw noSuchPeer }
    return json(.ok, peer)
  }
  admin.post("peers") { request, _ in
    json(.created, try done(await peers.add(try await decode(PeerRequest.self, request).checked())))
  }
  admin.delete("peers/:name") { _, context in
    let name: NodeName
    do throws(CodecError) { name = try NodeName(context.parameters.get("name") ?? "") } catch {
      throw noSuchPeer
    }
    try done(await peers.remove(name))
    return Response(status: .noContent)
  }
}

private let clientNameRule =
  "1 to 63 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit"
private let noSuchPeer = Problem(.notFound, detail: "this node has no peer of that name")

private func json(_ status: HTTPResponse.Status, _ body: some Encodable) -> Response {
  response(status, .json, jsonBytes(body))
}

private func decode<T: Decodable>(_ type: T.Type, _ request: Request) async throws -> T {
  let buffer: ByteBuffer
  do {
    buffer = try await request.body.collect(upTo: HTTPLimits.adminBodyBytesMax)
  } catch is NIOTooManyBytesError {
    throw Problem(.tooLarge)
  }
  do { return try JSONDecoder().decode(type, from: Data(buffer.readableBytesView)) } catch {
    throw Problem(.malformed)
  }
}

private func caught<T>(_ body: () throws(ErrorCode) -> T) throws(Problem) -> T {
  do throws(ErrorCode) { return try body() } catch { throw Problem(error) }
}

@discardableResult
private func done<T>(_ result: Result<T, AdminRefusal>) throws(Problem) -> T {
  switch result {
  case .success(let value): return value
  case .failure(let refusal): throw Problem(refusal.code, hint: refusal.hint, detail: refusal.reason)
  }
}
