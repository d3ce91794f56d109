/// A recipient's place in an envelope: the wrap itself, or its hash on copies that go elsewhere.
package enum WrapSlot: Equatable, Sendable {
  /// `0x01 Wi`
  case full(ArraySlice<UInt8>)
  /// `0x02 T("wrap", Wi)`
  case pruned(Digest)

  package var isFull: Bool {
    if case .full = self { true } else { false }
  }
}

package enum EnvelopeBody: Equatable, Sendable {
  /// `0x01 C`
  case sealed(ArraySlice<UInt8>)
  /// `0x02 T("ct", C)`: what is left of a message whose body is gone; closes gaps in chains.
  case stub(Digest)
}

/// An envelope that is well formed and nothing more. `VerifiedEnvelope` is the next step.
package struct UnverifiedEnvelope: Sendable {
  /// The bytes as they came: they are stored and forwarded unchanged.
  package let bytes: [UInt8]
  package let header: EnvelopeHeader
  package let headerBytes: ArraySlice<UInt8>
  /// One per recipient, in recipient order.
  package let slots: [WrapSlot]
  package let body: EnvelopeBody
  package let signature: ArraySlice<UInt8>

  /// Checks sizes, structure and canonical form; no signature, no time, no policy.
  package init(parsing bytes: [UInt8]) throws(CodecError) {
    guard bytes.count <= Limits.envelopeBytesMax else { throw .tooLarge }
    var r = FieldReader(bytes)
    headerBytes = try r.field(max: Limits.headerBytesMax)
    header = try EnvelopeHeader(parsing: headerBytes)
    var slots: [WrapSlot] = []
    try r.list(maxCount: Limits.recipientsMax) { (list) throws(CodecError) in
      slots.append(try Self.parseSlot(try list.field(max: Limits.wrapBytes + 1)))
    }
    guard slots.count == header.recipients.count else { throw .wrongLength }
    self.slots = slots
    body = try Self.parseBody(try r.field(), paddedLength: Int(header.paddedLength))
    signature = try r.field(max: Limits.signatureBytes)
    guard signature.count == Limits.signatureBytes else { throw .wrongLength }
    try r.finish()
    self.bytes = bytes
  }

  package var isStub: Bool {
    if case .stub = body { true } else { false }
  }

  private static func parseSlot(_ field: ArraySlice<UInt8>) throws(CodecError) -> WrapSlot {
    switch field.first {
    case 1:
      guard field.count == Limits.wrapBytes + 1 else { throw .wrongLength }
      return .full(field.dropFirst())
    case 2: return .pruned(try Digest(field: field.dropFirst()))
    case nil: throw .truncated
    default: throw .unknownValue
    }
  }

  private static func parseBody(_ field: ArraySlice<UInt8>, paddedLength: Int) throws(CodecError)
    -> EnvelopeBody
  {
    switch field.first {
    case 1:
      guard field.count == 1 + paddedLength + Limits.ciphertextOverhead else { throw .wrongLength }
      return .sealed(field.dropFirst())
    case 2: return .stub(try Digest(field: field.dropFirst()))
    case nil: throw .truncated
    default: throw .unknownValue
    }
  }

  /// Whether the full slots are exactly those of the recipients for which `isFull` holds.
  package func hasPattern(fullFor isFull: (Recipient) -> Bool) -> Bool {
    zip(header.recipients, slots).allSatisfy { $1.isFull == isFull($0) }
  }
}

/// Assembles `lp(H) lp(lp(slot)…) lp(body) lp(S)`.
package func assembleEnvelope(
  header: some Collection<UInt8>, slots: [WrapSlot], body: EnvelopeBody, signature: some Collection<UInt8>
) -> [UInt8] {
  var size = header.count + 128 + slots.count * (Limits.wrapBytes + 5)
  if case .sealed(let ciphertext) = body { size += ciphertext.count }
  return fields(capacity: size) { w in
    w.field(header)
    w.list { list in
      for slot in slots {
        switch slot {
        case .full(let wrap): list.field([1] + wrap)
        case .pruned(let digest): list.field([2] + digest.bytes)
        }
      }
    }
    switch body {
    case .sealed(let ciphertext):
      w.raw(UInt32(ciphertext.count + 1))
      w.raw(UInt8(1))
      w.raw(ciphertext)
    case .stub(let digest): w.field([2] + digest.bytes)
    }
    w.field(signature)
  }
}

/// Splits a batch: `lp(envelope)…`, as posted by clients and carried in deliver frames.
package func splitBatch(
  _ bytes: ArraySlice<UInt8>, maxCount: Int = Limits.envelopesPerBatchMax
) throws(CodecError) -> [ArraySlice<UInt8>] {
  var reader = FieldReader(bytes)
  var items: [ArraySlice<UInt8>] = []
  try reader.rest(maxCount: maxCount) { (r) throws(CodecError) in
    items.append(try r.field(max: Limits.envelopeBytesMax))
  }
  return items
}
