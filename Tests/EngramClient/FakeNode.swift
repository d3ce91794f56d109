import EngramClientStore
import EngramCore
import EngramCrypto
import Foundation
import Synchronization

@testable import EngramClient

/// A node in memory, with real signatures and no network, no disk and no policy. It can lie, forget and
/// vanish.
final class FakeNode: Sendable {
  struct Member {
    var certificate: DeviceCertificate
    var list: [UInt8]
    var prekey: [UInt8]
  }

  struct State {
    var members: [Address: Member] = [:]
    var further: [Kid: FurtherDevice] = [:]
    var boxes: [Kid: [MailboxItem]] = [:]
    var lastSeq: [Kid: UInt64] = [:]
    var accepted: [MessageID: EnvelopeID] = [:]
    var live: [Kid: LiveSession] = [:]
    var lastSession = 0
    var peers: [NodeName: FakeNode] = [:]
    /// No request arrives.
    var isReachable = true
    /// Requests arrive and are worked on, but so many answers are lost.
    var answersToLose = 0
    /// Everything posted, in order.
    var posted: [[UInt8]] = []
    /// Who signs receipts; the node itself unless a test says otherwise.
    var receiptSigner: SigningKey
    /// Changes a directory answer before it is signed.
    var twist: (@Sendable (inout DirectoryAnswerBody) -> Void)?
    var isWithoutCertificates = false
    var topics = FakeTopics()
    /// Calls every device list stale.
    var refusesLists = false
    /// Leases, and how agents share what comes.
    var work = FakeWork()
    /// What every envelope is refused with.
    var refusal: ErrorCode?
  }

  struct LiveSession {
    let number: Int
    var credit = 0
    var cursor: UInt64 = 0
    /// Set by `consume`: envelopes come as leases from then on.
    var prefetch: Int?
    var continuation: AsyncStream<[UInt8]>.Continuation
  }

  let name: NodeName
  let key: SigningKey
  let clock: TestClock
  let state: Mutex<State>
  var id: NodeID { NodeID(key.publicKey) }

  init(_ name: String, clock: TestClock) throws {
    self.name = try NodeName(name)
    let key = SigningKey()
    self.key = key
    self.clock = clock
    state = Mutex(State(receiptSigner: key))
  }

  func set(_ change: @Sendable (inout State) -> Void) { state.withLock { change(&$0) } }

  var transport: NodeTransport {
    NodeTransport(
      exchange: { try await self.exchange($0) },
      realtime: { try self.openRealtime($0) },
      close: {})
  }

  func invite(_ name: String) -> String {
    base64URLEncode(
      fields {
        $0.field(name)
        $0.field(randomBytes(24))
      })
  }

  // MARK: HTTP

  private static var unreachable: EngramError { EngramError(.unreachable, name: "unreachable", "no answer") }

  private func exchange(_ request: NodeRequest) async throws -> NodeReply {
    guard state.withLock({ $0.isReachable }) else { throw Self.unreachable }
    // A node answers later, never within the call.
    await Task.yield()
    let reply = answer(request)
    let isLost = state.withLock { state in
      defer { state.answersToLose = max(0, state.answersToLose - 1) }
      return state.answersToLose > 0
    }
    if isLost { throw Self.unreachable }
    return reply
  }

  private func answer(_ request: NodeRequest) -> NodeReply {
    let path = request.path.split(separator: "?")[0].dropFirst("/api/v1/".count)
    switch (request.method, path.split(separator: "/").map(String.init)) {
    case ("GET", ["node"]): return json(200, "{\"name\":\"\(name)\",\"node_id\":\"\(id)\",\"api\":\"v1\"}")
    case ("POST", ["agents", "register"]): return register(request.body)
    case ("POST", ["sessions"]): return openSession(request)
    case ("GET", let parts) where parts.first == "directory": return directory(parts[1])
    case ("PUT", let parts) where parts.last == "prekeys": return putPrekey(request)
    case ("POST", let parts) where parts.last == "devices": return addDevice(request)
    case ("PUT", let parts) where parts.last == "device-list": return putDeviceList(request)
    case ("POST", let parts) where parts.last == "messages":
      guard let batch = try? splitBatch(request.body[...]) else { return problem(400, .malformed) }
      return NodeReply(status: 200, body: ItemOutcome.encode(batch.map { accept(Array($0)) }))
    case ("GET", let parts) where parts.last == "messages":
      return request.path.contains("lease=") ? lease(request) : items(request)
    case (let method, let parts) where parts.last == "queue": return queue(method, request)
    case ("POST", let parts) where parts.last == "settle": return settle(request)
    case ("DELETE", let parts) where parts.count == 4 && parts[2] == "messages":
      return cancel(parts[3], request)
    case ("POST", let parts) where parts.last == "ack":
      guard let kid = kid(of: request), let acks = try? MailboxAck.decode(request.body[...]) else {
        return problem(400, .malformed)
      }
      return NodeReply(status: 200, body: ItemOutcome.encode(acks.map { acknowledge($0, kid) }))
    case (let method, let parts) where parts.first == "topics" || parts.first == "agents":
      guard let kid = kid(of: request), let address = address(of: kid) else {
        return problem(401, .sessionExpired)
      }
      return topicAnswer(method, parts, address, request)
    default: return problem(404, .notFound)
    }
  }

  private func address(of kid: Kid) -> Address? {
    state.withLock { state in
      state.members.first { $0.value.certificate.kid == kid }?.key ?? state.further[kid]?.address
    }
  }

  func json(_ status: Int, _ text: String) -> NodeReply {
    NodeReply(status: status, body: Array(text.utf8))
  }

  func problem(_ status: Int, _ code: ErrorCode) -> NodeReply {
    json(status, "{\"title\":\"\(code.sentence)\",\"status\":\(status),\"code\":\(code.rawValue)}")
  }

  func kid(of request: NodeRequest) -> Kid? {
    let value = request.headers.first { $0.name == "authorization" }?.value
    let kid = value.flatMap { bytes(hex: $0.dropFirst("Bearer ".count)) }.flatMap { Kid($0) }
    return kid.flatMap { isActive($0) ? $0 : nil }
  }

  private func register(_ body: [UInt8]) -> NodeReply {
    guard let request = try? RegistrationRequest(parsing: body[...]),
      let verified = try? VerifiedRegistration(request, node: id, nowMs: clock.nowMs)
    else { return problem(400, .malformed) }
    let address = verified.certificate.body.address
    let isTaken = state.withLock { state in
      defer {
        if state.members[address] == nil {
          state.members[address] = Member(
            certificate: verified.certificate, list: request.deviceList, prekey: request.signedPrekey)
        }
      }
      return state.members[address] != nil
    }
    return isTaken ? problem(409, .inviteInvalid) : NodeReply(status: 201, body: signedAnswer(address))
  }

  private func openSession(_ request: NodeRequest) -> NodeReply {
    let value = request.headers.first { $0.name == "authorization" }?.value ?? ""
    guard let token = DeviceToken(parsing: String(value.dropFirst("Bearer ".count))),
      let certificate = certificate(of: token.kid), certificate.body.address == token.address,
      token.verify(key: certificate.key, node: id, nowMs: clock.nowMs) == .none
    else { return problem(401, .tokenInvalid) }
    guard isActive(token.kid) else { return problem(401, .deviceInactive) }
    return json(201, "{\"session\":\"\(token.kid)\",\"expires_ms\":\(clock.nowMs + 300_000)}")
  }

  func directory(_ text: String) -> NodeReply {
    guard let address = try? Address(text) else { return problem(404, .notFound) }
    if address.node != name {
      guard let peer = state.withLock({ $0.peers[address.node] }) else { return problem(404, .noRoute) }
      guard peer.state.withLock({ $0.isReachable }) else { return problem(503, .peerUnreachable) }
      return peer.directory(text)
    }
    guard state.withLock({ $0.members[address] }) != nil else { return problem(404, .unknownRecipient) }
    return NodeReply(status: 200, body: signedAnswer(address))
  }

  private func signedAnswer(_ address: Address) -> [UInt8] {
    let (member, twist) = state.withLock { ($0.members[address], $0.twist) }
    var body = DirectoryAnswerBody(
      node: name, nodeID: id, address: address, issuedMs: clock.nowMs, bundles: [])
    if let member {
      body.bundles = [
        PrekeyBundle(
          deviceList: member.list, certificate: member.certificate.bytes, signedPrekey: member.prekey)
      ]
      body.bundles += furtherBundles(of: address, list: member.list)
    }
    twist?(&body)
    return signDirectoryAnswer(body, key: key)
  }

  private func putPrekey(_ request: NodeRequest) -> NodeReply {
    guard let kid = kid(of: request) else { return problem(401, .sessionExpired) }
    state.withLock { state in
      state.further[kid]?.prekey = request.body
      for (address, member) in state.members where member.certificate.kid == kid {
        state.members[address]?.prekey = request.body
      }
    }
    return NodeReply(status: 204, body: [])
  }

  /// As a node judges it: signed by the client's identity, newer than the known one, valid now.
  private func putDeviceList(_ request: NodeRequest) -> NodeReply {
    guard let kid = kid(of: request) else { return problem(401, .sessionExpired) }
    let now = clock.nowMs
    guard request.headers.contains(where: { $0.value == "application/vnd.engram.device-list" }),
      let list = try? DeviceList(verifying: request.body), list.isValid(atMs: now), list.body.isActive(kid)
    else { return problem(422, .badCertificate) }
    let isNewer = state.withLock { state in
      guard let member = state.members[list.body.address],
        let known = try? DeviceList(verifying: member.list),
        known.body.identity == list.body.identity, known.body.version < list.body.version, !state.refusesLists
      else { return false }
      state.members[list.body.address]?.list = list.bytes
      return true
    }
    return isNewer ? NodeReply(status: 204, body: []) : problem(422, .staleDeviceList)
  }

  // MARK: Messages

  private func accept(_ bytes: [UInt8]) -> ItemOutcome {
    guard let envelope = try? UnverifiedEnvelope(parsing: bytes),
      let member = state.withLock({ $0.members[envelope.header.sender] }),
      let certified = certificate(of: envelope.header.senderKid),
      let verified = try? VerifiedEnvelope(envelope, sender: certified)
    else { return ItemOutcome(.refused, code: .badSignature) }
    if let refusal = state.withLock({ $0.refusal }) { return ItemOutcome(.refused, code: refusal) }
    let header = envelope.header
    let (known, signer, peers) = state.withLock { state in
      state.posted.append(bytes)
      defer { state.accepted[header.messageID] = state.accepted[header.messageID] ?? verified.id }
      return (state.accepted[header.messageID], state.receiptSigner, state.peers)
    }
    if let known, known != verified.id { return ItemOutcome(.refused, code: .messageIDReused) }
    let body = ReceiptBody(
      role: .homeNode, issuerName: name.text, issuerKey: signer.publicKey, envelope: verified.id,
      sender: header.sender, senderKid: header.senderKid, messageID: header.messageID, state: .accepted,
      atMs: clock.nowMs)
    let receipt = signReceipts([body], with: signer)[0]
    guard known == nil else { return ItemOutcome(.duplicate, receipt: receipt) }
    let certificate = CertificateItem(certificate: certified.bytes, deviceList: member.list)
      .encoded()
    if let cancelled = header.labels.first(where: { $0.key == "cancels" })?.value {
      for node in [self] + peers.values { node.drop(cancelled, by: header.senderKid, home: self) }
    }
    for recipient in header.recipients {
      let node = recipient.address.node == name ? self : peers[recipient.address.node]
      node?.deposit(
        .envelope, verified.pruned { $0.address.node == recipient.address.node }, certificate,
        for: recipient.kid)
    }
    return ItemOutcome(.accepted, receipt: receipt)
  }

  /// Puts something into a device's mailbox, the sender's certificate before it.
  func deposit(_ kind: MailboxItem.Kind, _ payload: [UInt8], _ certificate: [UInt8]?, for kid: Kid) {
    state.withLock { state in
      if let certificate, !state.isWithoutCertificates {
        state.boxes[kid, default: []].append(MailboxItem(kind: .certificate, seq: 0, payload: certificate))
      }
      let seq = (state.lastSeq[kid] ?? 0) + 1
      state.lastSeq[kid] = seq
      state.boxes[kid, default: []].append(MailboxItem(kind: kind, seq: seq, payload: payload))
      Self.push(kid, &state)
    }
  }

  private func items(_ request: NodeRequest) -> NodeReply {
    guard let kid = kid(of: request) else { return problem(401, .sessionExpired) }
    let query = request.path.split(separator: "?")[1].split(separator: "&").map { $0.split(separator: "=") }
    let after = query.first { $0[0] == "after" }.flatMap { UInt64($0[1]) } ?? 0
    let found = state.withLock { state in
      (state.boxes[kid] ?? []).filter {
        $0.kind == .certificate || $0.seq > after && !state.work.isLeased(kid, $0.seq)
      }
    }
    guard found.contains(where: { $0.kind != .certificate }) else { return NodeReply(status: 204, body: []) }
    // Certificates are free.
    var left = query.first { $0[0] == "max" }.flatMap { Int($0[1]) } ?? .max
    let page = found.prefix { item in
      defer { left -= item.kind == .certificate ? 0 : 1 }
      return left > 0
    }
    return NodeReply(status: 200, body: MailboxItem.encode(Array(page)))
  }

  func acknowledge(_ ack: MailboxAck, _ kid: Kid, underLease: Bool = false) -> ItemOutcome {
    if !underLease, state.withLock({ $0.work.isLeased(kid, ack.seq) }) {
      return ItemOutcome(.refused, code: .leaseLost)
    }
    let item = state.withLock { state -> MailboxItem? in
      guard let index = state.boxes[kid]?.firstIndex(where: { $0.seq == ack.seq && $0.kind != .certificate })
      else { return nil }
      return state.boxes[kid]?.remove(at: index)
    }
    guard let item else { return ItemOutcome(.refused, code: .notFound) }
    if item.kind == .envelope, let receipt = try? UnverifiedReceipt(parsing: ack.receipt[...]) {
      let home = state.withLock { $0.peers[receipt.body.sender.node] } ?? self
      home.deposit(.receipt, receiptRow([ack.receipt]), nil, for: receipt.body.senderKid)
    }
    return ItemOutcome(.accepted)
  }

  // MARK: Realtime

  private func openRealtime(_ request: NodeRequest) throws -> NodeTransport.RealtimeOpening {
    guard state.withLock({ $0.isReachable }) else { throw Self.unreachable }
    guard let kid = kid(of: request) else { return .declined(problem(401, .sessionExpired)) }
    let (stream, continuation) = AsyncStream.makeStream(of: [UInt8].self)
    let number = state.withLock { state in
      state.lastSession += 1
      state.live[kid] = LiveSession(number: state.lastSession, continuation: continuation)
      return state.lastSession
    }
    return .open(
      RealtimeSocket(
        send: { bytes in try self.received(bytes, kid) }, messages: stream,
        close: {
          continuation.finish()
          self.end(number, of: kid)
        }))
  }

  private func received(_ bytes: [UInt8], _ kid: Kid) throws {
    let reply: RealtimeFrame?
    switch try RealtimeFrame(parsing: bytes[...]) {
    case .credit(let count):
      state.withLock { state in
        state.live[kid]?.credit += Int(count)
        Self.push(kid, &state)
      }
      reply = nil
    case .ack(let request, let acks):
      reply = .outcomes(request: request, acks.map { acknowledge($0, kid) })
    case .send(let request, let envelopes):
      reply = .outcomes(request: request, envelopes.map { accept(Array($0)) })
    case .consume(let request):
      state.withLock { state in
        state.live[kid]?.prefetch = Int(request.prefetch)
        Self.push(kid, &state)
      }
      reply = nil
    case .settle(let request, let settlements):
      return settle(request, settlements, kid)
    case .items, .outcomes, .problem: reply = nil
    }
    guard let reply else { return }
    state.withLock { state in _ = state.live[kid]?.continuation.yield(reply.encoded()) }
  }

  static func push(_ kid: Kid, _ state: inout State) {
    guard var session = state.live[kid] else { return }
    var items: [MailboxItem] = []
    if let prefetch = session.prefetch {
      items = state.work.lease(state.boxes[kid] ?? [], kid, inHandMax: prefetch, byConnection: true)
    }
    for item in state.boxes[kid] ?? [] where session.prefetch == nil || item.kind == .receipt {
      if item.kind == .certificate {
        items.append(item)
      } else if item.seq > session.cursor, session.credit > 0 {
        items.append(item)
        session.credit -= 1
        session.cursor = item.seq
      }
    }
    state.live[kid] = session
    guard items.contains(where: { $0.kind != .certificate }) else { return }
    session.continuation.yield(RealtimeFrame.items(items).encoded())
  }

  /// Cuts every live connection, saying why if there is a code.
  func dropConnections(_ code: ErrorCode? = nil) {
    state.withLock { state in
      if let code {
        for session in state.live.values { session.continuation.yield(RealtimeFrame.problem(code).encoded()) }
      }
      for session in state.live.values { session.continuation.finish() }
      state.live = [:]
      state.work.endConnections()
    }
  }

  func waiting(for kid: Kid) -> [MailboxItem] {
    state.withLock { ($0.boxes[kid] ?? []).filter { $0.kind != .certificate } }
  }
}

/// `lp(receipt)…`: how receipts wait in a mailbox.
func receiptRow(_ receipts: [[UInt8]]) -> [UInt8] {
  fields { w in for receipt in receipts { w.field(receipt) } }
}
