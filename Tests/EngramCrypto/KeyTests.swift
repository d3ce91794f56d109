import EngramCore
import EngramCrypto
import TestSupport
import Testing

@Suite("Public keys and signatures")
struct KeyTests {
  private func key(_ text: String) throws -> SigningPublicKey {
    try #require(bytes(hex: text).flatMap { SigningPublicKey($0) })
  }
  private func x25519(_ bytes: [UInt8]) throws -> SealingPublicKey { try #require(SealingPublicKey(bytes)) }

  /// The eight points of small order (both signs where x is not 0), and the other encodings that RFC 8032
  /// decoders have been seen to accept for them: y = p, y = p + 1, and x = 0 with the sign bit set.
  static let smallOrder = [
    "0000000000000000000000000000000000000000000000000000000000000000",  // order 4
    "0000000000000000000000000000000000000000000000000000000000000080",  // order 4
    "0100000000000000000000000000000000000000000000000000000000000000",  // order 1
    "0100000000000000000000000000000000000000000000000000000000000080",  // order 1, x = -0
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",  // order 8
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",  // order 8
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",  // order 8
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",  // order 8
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  // order 2
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",  // order 2, x = -0
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  // y = p: order 4
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",  // y = p: order 4
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  // y = p + 1: order 1
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",  // y = p + 1: order 1, x = -0
  ]

  /// A = the key of the seed 00 01 02 … 1f, plus a point of order 2, 4 and 8: valid for cofactored verifiers,
  /// ambiguous elsewhere. libsodium before its fix of CVE-2025-69277 accepts the first.
  static let mixedOrder = [
    "ea5ef8400c31ef41e28f22e718b43f66981b29cf645af2a0e223799bedaace47",
    "62d5a653bcdb4ced227281ab7f0f2d1eebed4fb114b1aead9758cf56aeebd493",
    "b154bd62188ae283dd187fefe8c31f5e276edf083b4cff11c9d5cff856c74440",
  ]

  @Test("Ed25519 keys of small order, in every encoding, are refused", arguments: smallOrder + mixedOrder)
  func smallOrderKeys(text: String) throws {
    #expect(throws: SignatureError.weakKey) { try VerifyingKey(key(text)) }
  }

  @Test("Ed25519 keys whose y is not reduced are refused")
  func nonCanonicalKeys() throws {
    for low in UInt8(0xed)...0xff {
      for high in [UInt8(0x7f), 0xff] {
        let bytes = [low] + [UInt8](repeating: 0xff, count: 30) + [high]
        let key = try #require(SigningPublicKey(bytes))
        #expect(throws: SignatureError.weakKey) { try VerifyingKey(key) }
      }
    }
  }

  @Test("a key that is no point of the curve is refused")
  func offCurve() throws {
    let two = try #require(SigningPublicKey([2] + [UInt8](repeating: 0, count: 31)))
    #expect(throws: SignatureError.weakKey) { try VerifyingKey(two) }
  }

  @Test("control: the keys that the bad ones were made from are accepted")
  func validKeys() throws {
    #expect(throws: Never.self) { try VerifyingKey(signingKey(seed: Array(0..<32)).publicKey) }
    for index in 0..<50 {
      #expect(throws: Never.self) { try VerifyingKey(signingKey(named: "key \(index)").publicKey) }
    }
  }

  @Test("X25519 keys of low order and every second encoding are refused")
  func weakSealingKeys() throws {
    // RFC 7748 section 6.1, and the list at https://cr.yp.to/ecdh.html#validate.
    let lowOrder = [
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "cdeb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b880",
      "4c9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f11d7",
      "d9ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
      "daffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
      "dbffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ]
    for text in lowOrder {
      let key = try #require(bytes(hex: text))
      #expect(!isUsableSealingKey(try x25519(key)), "\(text)")
    }
    for low in UInt8(0xed)...0xff {
      let unreduced = [low] + [UInt8](repeating: 0xff, count: 30) + [0x7f]
      #expect(!isUsableSealingKey(try x25519(unreduced)))
    }
    var good = try TestDevice("good@acme.example").prekey.body.key.bytes
    #expect(isUsableSealingKey(try x25519(good)), "control: a real key is accepted")
    good[31] |= 0x80
    #expect(!isUsableSealingKey(try x25519(good)), "the same key with the ignored bit set is not")
    let nine = [9] + [UInt8](repeating: 0, count: 31)
    #expect(isUsableSealingKey(try x25519(nine)), "control: the base point")
  }

  @Test("a signature is refused with S + L, with one bit flipped, under another label, and with other parts")
  func signatures() throws {
    let signer = signingKey(named: "signer")
    let verifier = try VerifyingKey(signer.publicKey)
    let message: [UInt8] = [1, 2, 3]
    let signature = signer.sign("envelope-sig", message[...])
    try verifier.verify(signature[...], "envelope-sig", message[...])

    var malleable = signature
    addGroupOrder(&malleable)
    #expect(malleable != signature)
    var refused = [malleable]
    for bit in 0..<512 {
      var flipped = signature
      flipped[bit / 8] ^= 1 << UInt8(bit % 8)
      refused.append(flipped)
    }
    refused += [[], Array(signature.dropLast()), signature + [0]]
    for bad in refused {
      #expect(throws: SignatureError.badSignature) {
        try verifier.verify(bad[...], "envelope-sig", message[...])
      }
    }
    #expect(throws: SignatureError.badSignature) {
      try verifier.verify(signature[...], "hello-sig", message[...])
    }
    #expect(throws: SignatureError.badSignature) {
      try verifier.verify(signature[...], "envelope-sig", message[..<2], message[2...])
    }
    let other = try VerifyingKey(signingKey(named: "other").publicKey)
    #expect(throws: SignatureError.badSignature) {
      try other.verify(signature[...], "envelope-sig", message[...])
    }
  }

  /// S + L where S is the second half of the signature, little-endian (RFC 8032 section 5.1.7 forbids it).
  private func addGroupOrder(_ signature: inout [UInt8]) {
    let order = bytes(hex: "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010") ?? []
    var carry = 0
    for index in 0..<32 {
      let sum = Int(signature[32 + index]) + Int(order[index]) + carry
      signature[32 + index] = UInt8(sum & 255)
      carry = sum >> 8
    }
  }

  @Test("the seed of a key makes the same key again")
  func seeds() {
    let key = SigningKey()
    let again = SigningKey(seed: key.seed())
    #expect(again.publicKey == key.publicKey)
    #expect(SigningKey().publicKey != key.publicKey)
  }
}

@Suite("Secrets in memory")
struct SecretBytesTests {
  @Test("moving bytes into guarded memory wipes the source")
  func consuming() {
    var source: [UInt8] = [1, 2, 3, 4]
    let secret = SecretBytes(consuming: &source)
    #expect(source == [0, 0, 0, 0])
    #expect(secret.withUnsafeBytes { Array($0) } == [1, 2, 3, 4])
  }

  @Test("a brief secret's place is wiped when it ends, and taken again")
  func briefSecrets() {
    func place(_ secret: borrowing SecretBytes) -> UnsafeRawPointer? {
      secret.withUnsafeBytes { $0.baseAddress }
    }
    func briefly(_ byte: UInt8) -> UnsafeRawPointer? {
      let secret = SecretBytes(brief: 40) { $0.copyBytes(from: [UInt8](repeating: byte, count: 40)) }
      #expect(secret.withUnsafeBytes { $0.count == 40 && $0.allSatisfy { $0 == byte } }, "control")
      return place(secret)
    }
    let first = briefly(7)
    // The page stays, so what is left there can be looked at.
    let left = first.map { Array(UnsafeRawBufferPointer(start: $0, count: 40)) }
    #expect(left == [UInt8](repeating: 0, count: 40))
    #expect(briefly(9) == first)
    var held: [Holder] = []
    for index in 0..<200 { held.append(Holder(UInt8(index))) }
    #expect(Set(held.map(\.place)).count == 200, "each has a place of its own")
    #expect(held.enumerated().allSatisfy { $0.element.holds(UInt8($0.offset)) })
  }

  private final class Holder {
    private let secret: SecretBytes
    init(_ byte: UInt8) {
      secret = SecretBytes(brief: 128) { $0.copyBytes(from: [UInt8](repeating: byte, count: 128)) }
    }
    var place: UnsafeRawPointer? { secret.withUnsafeBytes { $0.baseAddress } }
    func holds(_ byte: UInt8) -> Bool { secret.withUnsafeBytes { $0.allSatisfy { $0 == byte } } }
  }

  @Test("wiping overwrites in place and keeps the length")
  func wiping() {
    var bytes: [UInt8] = [9, 9, 9]
    let before = bytes.withUnsafeBytes { $0.baseAddress }
    wipe(&bytes)
    #expect(bytes == [0, 0, 0])
    #expect(bytes.withUnsafeBytes { $0.baseAddress } == before)
    var empty: [UInt8] = []
    wipe(&empty)
    #expect(empty.isEmpty)
  }

  @Test("a copy is another piece of memory with the same bytes")
  func copies() {
    let secret = SecretBytes.random(32)
    let copy = secret.copy()
    #expect(secret.withUnsafeBytes { Array($0) } == copy.withUnsafeBytes { Array($0) })
    #expect(secret.withUnsafeBytes { $0.baseAddress } != copy.withUnsafeBytes { $0.baseAddress })
    #expect(SecretBytes.random(32).withUnsafeBytes { Array($0) } != copy.withUnsafeBytes { Array($0) })
  }

  @Test("comparing in constant time compares length and content")
  func comparison() {
    #expect(constantTimeEqual([1, 2], [1, 2]))
    #expect(!constantTimeEqual([1, 2], [1, 3]))
    #expect(!constantTimeEqual([1, 2], [1, 2, 3]))
    #expect(constantTimeEqual([], []))
  }
}
