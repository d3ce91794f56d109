package enum ReceiptRole: UInt8, Sendable {
  case homeNode = 1
  case recipientNode = 2
  case device = 3
}

/// What a receipt states. Numbers are normative.
package enum ReceiptState: UInt8, CaseIterable, Sendable {
  case accepted = 1
  case admitted = 2
  case delivered = 3
  case processed = 4
  case failed = 5
  case expired = 6
  case deadLettered = 7
  case cancelled = 8

  /// Which roles may sign which state.
  package func mayBeSigned(by role: ReceiptRole) -> Bool {
    switch self {
    case .accepted, .admitted, .expired, .deadLettered, .cancelled: role != .device
    case .delivered: role == .recipientNode
    case .processed: role == .device
    case .failed: true
    }
  }

  package var name: String { self == .deadLettered ? "dead-lettered" : "\(self)" }
}

/// `R`: a signed statement about an envelope.
package struct ReceiptBody: Equatable, Sendable {
  package var role: ReceiptRole
  /// The node's name, or the device's address for role 3.
  package var issuerName: String
  package var issuerKey: SigningPublicKey
  package var envelope: EnvelopeID
  package var sender: Address
  package var senderKid: Kid
  package var messageID: MessageID
  /// nil where the statement is about the envelope as a whole.
  package var recipient: Address?
  package var recipientKid: Kid?
  package var state: ReceiptState
  package var code: ErrorCode
  package var attempt: UInt32
  package var atMs: UInt64

  package init(
    role: ReceiptRole, issuerName: String, issuerKey: SigningPublicKey, envelope: EnvelopeID, sender: Address,
    senderKid: Kid, messageID: MessageID, recipient: Address? = nil, recipientKid: Kid? = nil,
    state: ReceiptState, code: ErrorCode = .none, attempt: UInt32 = 0, atMs: UInt64
  ) {
    (self.role, self.issuerName, self.issuerKey) = (role, issuerName, issuerKey)
    (self.envelope, self.sender, self.senderKid, self.messageID) = (envelope, sender, senderKid, messageID)
    (self.recipient, self.recipientKid, self.state, self.code) = (recipient, recipientKid, state, code)
    (self.attempt, self.atMs) = (attempt, atMs)
  }

  package func encoded() -> [UInt8] {
    fields(capacity: 384) { w in
      w.field(role.rawValue)
      w.field(issuerName)
      w.field(issuerKey)
      w.field(envelope)
      w.field(sender.text)
      w.field(senderKid)
      w.field(messageID)
      w.field(recipient?.text ?? "")
      w.field(recipientKid?.bytes ?? [])
      w.field(state.rawValue)
      w.field(code.rawValue)
      w.field(attempt)
      w.field(atMs)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    role = try known(ReceiptRole(rawValue: try r.integer()))
    issuerName = try r.string(max: Limits.addressBytesMax)
    issuerKey = try SigningPublicKey(field: try r.field(max: 32))
    envelope = try EnvelopeID(field: try r.field(max: 32))
    sender = try Address(try r.field(max: Limits.addressBytesMax))
    senderKid = try Kid(field: try r.field(max: 16))
    messageID = try MessageID(field: try r.field(max: 16))
    let address = try r.field(max: Limits.addressBytesMax)
    recipient = address.isEmpty ? nil : try Address(address)
    let kid = try r.field(max: 16)
    recipientKid = kid.isEmpty ? nil : try Kid(field: kid)
    state = try known(ReceiptState(rawValue: try r.integer()))
    code = try known(ErrorCode(rawValue: try r.integer()))
    attempt = try r.integer()
    atMs = try r.integer()
    try r.finish()
    guard (recipient == nil) == (recipientKid == nil), state.mayBeSigned(by: role) else {
      throw .nonCanonical
    }
    switch role {
    case .device: guard issuerName == recipient?.text else { throw .nonCanonical }
    case .homeNode, .recipientNode: _ = try NodeName(issuerName)
    }
  }
}

/// `lp(R) lp(index u32) lp(count u32) lp(path) lp(S)`: one statement and its place under a batch signature.
package struct UnverifiedReceipt: Equatable, Sendable {
  package var bodyBytes: [UInt8]
  package var body: ReceiptBody
  package var index: UInt32
  package var count: UInt32
  /// Audit path, leaf to root (RFC 6962 section 2.1.1).
  package var path: [Digest]
  package var signature: [UInt8]

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard bytes.count <= Limits.receiptBytesMax else { throw .tooLarge }
    var r = FieldReader(bytes)
    let bodySlice = try r.field()
    body = try ReceiptBody(parsing: bodySlice)
    bodyBytes = Array(bodySlice)
    index = try r.integer()
    count = try r.integer()
    guard index < count, count <= 1 << Limits.receiptPathDepthMax else { throw .nonCanonical }
    var rest = try r.field(max: 32 * Limits.receiptPathDepthMax)
    guard rest.count.isMultiple(of: 32) else { throw .wrongLength }
    path = []
    while !rest.isEmpty {
      path.append(try Digest(field: rest.prefix(32)))
      rest = rest.dropFirst(32)
    }
    signature = Array(try r.field(max: Limits.signatureBytes))
    guard signature.count == Limits.signatureBytes else { throw .wrongLength }
    try r.finish()
  }

  package static func encode(
    body: [UInt8], index: UInt32, count: UInt32, path: [Digest], signature: [UInt8]
  ) -> [UInt8] {
    fields(capacity: body.count + 32 * path.count + 100) { w in
      w.field(body)
      w.field(index)
      w.field(count)
      w.list { list in for node in path { list.raw(node) } }
      w.field(signature)
    }
  }
}
