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

  /// A receipt that came, about whatever message of ours it names.
  func judge(_ bytes: [UInt8], in rows: ClientSnapshot) throws -> Result<VerifiedReceipt, ErrorCode> {
    let receipt: UnverifiedReceipt
    do throws(CodecError) {
      receipt = try UnverifiedReceipt(parsing: bytes[...])
    } catch { return .failure(error.code) }
    guard let row = try rows.outbox(envelope: receipt.body.envelope),
      let sent = try? UnverifiedEnvelope(parsing: row.envelope)
    else { return .failure(.notFound) }
    return try judge(bytes, about: sent.header, id: row.envelopeID, in: rows)
  }

  /// A receipt about one envelope of ours, whose header is given.
  func judge(
    _ bytes: [UInt8], about header: EnvelopeHeader, id: EnvelopeID, in rows: ClientSnapshot
  ) throws -> Result<VerifiedReceipt, ErrorCode> {
    let receipt: UnverifiedReceipt
    do throws(CodecError) {
      receipt = try UnverifiedReceipt(parsing: bytes[...])
    } catch { return .failure(error.code) }
    let body = receipt.body
    guard body.envelope == id, body.sender == account.address, body.senderKid == account.kid,
      body.messageID == header.messageID, isRecipient(body, of: header)
    else { return .failure(.nonCanonical) }
    guard let key = try expectedKey(body, in: rows) else { return .failure(.unknownDevice) }
    do throws(SignatureError) {
      return .success(try VerifiedReceipt(receipt, bytes: bytes, expectedKey: key))
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
