package import EngramCore

/// Signs many receipts with one signature: a Merkle root over the batch (RFC 6962 shape).
package func signReceipts(_ bodies: [ReceiptBody], with key: SigningKey) -> [[UInt8]] {
  guard !bodies.isEmpty else { return [] }
  let encoded = bodies.map { $0.encoded() }
  let tree = MerkleTree(leaves: encoded.map { tagged("receipt", $0[...]) }, combine: combineReceipts)
  let (root, paths) = tree.rootAndPaths()
  let count = UInt32(encoded.count)
  let signature = key.sign("receipt-sig", bigEndianBytes(count)[...], root.bytes[...])
  return encoded.indices.map { index in
    UnverifiedReceipt.encode(
      body: encoded[index], index: UInt32(index), count: count, path: paths[index], signature: signature)
  }
}

/// A receipt whose signature holds under the key that it names. Whether that key is the right one for the
/// issuer is for the caller to say: `expectedKey` is pinned by whoever asks.
package struct VerifiedReceipt: Sendable {
  package let body: ReceiptBody
  package let bytes: [UInt8]

  package init(_ receipt: UnverifiedReceipt, bytes: [UInt8], expectedKey: SigningPublicKey)
    throws(SignatureError)
  {
    try self.init(receipt, bytes: bytes, expectedKey: VerifyingKey(expectedKey))
  }

  /// Under a key that was checked before: the check costs as much as the signature's.
  package init(_ receipt: UnverifiedReceipt, bytes: [UInt8], expectedKey: VerifyingKey)
    throws(SignatureError)
  {
    guard receipt.body.issuerKey == expectedKey.bytes else { throw .badSignature }
    guard receipt.body.role != .device || (receipt.count == 1 && receipt.path.isEmpty) else {
      throw .badSignature
    }
    let leaf = tagged("receipt", receipt.bodyBytes[...])
    let root = MerkleTree<Digest>.root(
      from: leaf, index: Int(receipt.index), count: Int(receipt.count), path: receipt.path,
      combine: combineReceipts)
    guard let root else { throw .badSignature }
    try expectedKey.verify(
      receipt.signature[...], "receipt-sig", bigEndianBytes(receipt.count)[...], root.bytes[...])
    body = receipt.body
    self.bytes = bytes
  }
}

@Sendable private func combineReceipts(_ left: Digest, _ right: Digest) -> Digest {
  let transcript = Transcript("receipt-node")
  transcript.absorb(left)
  transcript.absorb(right)
  return transcript.identifier()
}
