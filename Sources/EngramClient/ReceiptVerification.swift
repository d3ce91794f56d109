internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

/// What the receipts of one message prove, worked out again from their bytes and the keys that are pinned
/// here. No node is asked.
public struct Verification: Sendable {
  /// One receipt.
  public struct Statement: Sendable, Equatable {
    /// Signature, place in its batch, and the pinned key of its issuer hold.
    public let isProven: Bool
    /// Why it does not, 0 otherwise.
    public let code: UInt16
    public let codeName: String
    public let state: String?
    public let role: String?
    public let issuer: String?
    public let recipient: String?
    public let recipientDevice: String?
    public let atMs: UInt64?
    /// The key that signed, and since when it is pinned.
    public let key: String?
    public let pin: Pin?
    public let pinnedMs: UInt64?
    /// Its place among the receipts under one signature.
    public let index: UInt32?
    public let count: UInt32?
  }

  /// Why a key is believed.
  public enum Pin: String, Sendable {
    /// The identity that a person compared by safety number certifies it.
    case approved
    /// First seen when this was pinned; nobody has compared it.
    case firstUse = "first-use"
    /// Our own node, pinned when this client was registered.
    case ownNode = "own-node"
  }

  /// Something about the receipts of one recipient's device taken together.
  public struct Finding: Sendable, Equatable {
    public enum Kind: String, Sendable {
      /// Two ends of one delivery, each signed.
      case contradiction
      /// A later state is dated before an earlier one, by more than clocks may differ.
      case reversed
      /// Nobody has signed a step that comes before one that is signed. Nothing is wrong; it is not proven.
      case unproven
    }
    public let kind: Kind
    public let recipient: String
    public let recipientDevice: String
    /// The states in question.
    public let states: [String]
  }

  public let messageID: String
  public let envelopeID: String
  /// The envelope that the receipts name is the one that this device signed.
  public let isOurEnvelope: Bool
  public let statements: [Statement]
  public let findings: [Finding]
  /// Everything that was looked at holds. True also of no receipts at all, which prove nothing.
  public var holds: Bool {
    isOurEnvelope && statements.allSatisfy(\.isProven) && findings.allSatisfy { $0.kind == .unproven }
  }
}

/// What a proof is about: a sealed envelope of this device, or its stub, with what was said about it.
struct ProofSubject {
  let envelope: UnverifiedEnvelope
  let id: EnvelopeID
  let receipts: [[UInt8]]
}

/// Verifies a message's receipts against what is pinned.
///
/// 1. The envelope's id is computed anew and its signature checked under this device's own key.
/// 2. Every receipt: parsed strictly, about that envelope, signed with the key pinned for its issuer through
///    its Merkle path (`ReceiptJudge`).
/// 3. The proven ones, device by device, in the order of a delivery's life (`custodyFindings`).
func verifyProof(
  _ subject: ProofSubject, judge: ReceiptJudge, in rows: ClientSnapshot
) throws -> Verification {
  let certificate = try? judge.credentials.certificate(judge.account.certificate)
  let verified = certificate.flatMap { try? VerifiedEnvelope(subject.envelope, sender: $0) }
  var statements: [Verification.Statement] = []
  var bodies: [ReceiptBody] = []
  for bytes in subject.receipts {
    switch try judge.judge(bytes, about: subject.envelope.header, id: subject.id, in: rows) {
    case .success(let receipt):
      bodies.append(receipt.body)
      statements.append(try rows.statement(receipt, account: judge.account))
    case .failure(let code):
      statements.append(Verification.Statement(refused: bytes, code))
    }
  }
  let findings = subject.envelope.header.recipients.flatMap { recipient in
    custodyFindings(bodies, for: recipient.address, recipient.kid)
  }
  return Verification(
    messageID: subject.envelope.header.messageID.description, envelopeID: subject.id.description,
    isOurEnvelope: verified?.id == subject.id, statements: statements, findings: findings)
}

/// What does not fit together in the proven receipts about one device.
func custodyFindings(_ bodies: [ReceiptBody], for address: Address, _ kid: Kid) -> [Verification.Finding] {
  let about = bodies.filter { body in
    guard body.recipient == nil else { return body.recipient == address && body.recipientKid == kid }
    return body.role == .homeNode || body.issuerName == address.node.text
  }
  func finding(_ kind: Verification.Finding.Kind, _ states: [ReceiptState]) -> Verification.Finding {
    Verification.Finding(
      kind: kind, recipient: address.text, recipientDevice: kid.description, states: states.map(\.name))
  }
  var findings: [Verification.Finding] = []
  let states = Set(about.map(\.state))
  let path: [ReceiptState] = [.accepted, .admitted, .delivered, .processed]
  // 1. Processed is an end; no other end goes with it. A node may give up on an attempt before.
  for end in [ReceiptState.expired, .cancelled] where states.contains(.processed) && states.contains(end) {
    findings.append(finding(.contradiction, [.processed, end]))
  }
  // 2. Time runs forward, as far as two clocks can tell.
  func earliest(_ state: ReceiptState) -> UInt64? { about.filter { $0.state == state }.map(\.atMs).min() }
  for (index, later) in path.enumerated() {
    for earlier in path[..<index] {
      guard let before = earliest(earlier), let after = earliest(later),
        before > after, before - after > Limits.clockSkewMs
      else { continue }
      findings.append(finding(.reversed, [earlier, later]))
    }
  }
  // 3. Steps that somebody must have taken, but nobody has signed. Processed implies delivered.
  let furthest = path.lastIndex { states.contains($0) } ?? -1
  let required = path.prefix(max(furthest, 0)).filter { $0 != .delivered && !states.contains($0) }
  let isLocal = about.first.map { $0.sender.node == address.node } ?? false
  for missing in required where !(isLocal && missing == .admitted) {
    findings.append(finding(.unproven, [missing]))
  }
  return findings
}

extension Verification.Statement {
  fileprivate init(refused bytes: [UInt8], _ code: ErrorCode) {
    let body = try? UnverifiedReceipt(parsing: bytes[...]).body
    self.init(
      isProven: false, code: code.rawValue, codeName: code.name, state: body?.state.name,
      role: body?.role.name, issuer: body?.issuerName, recipient: body?.recipient?.text,
      recipientDevice: body?.recipientKid?.description, atMs: body?.atMs, key: nil, pin: nil, pinnedMs: nil,
      index: nil, count: nil)
  }
}

extension ClientSnapshot {
  fileprivate func statement(
    _ receipt: VerifiedReceipt, account: AccountRow
  ) throws -> Verification.Statement {
    let body = receipt.body
    var (pin, pinnedMs): (Verification.Pin?, UInt64?) = (nil, nil)
    switch body.role {
    case .homeNode: pin = .ownNode
    case .recipientNode:
      let known = try NodeName(body.issuerName)
      pin = known == account.address.node ? .ownNode : .firstUse
      pinnedMs = try nodePin(known)?.firstSeenMs
    case .device:
      if let peer = try body.recipient.flatMap({ try self.peer($0) }) {
        pin = peer.approvedMs == nil ? .firstUse : .approved
        pinnedMs = peer.approvedMs ?? peer.firstSeenMs
      }
    }
    let place = try? UnverifiedReceipt(parsing: receipt.bytes[...])
    return Verification.Statement(
      isProven: true, code: 0, codeName: ErrorCode.none.name, state: body.state.name, role: body.role.name,
      issuer: body.issuerName, recipient: body.recipient?.text,
      recipientDevice: body.recipientKid?.description, atMs: body.atMs, key: hex(body.issuerKey.bytes),
      pin: pin, pinnedMs: pinnedMs, index: place?.index, count: place?.count)
  }
}

/// A message's stub and receipts as one file, to be kept elsewhere or shown to somebody: `"ENGRAM-PROOF1" |
/// lp(stub) | lp(receipt)…`.
enum ProofFile {
  private static let magic = Array("ENGRAM-PROOF1".utf8)
  /// A hundred recipients with ten devices each, five receipts about each of them, and the envelope.
  static let bytesMax = 8 << 20

  static func encode(stub: [UInt8], receipts: [[UInt8]]) -> [UInt8] {
    fields(capacity: stub.count + receipts.count * 512) { w in
      w.field(magic)
      w.field(stub)
      for receipt in receipts { w.field(receipt) }
    }
  }

  static func decode(_ bytes: [UInt8]) throws(CodecError) -> ProofSubject {
    guard bytes.count <= bytesMax else { throw .tooLarge }
    var r = FieldReader(bytes)
    guard try r.field(max: magic.count).elementsEqual(magic) else { throw .unknownValue }
    let envelope = try UnverifiedEnvelope(parsing: Array(try r.field()))
    var receipts: [[UInt8]] = []
    try r.rest(maxCount: 10_000) { (r) throws(CodecError) in
      receipts.append(Array(try r.field(max: Limits.receiptBytesMax)))
    }
    return ProofSubject(envelope: envelope, id: EnvelopeDigests(of: envelope).id, receipts: receipts)
  }
}
