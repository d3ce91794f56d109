internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

/// Judges a receipt about a message of ours: it must be about an envelope that this device sealed, and signed
/// with the key that is pinned for whoever it names.
///
/// - home node: the node id of the account.
/// - recipient's node: the node id pinned for that node's name.
/// - device: the key in the certificate of a device that the envelope was sealed for, certified by the
///   recipient's pinned identity.
///
/// Made for one transaction: what it looked up about issuers it does not look up again.
struct ReceiptJudge {
  let account: AccountRow
  let credentials: CredentialCache
  private var issuers: [Issuer: SigningPublicKey] = [:]

  private struct Issuer: Hashable {
    let role: ReceiptRole
    let name: String
    let recipient: Address?
    let kid: Kid?
  }

  init(account: AccountRow, credentials: CredentialCache) {
    (self.account, self.credentials) = (account, credentials)
  }

  /// - Parameter row: the message that it has to be about; nil finds it by the envelope id.
  mutating func judge(
    _ bytes: [UInt8], about row: OutboxRow? = nil, in rows: ClientSnapshot
  ) throws -> Result<VerifiedReceipt, ErrorCode> {
    let receipt: UnverifiedReceipt
    do throws(CodecError) {
      receipt = try UnverifiedReceipt(parsing: bytes[...])
    } catch { return .failure(error.code) }
    guard let row = try row ?? rows.outbox(envelope: receipt.body.envelope),
      row.envelopeID == receipt.body.envelope,
      let sent = try? UnverifiedEnvelope(parsing: row.envelope)
    else { return .failure(.notFound) }
    return try judge(receipt, bytes, about: sent.header, id: row.envelopeID, in: rows)
  }

  /// A receipt about one envelope of ours, whose header is given.
  mutating func judge(
    _ bytes: [UInt8], about header: EnvelopeHeader, id: EnvelopeID, in rows: ClientSnapshot
  ) throws -> Result<VerifiedReceipt, ErrorCode> {
    let receipt: UnverifiedReceipt
    do throws(CodecError) {
      receipt = try UnverifiedReceipt(parsing: bytes[...])
    } catch { return .failure(error.code) }
    return try judge(receipt, bytes, about: header, id: id, in: rows)
  }

  private mutating func judge(
    _ receipt: UnverifiedReceipt, _ bytes: [UInt8], about header: EnvelopeHeader, id: EnvelopeID,
    in rows: ClientSnapshot
  ) throws -> Result<VerifiedReceipt, ErrorCode> {
    let body = receipt.body
    guard body.envelope == id, body.sender == account.address, body.senderKid == account.kid,
      body.messageID == header.messageID, isRecipient(body, of: header)
    else { return .failure(.nonCanonical) }
    let issuer = Issuer(
      role: body.role, name: body.issuerName, recipient: body.recipient, kid: body.recipientKid)
    guard let expected = try issuers[issuer] ?? expectedKey(body, in: rows) else {
      return .failure(.unknownDevice)
    }
    issuers[issuer] = expected
    do throws(SignatureError) {
      return .success(
        try VerifiedReceipt(
          receipt, bytes: bytes, key: try credentials.key(expected), roots: credentials.roots))
    } catch { return .failure(error.code) }
  }

  /// About a device that the message was sealed for, or about the message as a whole: by our own node, or by
  /// a node of its recipients about all of its clients.
  private func isRecipient(_ body: ReceiptBody, of header: EnvelopeHeader) -> Bool {
    if let address = body.recipient, let kid = body.recipientKid {
      return header.recipients.contains { $0.address == address && $0.kid == kid }
    }
    switch body.role {
    case .homeNode: return true
    case .recipientNode: return header.recipients.contains { $0.address.node.text == body.issuerName }
    case .device: return false
    }
  }

  private func expectedKey(_ body: ReceiptBody, in rows: ClientSnapshot) throws -> SigningPublicKey? {
    switch body.role {
    case .homeNode:
      return body.issuerName == account.address.node.text ? account.nodeID.key : nil
    case .recipientNode:
      guard let node = try? NodeName(body.issuerName), body.recipient.map({ $0.node == node }) ?? true else {
        return nil
      }
      return try rows.nodePin(node)?.id.key
    case .device:
      guard let address = body.recipient, let kid = body.recipientKid, body.issuerName == address.text,
        let bytes = try rows.certificate(of: kid), let certificate = try? credentials.certificate(bytes),
        certificate.body.address == address, certificate.kid == kid,
        try rows.peer(address)?.identity == certificate.body.identity
      else { return nil }
      return certificate.body.signing
    }
  }
}
