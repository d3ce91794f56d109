import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import Synchronization
import TestSupport
import Testing

/// A client with one device, speaking to its home node's API by hand.
final class Member: Sendable {
  let device: TestDevice
  let organisation: Organisation
  private let http: HTTPClient
  private let bearer = Mutex("")
  private let chains = Mutex<[Kid: ChainPosition]>([:])

  var address: Address { device.address }
  var path: String { "/api/v1/agents/\(address.text)" }
  var session: String { bearer.withLock { $0 } }

  /// - Parameter port: where the node listens, if not where it did at first.
  init(_ device: TestDevice, of organisation: Organisation, port: Int? = nil) throws {
    (self.device, self.organisation) = (device, organisation)
    let port = port ?? organisation.port
    http = try HTTPClient(
      endpoint: .tls(host: "127.0.0.1", port: port, caFile: organisation.authority))
  }

  // MARK: - Identity

  func register(invite: String) async throws {
    let token = try #require(base64URLDecode(invite))
    let request = device.registration(node: organisation.nodeID, invite: token)
    let answer = try await http.send(
      WireRequest(
        "POST", "/api/v1/agents/register",
        headers: [WireHeader("Content-Type", "application/vnd.engram.registration")],
        body: request.encoded()))
    guard answer.status == 201 else { throw Unexpected("registration: \(answer.summary)") }
  }

  /// Opens a session; a restarted node knows no earlier one.
  func login() async throws {
    let answer = try await openSession(device.token(node: organisation.nodeID, nowMs: nowMs()))
    guard answer.status == 201 else { throw Unexpected("session: \(answer.summary)") }
    struct Session: Decodable { let session: String }
    let opened = try JSONDecoder().decode(Session.self, from: Data(answer.body))
    bearer.withLock { $0 = opened.session }
  }

  func openSession(_ token: String) async throws -> WireResponse {
    try await http.send(
      WireRequest("POST", "/api/v1/sessions", headers: [WireHeader("Authorization", "Bearer \(token)")]))
  }

  // MARK: - Requests

  func call(
    _ method: String, _ path: String, type: String? = nil, body: [UInt8] = [], session: String? = nil
  ) async throws -> WireResponse {
    var headers = [WireHeader("Authorization", "Bearer \(session ?? self.session)")]
    if let type { headers.append(WireHeader("Content-Type", type)) }
    return try await http.send(WireRequest(method, path, headers: headers, body: body))
  }

  func post(_ body: [UInt8], type: String = "application/vnd.engram.envelopes") async throws -> WireResponse {
    try await call("POST", path + "/messages", type: type, body: body)
  }

  /// Sends a batch of envelopes; one outcome each.
  func send(_ envelopes: [[UInt8]]) async throws -> [ItemOutcome] {
    let answer = try await post(fields { w in for envelope in envelopes { w.field(envelope) } })
    guard answer.status == 200 else { throw Unexpected("send: \(answer.summary)") }
    return try ItemOutcome.decode(answer.body[...])
  }

  func send(_ envelope: [UInt8]) async throws -> ItemOutcome {
    try #require(try await send([envelope]).first)
  }

  /// The directory's entry of any client, local or remote, verified against the node that signs for it.
  func lookup(_ address: Address, signedBy node: NodeID) async throws -> DirectoryAnswerBody {
    let answer = try await call("GET", "/api/v1/directory/\(address.text)")
    guard answer.status == 200 else { throw Unexpected("directory: \(answer.summary)") }
    return try verifyDirectoryAnswer(answer.body[...], pinned: node)
  }

  // MARK: - Sealing

  /// Seals for the recipients, each at its next place in this device's chain to it.
  func seal(
    _ text: String, to recipients: [Member], adjust: (inout SealRequest) -> Void = { _ in }
  ) throws -> SealedEnvelope {
    try seal(text, for: recipients.map(\.device), adjust: adjust)
  }

  func seal(
    _ text: String, for devices: [TestDevice], adjust: (inout SealRequest) -> Void = { _ in }
  ) throws -> SealedEnvelope {
    try chains.withLock { chains in
      let recipients = devices.map { SealRecipient($0.prekey, chain: chains[$0.kid] ?? .first) }
      let sealed = try sealText(text, from: device, to: recipients, nowMs: nowMs(), adjust: adjust)
      for recipient in recipients {
        chains[recipient.recipient.kid] = ChainPosition(seq: recipient.chain.seq + 1, previous: sealed.id)
      }
      return sealed
    }
  }

  // MARK: - Mailbox

  func items(max: Int = 256, wait: Int = 0, after: UInt64 = 0) async throws -> [MailboxItem] {
    let answer = try await call("GET", path + "/messages?max=\(max)&wait=\(wait)&after=\(after)")
    guard answer.status == 200 || answer.status == 204 else { throw Unexpected("poll: \(answer.summary)") }
    return try MailboxItem.decode(answer.body[...])
  }

  /// Acknowledges what was received: envelopes with this device's `processed` receipt, receipts with nothing.
  func acknowledge(_ items: [MailboxItem]) async throws -> [ItemOutcome] {
    let acks = try items.filter { $0.kind != .certificate }.map { item in
      MailboxAck(
        seq: item.seq,
        receipt: item.kind == .envelope ? try device.receipt(about: item.payload, atMs: nowMs()) : [])
    }
    let answer = try await call(
      "POST", path + "/messages/ack", type: "application/vnd.engram.acks", body: MailboxAck.encode(acks))
    guard answer.status == 200 else { throw Unexpected("ack: \(answer.summary)") }
    return try ItemOutcome.decode(answer.body[...])
  }

  /// Takes and acknowledges what comes until `isEnough` says so, or nothing more came in time.
  func drain(
    within bound: Duration = .seconds(60), until isEnough: (Harvest) throws -> Bool
  ) async throws -> Harvest {
    var harvest = Harvest()
    _ = try await eventually(within: bound) {
      let items = try await items(wait: 1)
      if !items.isEmpty {
        try harvest.add(items)
        let outcomes = try await acknowledge(items)
        guard outcomes.allSatisfy({ $0.outcome == .accepted }) else { throw Unexpected("acks: \(outcomes)") }
      }
      return try isEnough(harvest)
    }
    return harvest
  }

  /// Everything that is there now.
  func drainAll() async throws -> Harvest {
    var count = -1
    return try await drain { harvest in
      defer { count = harvest.itemCount }
      return harvest.itemCount == count
    }
  }
}

/// What came out of a mailbox, in order.
struct Harvest: Sendable {
  var envelopes: [[UInt8]] = []
  var ids: [EnvelopeID] = []
  var receipts: [[UInt8]] = []
  var certificates: Set<CertificateItem> = []
  var itemCount = 0

  mutating func add(_ items: [MailboxItem]) throws {
    itemCount += items.count
    for item in items {
      switch item.kind {
      case .certificate: certificates.insert(try CertificateItem(parsing: item.payload[...]))
      case .envelope:
        envelopes.append(item.payload)
        ids.append(EnvelopeDigests(of: try UnverifiedEnvelope(parsing: item.payload)).id)
      case .receipt: receipts += try splitBatch(item.payload[...]).map { Array($0) }
      case .leased, .notice: break
      }
    }
  }

  /// The receipts whose signature holds under `key`.
  func receipts(by key: SigningPublicKey) -> [ReceiptBody] {
    receipts.compactMap { bytes in
      guard let receipt = try? UnverifiedReceipt(parsing: bytes[...]) else { return nil }
      return try? VerifiedReceipt(receipt, bytes: bytes, expectedKey: key).body
    }
  }
}

extension WireResponse {
  /// The code of a problem document.
  var code: UInt16? {
    struct Problem: Decodable { let code: UInt16 }
    return (try? JSONDecoder().decode(Problem.self, from: Data(body)))?.code
  }

  var summary: String { "\(status) \(String(decoding: body.prefix(300), as: UTF8.self))" }
}

/// The statement in an outcome's receipt, if it is signed by this node.
func verifiedReceipt(_ bytes: [UInt8], by key: SigningPublicKey) throws -> ReceiptBody {
  try VerifiedReceipt(UnverifiedReceipt(parsing: bytes[...]), bytes: bytes, expectedKey: key).body
}
