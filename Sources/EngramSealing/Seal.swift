package import EngramCore
package import EngramCrypto

/// Why a message was not sealed: always the caller's mistake.
package enum SealError: Error, Equatable, Sendable {
  case bodyTooLarge
  case contentTypeTooLong
  /// No recipient, too many, or one of them twice.
  case recipients
  /// Labels or attachments out of order, too many, or malformed.
  case header
}

/// One device to seal for, with its place in the sender's chain to it.
package struct SealRecipient: Sendable {
  package var recipient: Recipient
  package var prekey: SealingPublicKey
  package var chain: ChainPosition
  package init(recipient: Recipient, prekey: SealingPublicKey, chain: ChainPosition) {
    (self.recipient, self.prekey, self.chain) = (recipient, prekey, chain)
  }

  /// From the prekey that the recipient's directory answer carried.
  package init(_ prekey: Prekey, chain: ChainPosition) {
    let body = prekey.body
    self.init(
      recipient: Recipient(address: body.address, kid: body.kid, prekey: body.id, prekeyKind: body.kind),
      prekey: body.key, chain: chain)
  }
}

/// What the sender wants to say. Everything but `contentType` and `body` is visible to the nodes on the way.
package struct SealRequest: Sendable {
  package var kind: EnvelopeKind = .message
  package var messageID: MessageID
  package var thread: ThreadID
  package var parent: EnvelopeID?
  package var type: MessageType
  package var priority: Priority = .normal
  package var createdMs: UInt64
  package var expiresMs: UInt64
  package var notBeforeMs: UInt64 = 0
  package var topic = ""
  package var labels: [Label] = []
  package var attachments: [AttachmentID] = []
  package var contentType: String
  package var body: [UInt8]
  /// Only for bodies of one origin: padding does not hide the length of a compressed secret beside chosen
  /// text.
  package var mayCompress: Bool

  package init(
    messageID: MessageID, thread: ThreadID, type: MessageType, createdMs: UInt64, expiresMs: UInt64,
    contentType: String = "text/plain; charset=utf-8", body: [UInt8], mayCompress: Bool = false
  ) {
    (self.messageID, self.thread, self.type) = (messageID, thread, type)
    (self.createdMs, self.expiresMs) = (createdMs, expiresMs)
    (self.contentType, self.body, self.mayCompress) = (contentType, body, mayCompress)
  }
}

package struct SealedEnvelope: Sendable {
  package let bytes: [UInt8]
  package let id: EnvelopeID
}

/// Seals and signs a message on the sender's machine: suite 1 of the envelope, in the order of its
/// definition.
///
/// 1. K is drawn; `kcommit` commits to it.
/// 2. The body is compressed if allowed and useful, then padded (Padmé).
/// 3. H is fixed, and with it hH.
/// 4. The body is sealed once under `T("body", hH; K)`.
/// 5. K is wrapped for every recipient device with its chain position.
/// 6. The device signs hH, the hash of all wraps, and the hash of the ciphertext.
package func seal(
  _ request: SealRequest, from sender: Address, for recipients: [SealRecipient], device: SigningKey
) throws(SealError) -> SealedEnvelope {
  let ordered = recipients.sorted { Recipient.precedes($0.recipient, $1.recipient) }
  guard (1...Limits.recipientsMax).contains(ordered.count),
    zip(ordered, ordered.dropFirst()).allSatisfy({ Recipient.precedes($0.recipient, $1.recipient) })
  else { throw .recipients }

  let key = ContentKey()
  let padded = try padBody(request)
  let header = EnvelopeHeader(
    kind: request.kind, messageID: request.messageID, sender: sender, senderKid: device.kid,
    thread: request.thread, parent: request.parent, type: request.type, priority: request.priority,
    createdMs: request.createdMs, expiresMs: request.expiresMs, notBeforeMs: request.notBeforeMs,
    topic: request.topic, labels: request.labels, attachments: request.attachments,
    recipients: ordered.map(\.recipient), paddedLength: UInt32(padded.count),
    keyCommitment: key.commitment(to: request.messageID)
  ).encoded()
  guard (try? EnvelopeHeader(parsing: header[...])) != nil else { throw .header }

  let headerDigest = tagged("header", header[...])
  let ciphertext = key.seal(padded, header: headerDigest)
  let wraps = ordered.map { key.wrap(header: headerDigest, chain: $0.chain, for: $0.prekey) }
  let wrapsTranscript = Transcript("wraps")
  for wrap in wraps { wrapsTranscript.absorb(wrapDigest(wrap[...]).bytes) }
  let signature = device.sign(
    "envelope-sig", headerDigest.bytes[...], wrapsTranscript.finish()[...],
    tagged("ct", ciphertext[...]).bytes[...])

  let bytes = assembleEnvelope(
    header: header, slots: wraps.map { .full($0[...]) }, body: .sealed(ciphertext[...]), signature: signature)
  guard let envelope = try? UnverifiedEnvelope(parsing: bytes) else { throw .header }
  return SealedEnvelope(bytes: bytes, id: EnvelopeDigests(of: envelope).id)
}

private enum BodyEncoding {
  static let raw: UInt8 = 0
  static let zstd: UInt8 = 1
}

/// `P = alg || lp(M or zstd(M)) || zeros`, `M = lp(content type) || lp(body)`.
private func padBody(_ request: SealRequest) throws(SealError) -> [UInt8] {
  guard request.body.count <= Limits.bodyBytesMax else { throw .bodyTooLarge }
  guard request.contentType.utf8.count <= Limits.contentTypeBytesMax else { throw .contentTypeTooLong }
  let message = fields(capacity: request.body.count + 300) {
    $0.field(request.contentType)
    $0.field(request.body)
  }
  var (encoding, payload) = (BodyEncoding.raw, message)
  if request.mayCompress, message.count >= Limits.compressionBytesMin,
    let smaller = Compression.compress(message), smaller.count < message.count
  {
    (encoding, payload) = (BodyEncoding.zstd, smaller)
  }
  let length = paddedLength(of: payload.count + 5)
  var writer = FieldWriter(capacity: length)
  writer.raw(encoding)
  writer.field(payload)
  writer.raw(repeatElement(0, count: length - writer.bytes.count))
  return writer.bytes
}

/// The inverse, with zeros checked and output bounded; nil when anything is off.
func unpadBody(_ padded: [UInt8]) -> (contentType: String, body: [UInt8])? {
  guard let encoding = padded.first else { return nil }
  var reader = FieldReader(padded[1...])
  guard let payload = try? reader.field(), padded[reader.position...].allSatisfy({ $0 == 0 }),
    paddedLength(of: payload.count + 5) == padded.count
  else { return nil }
  let message: [UInt8]
  switch encoding {
  case BodyEncoding.raw: message = Array(payload)
  case BodyEncoding.zstd:
    let bound = Limits.bodyBytesMax + Limits.contentTypeBytesMax + 8
    guard let plain = Compression.decompress(Array(payload), max: bound) else { return nil }
    message = plain
  default: return nil
  }
  return try? parse(message[...]) { (r) throws(CodecError) in
    (try r.string(max: Limits.contentTypeBytesMax), Array(try r.field(max: Limits.bodyBytesMax)))
  }
}
