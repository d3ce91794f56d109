package import EngramCore

/// The hashes that everything about an envelope hangs on. The same for full, pruned and stub copies.
package struct EnvelopeDigests: Equatable, Sendable {
  /// `hH = T("header", H)`
  package let header: Digest
  /// `wT = T("wraps", T("wrap", W1), …)`
  package let wraps: Digest
  /// `cT = T("ct", C)`
  package let ciphertext: Digest
  /// `T("envelope", hH, wT, cT, S)`
  package let id: EnvelopeID

  package init(of envelope: UnverifiedEnvelope) {
    header = tagged("header", envelope.headerBytes)
    let transcript = Transcript("wraps")
    for slot in envelope.slots {
      switch slot {
      case .full(let wrap): transcript.absorb(wrapDigest(wrap))
      case .pruned(let digest): transcript.absorb(digest)
      }
    }
    wraps = transcript.identifier()
    ciphertext =
      switch envelope.body {
      case .sealed(let bytes): tagged("ct", bytes)
      case .stub(let digest): digest
      }
    let id = Transcript("envelope")
    id.absorb(header)
    id.absorb(wraps)
    id.absorb(ciphertext)
    id.absorb(envelope.signature)
    self.id = id.identifier()
  }
}

/// An envelope whose sender's signature holds under a certified key. The only constructor checks it; time,
/// replay and policy come later.
package struct VerifiedEnvelope: Sendable {
  package let envelope: UnverifiedEnvelope
  package let digests: EnvelopeDigests
  package var id: EnvelopeID { digests.id }
  package var header: EnvelopeHeader { envelope.header }

  /// - Throws: `unknownDevice` when the certificate is not the sender's, `badSignature` when S does not hold.
  package init(_ envelope: UnverifiedEnvelope, sender: DeviceCertificate) throws(CredentialError) {
    guard sender.kid == envelope.header.senderKid, sender.body.address == envelope.header.sender else {
      throw .inconsistent(.unknownDevice)
    }
    digests = EnvelopeDigests(of: envelope)
    do throws(SignatureError) {
      try sender.key.verify(
        envelope.signature, "envelope-sig", digests.header.bytes[...], digests.wraps.bytes[...],
        digests.ciphertext.bytes[...])
    } catch { throw .signature(error) }
    self.envelope = envelope
  }

  /// The copy for one destination: full wraps exactly where `keep` holds, hashes elsewhere.
  package func pruned(keeping keep: (Recipient) -> Bool) -> [UInt8] {
    pruneEnvelope(envelope, keeping: keep)
  }
}

/// Replaces the wraps of everybody else by their hashes; the envelope id stays the same.
package func pruneEnvelope(_ envelope: UnverifiedEnvelope, keeping keep: (Recipient) -> Bool) -> [UInt8] {
  let slots = zip(envelope.header.recipients, envelope.slots).map { recipient, slot in
    if case .full(let wrap) = slot, !keep(recipient) { WrapSlot.pruned(wrapDigest(wrap)) } else { slot }
  }
  return assembleEnvelope(
    header: envelope.headerBytes, slots: slots, body: envelope.body, signature: envelope.signature)
}

/// Time rules of the envelope, `Limits` for the numbers.
package func checkTimes(_ header: EnvelopeHeader, nowMs: UInt64, ttlMsMax: UInt64 = Limits.ttlMsMax)
  -> ErrorCode
{
  let (created, expires, notBefore) = (header.createdMs, header.expiresMs, header.notBeforeMs)
  if created > nowMs + Limits.clockSkewMs { return .futureDated }
  if expires <= nowMs { return .expired }
  if expires <= created || expires - created > min(ttlMsMax, Limits.ttlMsMax) { return .lifetimeTooLong }
  if notBefore != 0, !(created <= notBefore && notBefore < expires) { return .notBeforeInvalid }
  return .none
}
