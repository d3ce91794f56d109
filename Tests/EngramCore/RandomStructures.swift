import EngramCore
import TestSupport

// Well-formed structures with random content, for the codec's properties. Small on purpose: variety, not
// volume.
extension SeededGenerator {
  mutating func count(upTo limit: Int) -> Int { Int.random(in: 0...limit, using: &self) }
  mutating func shortBytes(upTo limit: Int = 40) -> [UInt8] { bytes(count(upTo: limit)) }
  mutating func integer<T: FixedWidthInteger & UnsignedInteger>() -> T {
    // All widths of values, not only large ones.
    T(truncatingIfNeeded: next() >> UInt64.random(in: 0..<64, using: &self))
  }
  mutating func one<C: Collection>(of values: C) -> C.Element { well(values.randomElement(using: &self)) }
  mutating func array<T>(upTo limit: Int, atLeast least: Int = 0, _ make: (inout Self) -> T) -> [T] {
    (0..<max(least, count(upTo: limit))).map { _ in make(&self) }
  }

  mutating func id16<Tag>() -> Identifier16<Tag> { well(Identifier16(bytes(16))) }
  mutating func id32<Tag>() -> Identifier32<Tag> { well(Identifier32(bytes(32))) }
  mutating func nodeID() -> NodeID { NodeID(id32()) }

  private mutating func token(_ alphabet: String, upTo limit: Int = 12) -> String {
    String((0...count(upTo: limit)).map { _ in one(of: alphabet) })
  }
  mutating func nodeName() -> NodeName {
    well(try? NodeName("\(token("abcxyz0189")).\(token("abcxyz0189"))-x.\(token("exampl", upTo: 5))"))
  }
  mutating func address() -> Address {
    well(try? Address(name: token("abc019") + token("abz09._-", upTo: 20), node: nodeName()))
  }

  mutating func topic() -> Topic {
    well(try? Topic(array(upTo: 3, atLeast: 1) { $0.token("abc09_-") }.joined(separator: ".")))
  }
  mutating func topicPattern() -> TopicPattern {
    let last = one(of: ["", ".*", ".>", ".*.>"])
    return well(try? TopicPattern(one(of: ["", "*."]) + topic().text + last))
  }

  mutating func recipient() -> Recipient {
    Recipient(address: address(), kid: id16(), prekey: id16(), prekeyKind: one(of: [.signed, .oneTime]))
  }

  mutating func header(recipients: Int? = nil) -> EnvelopeHeader {
    let parties = array(upTo: recipients ?? 4, atLeast: recipients ?? 1) { $0.recipient() }
    let labels = Set(array(upTo: 3) { $0.token("abc") }).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    return EnvelopeHeader(
      kind: one(of: [.message, .control, .memory]), messageID: id16(), sender: address(), senderKid: id16(),
      thread: id16(), parent: Bool.random(using: &self) ? id32() : nil, type: one(of: MessageType.allCases),
      priority: one(of: Priority.allCases), createdMs: integer(), expiresMs: integer(),
      notBeforeMs: integer(),
      topic: one(of: ["", "a", "builds.linux.failed"]),
      labels: labels.map { Label(key: $0, value: one(of: ["", "x", "größer"])) },
      attachments: array(upTo: 3) { $0.id32() }.sorted(),
      recipients: parties.sorted { Recipient.precedes($0, $1) },
      paddedLength: UInt32(paddedLength(of: count(upTo: 600))), keyCommitment: id32())
  }

  mutating func envelope() -> [UInt8] {
    let header = header()
    let slots = header.recipients.map { _ in
      Bool.random(using: &self) ? WrapSlot.full(bytes(Limits.wrapBytes)[...]) : .pruned(id32())
    }
    let length = Int(header.paddedLength) + Limits.ciphertextOverhead
    let body = Bool.random(using: &self) ? EnvelopeBody.sealed(bytes(length)[...]) : .stub(id32())
    return assembleEnvelope(header: header.encoded(), slots: slots, body: body, signature: bytes(64))
  }

  mutating func certificateBody() -> DeviceCertificateBody {
    DeviceCertificateBody(
      address: address(), identity: id32(), signing: id32(), serial: integer(), notBeforeMs: integer(),
      notAfterMs: integer(), suites: one(of: [[1], [1, 2], [0, 7, 255]]))
  }

  mutating func listBody() -> DeviceListBody {
    let issued: UInt64 = integer() >> 1
    return DeviceListBody(
      address: address(), identity: id32(), version: integer(), issuedMs: issued,
      validUntilMs: issued + UInt64.random(in: 1...Limits.deviceListValidityMsMax, using: &self),
      entries: array(upTo: 5) { $0.id16() as Kid }.sorted().map {
        DeviceListBody.Entry(kid: $0, state: one(of: [.active, .revoked]), sinceMs: integer())
      })
  }

  mutating func prekeyBody() -> PrekeyBody {
    let start: UInt64 = integer() >> 1
    return PrekeyBody(
      kind: one(of: [.signed, .oneTime]), address: address(), kid: id16(), id: id16(), key: id32(),
      notBeforeMs: start, notAfterMs: start + UInt64.random(in: 1...Limits.prekeyValidityMsMax, using: &self))
  }

  mutating func receiptBody() -> ReceiptBody {
    let role = one(of: [ReceiptRole.homeNode, .recipientNode, .device])
    let hasRecipient = role == .device || Bool.random(using: &self)
    let recipient = hasRecipient ? address() : nil
    let issuer = role == .device ? recipient?.text ?? "" : nodeName().text
    return ReceiptBody(
      role: role, issuerName: issuer, issuerKey: id32(), envelope: id32(), sender: address(),
      senderKid: id16(),
      messageID: id16(), recipient: recipient, recipientKid: hasRecipient ? id16() : nil,
      state: one(of: ReceiptState.allCases.filter { $0.mayBeSigned(by: role) }),
      code: one(of: ErrorCode.allCases),
      attempt: integer(), atMs: integer())
  }

  mutating func receipt() -> [UInt8] {
    let count = UInt32.random(in: 1...1 << UInt32(Limits.receiptPathDepthMax), using: &self)
    return UnverifiedReceipt.encode(
      body: receiptBody().encoded(), index: UInt32.random(in: 0..<count, using: &self), count: count,
      path: array(upTo: Limits.receiptPathDepthMax) { $0.id32() }, signature: bytes(64))
  }

  mutating func bundle() -> PrekeyBundle {
    PrekeyBundle(
      deviceList: shortBytes(), certificate: shortBytes(), signedPrekey: shortBytes(),
      oneTimePrekey: Bool.random(using: &self) ? bytes(1 + count(upTo: 9)) : nil)
  }

  mutating func hello() -> HelloBody {
    HelloBody(
      role: one(of: [.dialler, .listener]), version: integer(), name: nodeName(), nodeID: nodeID(),
      peerName: nodeName(), peerNodeID: nodeID(), nowMs: integer(), epoch: integer(), throughEpoch: integer(),
      through: integer(), maxFrame: integer(), window: integer(), features: LinkFeatures(rawValue: integer()))
  }

  mutating func outcome() -> DeliveryOutcome { one(of: [.accepted, .duplicate, .refused, .later]) }
  mutating func code() -> ErrorCode { one(of: ErrorCode.allCases) }

  mutating func part() -> PartFrame {
    let bytes = bytes(1 + count(upTo: 30))
    let offset: UInt32 = integer() >> 12
    return PartFrame(
      stream: integer(), firstSeq: integer(), total: offset + UInt32(bytes.count + count(upTo: 9)),
      offset: offset,
      bytes: bytes[...])
  }

  mutating func realtime() -> RealtimeFrame {
    switch Int.random(in: 0..<8, using: &self) {
    case 0: .send(request: integer(), envelopes: array(upTo: 3) { $0.shortBytes()[...] })
    case 1:
      .ack(
        request: integer(), acks: array(upTo: 3) { MailboxAck(seq: $0.integer(), receipt: $0.shortBytes()) })
    case 2: .credit(integer())
    case 3: .items(array(upTo: 3) { $0.item() })
    case 4:
      .outcomes(
        request: integer(),
        array(upTo: 3) { ItemOutcome($0.outcome(), code: $0.code(), receipt: $0.shortBytes()) })
    case 5: .consume(consume())
    case 6: .settle(request: integer(), settlements: array(upTo: 3) { $0.settlement() })
    default: .problem(code())
    }
  }

  mutating func item() -> MailboxItem {
    MailboxItem(
      kind: one(of: [.certificate, .envelope, .leased, .notice, .receipt]), seq: integer(),
      payload: shortBytes())
  }

  mutating func consume() -> ConsumeRequest {
    ConsumeRequest(
      prefetch: integer(), visibilityMs: integer(), countsDisconnects: Bool.random(using: &self))
  }

  mutating func settlement() -> Settlement {
    let delay: UInt32 = integer() >> 1
    let verb: Settlement.Verb =
      switch Int.random(in: 0..<4, using: &self) {
      case 0: .ack(receipt: bytes(1 + count(upTo: 40)))
      case 1: .nack(delayMs: Bool.random(using: &self) ? delay : nil, code: code())
      case 2: .reject(code: code(), receipt: shortBytes())
      default: .renew
      }
    return Settlement(seq: integer(), token: integer(), verb)
  }

  mutating func leased() -> LeasedEnvelope {
    LeasedEnvelope(token: integer(), attempt: integer(), leaseMs: integer(), envelope: shortBytes())
  }
}

/// What is well formed by construction; nil would be a mistake in this file.
func well<T>(_ value: T?) -> T {
  guard let value else { preconditionFailure("a random structure is not well formed") }
  return value
}
