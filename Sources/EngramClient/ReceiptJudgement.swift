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
struct ReceiptJudge {
  let account: AccountRow
  let credentials: CredentialCache

  /// - Returns: the receipt and the outbox row it is about.
  func judge(_ bytes: [UInt8], in rows: ClientSnapshot) throws -> Result<VerifiedReceipt, ErrorCode> {
    let receipt: UnverifiedReceipt
    do throws(CodecError) {
      receipt = try UnverifiedReceipt(parsing: bytes[...])
    } catch { return .failure(error.code) }
    let body = receipt.body
    guard let row = try rows.outbox(envelope: body.envelope),
      let sent = try? UnverifiedEnvelope(parsing: row.envelope)
    else { return .failure(.notFound) }
    guard body.sender == account.address, body.senderKid == account.kid, body.messageID == row.messageID,
      isRecipient(body, of: sent.header)
    else { return .failure(.nonCanonical) }
    guard let key = try expectedKey(body, in: rows) else { return .failure(.unknownDevice) }
    do throws(SignatureError) {
      return .success(try VerifiedReceipt(receipt, bytes: bytes, expectedKey: key))
    } catch { return .failure(error.code) }
  }

  /// About the message as a whole, or about a device that it was sealed for.
  private func isRecipient(_ body: ReceiptBody, of header: EnvelopeHeader) -> Bool {
    guard let address = body.recipient, let kid = body.recipientKid else { return body.role == .homeNode }
    return header.recipients.contains { $0.address == address && $0.kid == kid }
  }

  private func expectedKey(_ body: ReceiptBody, in rows: ClientSnapshot) throws -> SigningPublicKey? {
    switch body.role {
    case .homeNode:
      return body.issuerName == account.address.node.text ? account.nodeID.key : nil
    case .recipientNode:
      guard let node = body.recipient?.node, body.issuerName == node.text else { return nil }
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
