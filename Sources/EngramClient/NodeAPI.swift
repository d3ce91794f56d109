internal import EngramCore
internal import EngramCrypto
internal import FoundationEssentials

/// What the node says about itself, before anyone has proved anything beyond its TLS certificate.
struct NodeDescription: Sendable, Decodable {
  let name: String
  let nodeID: String

  private enum CodingKeys: String, CodingKey {
    case name
    case nodeID = "node_id"
  }

  var parsed: (name: NodeName, id: NodeID)? {
    guard let name = try? NodeName(name), let id = try? NodeID(parsing: nodeID) else { return nil }
    return (name, id)
  }
}

/// The home node's HTTP interface for one device: paths, content types, the session.
///
/// An actor because the session is shared: whoever finds it run out renews it, and the others wait for that.
actor NodeAPI {
  /// Renewed when less than this is left, so that no request is caught by the end of a session.
  private static let renewBeforeMs: UInt64 = 60_000
  /// What a node gives at most.
  private static let sessionMsMax: UInt64 = 300_000

  private struct Session: Sendable {
    var bearer: String
    var expiresMs: UInt64
  }
  private struct Grant: Decodable {
    let session: String
    let expiresMs: UInt64

    private enum CodingKeys: String, CodingKey {
      case session
      case expiresMs = "expires_ms"
    }
  }

  nonisolated let transport: NodeTransport
  nonisolated let address: Address
  private let device: SigningKey
  private let node: NodeID
  private let clock: ClientClock
  private var session: Session?
  private var opening: Task<Session, any Error>?

  init(
    transport: NodeTransport, address: Address, device: SigningKey, node: NodeID,
    clock: ClientClock
  ) {
    (self.transport, self.address, self.device) = (transport, address, device)
    (self.node, self.clock) = (node, clock)
  }

  // MARK: Without a session

  static func describe(_ transport: NodeTransport) async throws -> (name: NodeName, id: NodeID) {
    let reply = try await transport.exchange(NodeRequest("GET", "/api/v1/node"))
    guard reply.status == 200 else { throw refusal(reply) }
    guard let node = try? JSONDecoder().decode(NodeDescription.self, from: Data(reply.body)).parsed else {
      throw EngramError(.untrusted, name: "not-a-node", "what answers there is not an engram node")
    }
    return node
  }

  /// - Returns: the signed directory answer about the new client.
  static func register(_ transport: NodeTransport, _ request: [UInt8]) async throws -> [UInt8] {
    let reply = try await transport.exchange(
      NodeRequest(
        "POST", "/api/v1/agents/register", contentType: "application/vnd.engram.registration", body: request))
    guard reply.status == 201 else { throw refusal(reply) }
    return reply.body
  }

  // MARK: With a session

  func directory(_ address: Address) async throws -> [UInt8] {
    let request = NodeRequest("GET", "/api/v1/directory/\(address.text)")
    do {
      return try await authorised(request, expecting: [200]).body
    } catch let error as EngramError where error.registered == .notFound {
      throw EngramError(
        error.kind, .notFound, saying: "there is no client \(address.text)",
        hint: ErrorCode.unknownRecipient.hint)
    }
  }

  func putPrekey(_ bytes: [UInt8]) async throws {
    let request = NodeRequest(
      "PUT", path("prekeys"), contentType: "application/vnd.engram.prekeys", body: bytes)
    _ = try await authorised(request, expecting: [200, 204])
  }

  func putDeviceList(_ bytes: [UInt8]) async throws {
    let request = NodeRequest(
      "PUT", path("device-list"), contentType: "application/vnd.engram.device-list", body: bytes)
    _ = try await authorised(request, expecting: [200, 204])
  }

  /// - Returns: one outcome per envelope, in order.
  func post(_ envelopes: [[UInt8]]) async throws -> [ItemOutcome] {
    let body = fields(capacity: envelopes.reduce(0) { $0 + $1.count + 4 }) { w in
      for envelope in envelopes { w.field(envelope) }
    }
    let request = NodeRequest(
      "POST", path("messages"), contentType: "application/vnd.engram.envelopes", body: body)
    return try await outcomes(request, count: envelopes.count)
  }

  func items(max: Int, waitSeconds: Int, after: UInt64) async throws -> [MailboxItem] {
    let request = NodeRequest("GET", path("messages") + "?max=\(max)&wait=\(waitSeconds)&after=\(after)")
    let reply = try await authorised(request, expecting: [200, 204])
    guard reply.status == 200 else { return [] }
    do { return try MailboxItem.decode(reply.body[...]) } catch { throw EngramError(error) }
  }

  func acknowledge(_ acks: [MailboxAck]) async throws -> [ItemOutcome] {
    let request = NodeRequest(
      "POST", path("messages/ack"), contentType: "application/vnd.engram.acks", body: MailboxAck.encode(acks))
    return try await outcomes(request, count: acks.count)
  }

  /// Asks the node to drop what it still holds of a message of this device.
  func cancel(_ message: MessageID) async throws {
    _ = try await authorised(NodeRequest("DELETE", path("messages/\(message)")), expecting: [200, 204])
  }

  func realtime() async throws -> RealtimeSocket {
    for isRetry in [false, true] {
      var request = NodeRequest("GET", path("realtime"))
      request.headers.append(("authorization", "Bearer \(try await bearer())"))
      switch try await transport.realtime(request) {
      case .open(let socket): return socket
      case .declined(let reply):
        guard reply.status == 401, !isRetry else { throw Self.refusal(reply) }
        session = nil
      }
    }
    throw EngramError(refusal: .tokenInvalid)
  }

  // MARK: JSON

  /// What the node answers, which has to have the shape that the protocol gives it.
  func json<T: Decodable>(_ request: NodeRequest, expecting status: Int = 200) async throws -> T {
    let reply = try await authorised(request, expecting: [status])
    guard let value = try? JSONDecoder().decode(T.self, from: Data(reply.body)) else {
      throw EngramError(.untrusted, .malformed)
    }
    return value
  }

  /// Follows a list to its end. The node may lie: a page that does not go on, and a list without an end, are
  /// refused.
  /// - Parameters:
  ///   - key: what the list is in ascending order of, and what the next page begins after.
  ///   - read: takes a page apart.
  func everyPage<Page: Decodable, Row>(
    _ path: String, by key: (Row) -> String, max: Int = ClientLimits.addressesMax,
    _ read: (Page) throws -> ([Row], more: Bool)
  ) async throws -> [Row] {
    var found: [Row] = []
    while true {
      let last = found.last.map(key)
      let query = last.map { "?after=\($0)" } ?? ""
      let (rows, more) = try read(try await json(NodeRequest("GET", path + query)))
      for row in rows {
        // Names and addresses are ASCII: the order of their bytes.
        guard found.last.map({ key($0) < key(row) }) ?? true else {
          throw EngramError(.untrusted, .nonCanonical)
        }
        found.append(row)
      }
      guard more, !rows.isEmpty else { return found }
      guard found.count < max else { throw EngramError(.refused, .tooLarge) }
    }
  }

  func path(_ suffix: String) -> String { "/api/v1/agents/\(address.text)/\(suffix)" }

  private func outcomes(_ request: NodeRequest, count: Int) async throws -> [ItemOutcome] {
    let reply = try await authorised(request, expecting: [200])
    guard let outcomes = try? ItemOutcome.decode(reply.body[...]), outcomes.count == count else {
      throw EngramError(.untrusted, .malformed)
    }
    return outcomes
  }

  /// Sends with the session, opening another one when the node no longer knows ours.
  func authorised(_ request: NodeRequest, expecting statuses: [Int]) async throws -> NodeReply {
    for isRetry in [false, true] {
      var request = request
      request.headers.append(("authorization", "Bearer \(try await bearer())"))
      let reply = try await transport.exchange(request)
      if statuses.contains(reply.status) { return reply }
      guard reply.status == 401, !isRetry else { throw Self.refusal(reply) }
      session = nil
    }
    throw EngramError(refusal: .tokenInvalid)
  }

  /// Proves this client's clock to be right, within minutes: a node opens sessions only for tokens that were
  /// dated within five minutes of its own time, and dates their end itself.
  /// - Throws: `EngramError`, also when there is no telling because the node cannot be reached.
  func confirmClock() async throws {
    _ = try await bearer()
    guard let session, session.expiresMs <= clock.nowMs() + Self.sessionMsMax + Limits.clockSkewMs else {
      throw EngramError(
        .local, name: "clock-wrong", "this machine's clock and the node's are far apart",
        hint: "set the clock of this machine")
    }
  }

  /// A session's bearer with some life left; opened once, however many ask.
  func bearer() async throws -> String {
    if let session, session.expiresMs > clock.nowMs() + Self.renewBeforeMs { return session.bearer }
    if let opening { return try await opening.value.bearer }
    let task = Task { [session] in try await self.open(renewing: session) }
    opening = task
    defer { opening = nil }
    let fresh = try await task.value
    session = fresh
    return fresh.bearer
  }

  private func open(renewing old: Session?) async throws -> Session {
    if let old, old.expiresMs > clock.nowMs() {
      var request = NodeRequest("POST", "/api/v1/sessions/renew")
      request.headers.append(("authorization", "Bearer \(old.bearer)"))
      let reply = try await transport.exchange(request)
      if reply.status == 200, let session = Self.session(reply) { return session }
    }
    let token = DeviceToken.mint(address: address, device: device, node: node, nowMs: clock.wallMs())
    var request = NodeRequest("POST", "/api/v1/sessions")
    request.headers.append(("authorization", "Bearer \(token)"))
    let reply = try await transport.exchange(request)
    guard reply.status == 201, let session = Self.session(reply) else { throw Self.refusal(reply) }
    clock.adopt()
    return session
  }

  private static func session(_ reply: NodeReply) -> Session? {
    (try? JSONDecoder().decode(Grant.self, from: Data(reply.body))).map {
      Session(bearer: $0.session, expiresMs: $0.expiresMs)
    }
  }

  /// RFC 9457 problem document → error; an answer without one is judged by its status.
  static func refusal(_ reply: NodeReply) -> EngramError {
    struct Problem: Decodable {
      let code: UInt16?
      let hint: String?
    }
    let problem = try? JSONDecoder().decode(Problem.self, from: Data(reply.body))
    if let code = problem?.code.flatMap(ErrorCode.init(rawValue:)), code != .none {
      return EngramError(EngramError.kind(ofRefusal: code), code, hint: problem?.hint)
    }
    return EngramError(
      reply.status >= 500 ? .unreachable : .refused, name: "http-\(reply.status)",
      "the node answered with status \(reply.status)")
  }
}
