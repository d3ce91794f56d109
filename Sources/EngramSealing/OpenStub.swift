package import EngramCore
package import EngramCrypto

/// Reads the chain position out of a stub: an envelope whose body is only a hash. The first three steps of
/// `open`, and the commitment: the wrap has to be this device's, of this header, around the key that the
/// sender committed to.
package func openStub(
  _ verified: VerifiedEnvelope, as address: Address, kid: Kid, prekey: (PrekeyID) throws -> PrekeySecret?
) throws -> ChainPosition {
  let header = verified.header
  guard let index = header.recipients.firstIndex(where: { $0.address == address && $0.kid == kid }),
    case .full(let wrap) = verified.envelope.slots[index]
  else { throw OpenError.notForThisDevice }
  guard let secret = try prekey(header.recipients[index].prekey) else { throw OpenError.prekeyGone }
  guard let unwrapped = try? ContentKey.unwrap(wrap, with: secret),
    constantTimeEqual(unwrapped.headerPrefix, Array(verified.digests.header.bytes.prefix(16)))
  else { throw OpenError.unsealFailed }
  guard unwrapped.key.commitment(to: header.messageID) == header.keyCommitment else {
    throw OpenError.commitmentMismatch
  }
  return unwrapped.chain
}
