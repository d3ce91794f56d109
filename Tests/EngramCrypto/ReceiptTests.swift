import EngramCore
import EngramCrypto
import TestSupport
import Testing

@Suite("Receipts")
struct ReceiptTests {
  let node: TestNode
  let alice: TestDevice
  let bob: TestDevice

  init() throws {
    node = try TestNode("beta.example")
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@beta.example")
  }

  private func body(_ attempt: UInt32, issuer: SigningPublicKey? = nil) throws -> ReceiptBody {
    ReceiptBody(
      role: .recipientNode, issuerName: node.name.text, issuerKey: issuer ?? node.key.publicKey,
      envelope: .zero,
      sender: alice.address, senderKid: alice.kid, messageID: .zero, recipient: bob.address,
      recipientKid: bob.kid,
      state: .delivered, attempt: attempt, atMs: TestTime.startMs)
  }

  private func verify(_ receipt: UnverifiedReceipt, key: SigningPublicKey? = nil) -> Bool {
    (try? VerifiedReceipt(receipt, bytes: [], expectedKey: key ?? node.key.publicKey)) != nil
  }

  private func batch(_ count: Int) throws -> [UnverifiedReceipt] {
    let bodies = try (0..<count).map { try body(UInt32($0)) }
    return try signReceipts(bodies, with: node.key).map { try UnverifiedReceipt(parsing: $0[...]) }
  }

  @Test("every receipt of a batch verifies under its one signature", arguments: 1...17)
  func batches(count: Int) throws {
    for (index, receipt) in try batch(count).enumerated() {
      #expect(verify(receipt))
      #expect((Int(receipt.index), Int(receipt.count)) == (index, count))
      #expect(receipt.body == (try body(UInt32(index))))
    }
  }

  @Test("a root that was verified once spares its batch the signature, and nobody else's")
  func knownRoots() throws {
    let key = try VerifyingKey(node.key.publicKey)
    let roots = ReceiptRoots()
    func holds(_ receipt: UnverifiedReceipt, _ key: VerifyingKey, known: Bool = true) -> Bool {
      (try? VerifiedReceipt(receipt, bytes: [], key: key, roots: known ? roots : nil)) != nil
    }
    let receipts = try batch(9)
    for _ in 0..<2 { for receipt in receipts { #expect(holds(receipt, key)) } }
    for receipt in receipts {
      var changed = receipt
      changed.bodyBytes[8] ^= 1
      #expect(!holds(changed, key), "another statement")
      changed = receipt
      changed.signature[0] ^= 1
      #expect(!holds(changed, key), "another signature")
      changed = receipt
      changed.path[0] = .zero
      #expect(!holds(changed, key), "another path")
      changed = receipt
      changed.count += 1
      #expect(!holds(changed, key), "another count")
    }
    let other = try VerifyingKey(TestNode("gamma.example").key.publicKey)
    #expect(!holds(receipts[0], other))
    // More batches than are remembered: forgetting costs a signature and nothing else.
    for _ in 0..<300 { for receipt in try batch(2) { #expect(holds(receipt, key)) } }
    #expect(receipts.allSatisfy { holds($0, key) })
  }

  @Test(
    "another index, another count, a forged, shorter or longer path is refused", arguments: [1, 2, 3, 5, 8])
  func forgedPaths(count: Int) throws {
    for receipt in try batch(count) {
      #expect(verify(receipt), "control")
      for index in 0..<UInt32(16) where index != receipt.index {
        var moved = receipt
        moved.index = index
        #expect(!verify(moved))
      }
      for other in UInt32(1)...17 where other != receipt.count && other > receipt.index {
        var resized = receipt
        resized.count = other
        #expect(!verify(resized))
      }
      for place in receipt.path.indices {
        var forged = receipt
        forged.path[place] = .zero
        #expect(!verify(forged))
        forged.path.remove(at: place)
        #expect(!verify(forged))
      }
      var longer = receipt
      longer.path.append(.zero)
      #expect(!verify(longer))
    }
  }

  @Test("the body of one receipt does not verify in the place of another")
  func exchangedBodies() throws {
    let receipts = try batch(4)
    var exchanged = receipts[1]
    exchanged.bodyBytes = receipts[2].bodyBytes
    exchanged.body = receipts[2].body
    #expect(!verify(exchanged))
    exchanged.index = 2
    #expect(!verify(exchanged))
    exchanged.path = receipts[2].path
    #expect(verify(exchanged), "control: with index and path it is the other receipt")
  }

  @Test("a receipt of another issuer, or one that names another key, is refused")
  func issuers() throws {
    let other = try TestNode("evil.example")
    let receipt = try batch(1)[0]
    #expect(!verify(receipt, key: other.key.publicKey))
    let posing = try signReceipts([body(0)], with: other.key)[0]
    #expect(!verify(try UnverifiedReceipt(parsing: posing[...])))
    let own = try signReceipts([body(0, issuer: other.key.publicKey)], with: other.key)[0]
    #expect(!verify(try UnverifiedReceipt(parsing: own[...])))
    #expect(verify(try UnverifiedReceipt(parsing: own[...]), key: other.key.publicKey), "control")
  }

  @Test("every single bit flip of a receipt is refused")
  func bitFlips() throws {
    var bytes = try signReceipts((0..<3).map { try body($0) }, with: node.key)[1]
    for bit in 0..<bytes.count * 8 {
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      if let receipt = try? UnverifiedReceipt(parsing: bytes[...]) { #expect(!verify(receipt), "bit \(bit)") }
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
    }
    #expect(verify(try UnverifiedReceipt(parsing: bytes[...])), "control: all flips were undone")
  }

  @Test("paths of the fast pass equal the recursion of RFC 6962, for every size up to 33")
  func pathsMatchTheDefinition() {
    let combine: @Sendable (String, String) -> String = { "(\($0)\($1))" }
    func root(_ leaves: ArraySlice<String>) -> String {
      guard leaves.count > 1, let first = leaves.first else { return leaves.first ?? "" }
      var split = 1
      while split * 2 < leaves.count { split *= 2 }
      _ = first
      return combine(root(leaves.prefix(split)), root(leaves.dropFirst(split)))
    }
    for count in 1...33 {
      let leaves = (0..<count).map(String.init)
      let tree = MerkleTree(leaves: leaves, combine: combine)
      let (top, paths) = tree.rootAndPaths()
      #expect(top == root(leaves[...]))
      #expect(tree.root == top)
      for (index, path) in paths.enumerated() {
        let reached = MerkleTree<String>.root(
          from: leaves[index], index: index, count: count, path: path, combine: combine)
        #expect(reached == top)
      }
    }
  }
}
