package import EngramCore
internal import Synchronization

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

/// Signs a device's receipts with few signatures: one for each sender's, and one for each 256 of those. A
/// path shows its reader how many were signed with it, and that is no sender's business but their own.
///
/// Returns them in the order of the bodies.
package func signDeviceReceipts(_ bodies: [ReceiptBody], with key: SigningKey) -> [[UInt8]] {
  guard bodies.count > 1 else { return signReceipts(bodies, with: key) }
  var receipts = [[UInt8]](repeating: [], count: bodies.count)
  for places in Dictionary(grouping: bodies.indices, by: { bodies[$0].sender }).values {
    for first in stride(from: 0, to: places.count, by: Limits.deviceReceiptsPerSignatureMax) {
      let part = places.dropFirst(first).prefix(Limits.deviceReceiptsPerSignatureMax)
      for (place, receipt) in zip(part, signReceipts(part.map { bodies[$0] }, with: key)) {
        receipts[place] = receipt
      }
    }
  }
  return receipts
}

/// A receipt whose signature holds under the key that it names. Whether that key is the right one for the
/// issuer is for the caller to say: `expectedKey` is pinned by whoever asks.
package struct VerifiedReceipt: Sendable {
  package let body: ReceiptBody
  package let bytes: [UInt8]

  package init(_ receipt: UnverifiedReceipt, bytes: [UInt8], expectedKey: SigningPublicKey)
    throws(SignatureError)
  {
    try self.init(receipt, bytes: bytes, key: try VerifyingKey(expectedKey))
  }

  /// - Parameters:
  ///   - key: pinned by whoever asks; checking that it is a good point costs as much as a signature.
  ///   - roots: batches of which the signature held before; this one is remembered there.
  package init(
    _ receipt: UnverifiedReceipt, bytes: [UInt8], key: VerifyingKey, roots: ReceiptRoots? = nil
  ) throws(SignatureError) {
    guard receipt.body.issuerKey == key.bytes else { throw .badSignature }
    // The path's length follows from index and count, and is checked with it.
    guard receipt.body.role != .device || receipt.count <= Limits.deviceReceiptsPerSignatureMax else {
      throw .badSignature
    }
    let leaf = tagged("receipt", receipt.bodyBytes[...])
    let root = MerkleTree<Digest>.root(
      from: leaf, index: Int(receipt.index), count: Int(receipt.count), path: receipt.path,
      combine: combineReceipts)
    guard let root else { throw .badSignature }
    let batch = ReceiptRoots.Batch(
      key: key.bytes, root: root, count: receipt.count, signature: receipt.signature)
    if receipt.count == 1 || roots?.holds(batch) != true {
      try key.verify(
        receipt.signature[...], "receipt-sig", bigEndianBytes(receipt.count)[...], root.bytes[...])
      if receipt.count > 1 { roots?.add(batch) }
    }
    body = receipt.body
    self.bytes = bytes
  }
}

/// Batches of receipts whose signature was verified: the other receipts of a batch need only their path to
/// the very same root, under the very same key and signature.
package final class ReceiptRoots: Sendable {
  struct Batch: Hashable, Sendable {
    let key: SigningPublicKey
    let root: Digest
    let count: UInt32
    let signature: [UInt8]
  }

  /// Receipts of one batch arrive close together; a few batches are under way at a time.
  private static let batchesMax = 256
  private let known = Mutex<Set<Batch>>([])

  package init() {}

  func holds(_ batch: Batch) -> Bool { known.withLock { $0.contains(batch) } }

  func add(_ batch: Batch) {
    known.withLock { known in
      if known.count >= Self.batchesMax { known.removeAll() }
      known.insert(batch)
    }
  }
}

@Sendable private func combineReceipts(_ left: Digest, _ right: Digest) -> Digest {
  let transcript = Transcript("receipt-node")
  transcript.absorb(left)
  transcript.absorb(right)
  return transcript.identifier()
}
