package import EngramCore
package import EngramCrypto

/// Why a recipient does not take a message. Outward there is one generic error; the code goes into the
/// device's own records and its `failed` receipt.
package enum OpenError: Error, Equatable, Sendable {
  case notForThisDevice
  case prekeyGone
  /// The wrap, the header context, the ciphertext or the padding is wrong.
  case unsealFailed
  case commitmentMismatch

  package var code: ErrorCode {
    switch self {
    case .commitmentMismatch: .commitmentMismatch
    case .notForThisDevice: .notForThisDevice
    case .prekeyGone: .prekeyGone
    case .unsealFailed: .unsealFailed
    }
  }
}

/// A message as its recipient reads it.
package struct OpenedMessage: Sendable {
  package let header: EnvelopeHeader
  package let id: EnvelopeID
  package let contentType: String
  package let body: [UInt8]
  /// To be judged against the chain's record (`judgeChain`), and committed with the plaintext.
  package let chain: ChainPosition
  package let prekey: PrekeyID
  package let prekeyKind: PrekeyKind
}

/// Opens a verified envelope on the recipient's device, in the order of the protocol:
///
/// 1. Own (address, kid, prekey id) is listed, and its wrap is there in full.
/// 2. The wrap opens under that prekey.
/// 3. The header context inside the wrap is this header's: a wrap cannot be moved to another envelope.
/// 4. K matches the commitment in the signed header.
/// 5. The body's tag holds under the key derived from header and K.
/// 6. Padding is all zeros and of the one right length.
///
/// Signature and certificate come before (`VerifiedEnvelope`), chain and storage after.
package func open(
  _ verified: VerifiedEnvelope, as address: Address, kid: Kid, prekey: (PrekeyID) throws -> PrekeySecret?
) throws -> OpenedMessage {
  let header = verified.header
  guard let index = header.recipients.firstIndex(where: { $0.address == address && $0.kid == kid }),
    case .full(let wrap) = verified.envelope.slots[index],
    case .sealed(let ciphertext) = verified.envelope.body
  else { throw OpenError.notForThisDevice }
  let recipient = header.recipients[index]
  guard let secret = try prekey(recipient.prekey) else { throw OpenError.prekeyGone }

  guard let unwrapped = try? ContentKey.unwrap(wrap, with: secret),
    constantTimeEqual(unwrapped.headerPrefix, Array(verified.digests.header.bytes.prefix(16)))
  else { throw OpenError.unsealFailed }
  guard unwrapped.key.commitment(to: header.messageID) == header.keyCommitment else {
    throw OpenError.commitmentMismatch
  }
  guard let padded = unwrapped.key.open(ciphertext, header: verified.digests.header),
    let (contentType, body) = unpadBody(padded)
  else { throw OpenError.unsealFailed }
  return OpenedMessage(
    header: header, id: verified.id, contentType: contentType, body: body, chain: unwrapped.chain,
    prekey: recipient.prekey, prekeyKind: recipient.prekeyKind)
}
