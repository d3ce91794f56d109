import EngramCore
import EngramCrypto
import TestSupport
import Testing

@Suite("Receipts that a device signs together")
struct DeviceReceiptTests {
  let alice: TestDevice
  let bob: TestDevice
  let carol: TestDevice

  init() throws {
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@beta.example")
    carol = try TestDevice("carol@beta.example")
  }

  private func body(_ attempt: Int, by device: TestDevice, to sender: TestDevice? = nil) -> ReceiptBody {
    let sender = sender ?? alice
    return ReceiptBody(
      role: .device, issuerName: device.address.text, issuerKey: device.key.publicKey, envelope: .zero,
      sender: sender.address, senderKid: sender.kid, messageID: .zero, recipient: device.address,
      recipientKid: device.kid, state: .processed, attempt: UInt32(attempt), atMs: TestTime.startMs)
  }

  private func holds(
    _ receipt: UnverifiedReceipt, _ key: SigningPublicKey? = nil, roots: ReceiptRoots? = nil
  ) throws -> Bool {
    let key = try VerifyingKey(key ?? bob.key.publicKey)
    return (try? VerifiedReceipt(receipt, bytes: [], key: key, roots: roots)) != nil
  }

  private func parsed(_ receipts: [[UInt8]]) throws -> [UnverifiedReceipt] {
    try receipts.map { try UnverifiedReceipt(parsing: $0[...]) }
  }

  private func batch(_ count: Int) throws -> [UnverifiedReceipt] {
    try parsed(signReceipts((0..<count).map { body($0, by: bob) }, with: bob.key))
  }

  @Test(
    "each of them verifies alone, from its own bytes and the device's key",
    arguments: [1, 2, 3, 17, 255, Limits.deviceReceiptsPerSignatureMax])
  func alone(count: Int) throws {
    for receipt in try batch(count) {
      #expect(try holds(receipt))
      #expect(receipt.path.count <= 8)
    }
  }

  @Test("more than the limit are refused, although the signature is good")
  func tooMany() throws {
    let count = Limits.deviceReceiptsPerSignatureMax + 1
    for receipt in try batch(count).prefix(3) { #expect(try !holds(receipt)) }
    let key = bob.key
    let bodies = (0..<count).map { body($0, by: bob) }
    let signed = try parsed(signDeviceReceipts(bodies, with: key))
    #expect(signed.map(\.body) == bodies)
    #expect(try signed.allSatisfy { try holds($0) }, "control: what a device makes is within it")
    #expect(Set(signed.map(\.count)) == [256, 1])
  }

  @Test("another leaf's path, index, count or statement is refused, and so is every path of another form")
  func forged() throws {
    let receipts = try batch(6)
    let roots = ReceiptRoots()
    for receipt in receipts { #expect(try holds(receipt, roots: roots), "control") }
    for (place, receipt) in receipts.enumerated() {
      for known in [nil, roots] {
        func refused(_ change: (inout UnverifiedReceipt) -> Void) throws -> Bool {
          var changed = receipt
          change(&changed)
          return try !holds(changed, roots: known)
        }
        let other = receipts[(place + 1) % receipts.count]
        #expect(try refused { $0.path = other.path })
        #expect(try refused { $0.index = other.index })
        #expect(try refused { ($0.index, $0.path) = (other.index, other.path) })
        #expect(try refused { $0.bodyBytes = other.bodyBytes })
        #expect(try refused { $0.index = $0.count })
        #expect(try refused { $0.count = 7 })
        #expect(try refused { $0.count = 1 })
        #expect(try refused { ($0.index, $0.count, $0.path) = (0, 1, []) })
        #expect(try refused { $0.path.append(.zero) })
        #expect(try refused { $0.path.insert(.zero, at: 0) })
        #expect(try refused { $0.path.removeLast() })
        #expect(try refused { $0.path.reverse() } || receipt.path == receipt.path.reversed())
        #expect(try refused { $0.signature[63] ^= 1 })
      }
    }
  }

  @Test("an index outside the batch and a path of broken length are not even parsed")
  func malformed() throws {
    let receipt = try batch(3)[1]
    func bytes(index: UInt32 = 1, count: UInt32 = 3, cut: Int = 0) -> [UInt8] {
      fields { w in
        w.field(receipt.bodyBytes)
        w.field(index)
        w.field(count)
        w.field(Array(receipt.path.flatMap(\.bytes).dropLast(cut)))
        w.field(receipt.signature)
      }
    }
    #expect(throws: Never.self) { try UnverifiedReceipt(parsing: bytes()[...]) }
    for index in [3, 4, UInt32.max] {
      #expect(throws: CodecError.nonCanonical) { try UnverifiedReceipt(parsing: bytes(index: index)[...]) }
    }
    #expect(throws: CodecError.nonCanonical) {
      try UnverifiedReceipt(parsing: bytes(index: 0, count: 0)[...])
    }
    #expect(throws: CodecError.wrongLength) { try UnverifiedReceipt(parsing: bytes(cut: 1)[...]) }
  }

  @Test("a node of the tree is no statement, and a statement no node")
  func separation() throws {
    let bodies = (0..<2).map { body($0, by: bob) }
    let leaves = bodies.map { tagged("receipt", $0.encoded()[...]) }
    let pair = leaves[0].bytes + leaves[1].bytes
    #expect(tagged("receipt", pair[...]) != tagged("receipt-node", pair[...]))
    let receipt = try parsed(signReceipts(bodies, with: bob.key))[0]
    var upper = receipt
    (upper.bodyBytes, upper.path, upper.index, upper.count) = (pair, [], 0, 1)
    #expect(try !holds(upper))
  }

  @Test("a statement that is signed twice is the same one twice")
  func duplicates() throws {
    let receipts = try parsed(signDeviceReceipts([body(1, by: bob), body(1, by: bob)], with: bob.key))
    #expect(receipts[0].body == receipts[1].body)
    #expect(try receipts.allSatisfy { try holds($0) })
  }

  @Test("another issuer among them proves nothing, and takes nothing from the others")
  func mixedIssuers() throws {
    let roots = ReceiptRoots()
    let bodies = [body(0, by: bob), body(1, by: carol), body(2, by: bob)]
    let receipts = try parsed(signReceipts(bodies, with: bob.key))
    for known in [roots, nil] {
      #expect(try receipts.map { try holds($0, roots: known) } == [true, false, true])
      let key = carol.key.publicKey
      #expect(try receipts.map { try holds($0, key, roots: known) } == [false, false, false])
    }
  }

  @Test("a forged one among good ones is refused alone, wherever it stands")
  func oneBad() throws {
    for place in 0..<5 {
      var receipts = try batch(5)
      receipts[place].bodyBytes[12] ^= 1
      let roots = ReceiptRoots()
      let verdicts = try receipts.map { try holds($0, roots: roots) }
      #expect(verdicts == (0..<5).map { $0 != place })
    }
  }

  @Test("what one sender is shown tells nothing of another: each has a signature of its own")
  func bySender() throws {
    let dave = try TestDevice("dave@acme.example")
    let senders = [alice, dave, alice, alice, dave]
    let bodies = senders.enumerated().map { body($0.offset, by: bob, to: $0.element) }
    let receipts = try parsed(signDeviceReceipts(bodies, with: bob.key))
    #expect(receipts.map(\.body) == bodies)
    #expect(receipts.map(\.count) == [3, 2, 3, 3, 2])
    #expect(receipts.map(\.index) == [0, 0, 1, 2, 1])
    #expect(try receipts.allSatisfy { try holds($0) })
    #expect(Set(receipts.map(\.signature)).count == 2)
    let leaves = bodies.map { tagged("receipt", $0.encoded()[...]) }
    #expect(receipts[1].path == [leaves[4]] && receipts[4].path == [leaves[1]], "control: nothing else")
    #expect(signDeviceReceipts([], with: bob.key).isEmpty)
  }
}
