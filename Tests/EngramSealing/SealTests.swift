import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport
import Testing

@Suite("Sealing and opening")
struct SealTests {
  let alice: TestDevice
  let bob: TestDevice
  let carol: TestDevice

  init() throws {
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@beta.example")
    carol = try TestDevice("carol@gamma.example")
  }

  @Test("every recipient reads what was sealed, with its own chain position and prekey kind")
  func opensForAll() throws {
    let (secret, oneTime) = try carol.oneTimePrekey(1)
    let position = ChainPosition(seq: 5, previous: EnvelopeID(randomBytes(32)) ?? .zero)
    let sealed = try sealText(
      "hello", from: alice,
      to: [SealRecipient(oneTime, chain: position), SealRecipient(bob.prekey, chain: .first)])
    let forBob = try bob.open(sealed.bytes, from: alice)
    let forCarol = try carol.open(sealed.bytes, from: alice, oneTime: [secret])
    #expect(String(decoding: forBob.body, as: UTF8.self) == "hello")
    #expect(forBob.body == forCarol.body)
    #expect(forBob.id == sealed.id)
    #expect((forBob.chain, forBob.prekeyKind) == (.first, .signed))
    #expect((forCarol.chain, forCarol.prekeyKind) == (position, .oneTime))
  }

  @Test("recipients stand in canonical order whatever order they were given in")
  func canonicalOrder() throws {
    for recipients in [[bob, carol, alice], [carol, alice, bob]] {
      let sealed = try sealText("hello", from: alice, to: recipients)
      let header = try UnverifiedEnvelope(parsing: sealed.bytes).header
      #expect(header.recipients.map(\.address) == [alice.address, bob.address, carol.address])
    }
  }

  @Test("sealing refuses no recipient, a recipient twice, and one recipient too many")
  func recipientsAreChecked() throws {
    #expect(throws: SealError.recipients) { try sealText("x", from: alice, to: [TestDevice]()) }
    #expect(throws: SealError.recipients) { try sealText("x", from: alice, to: [bob, bob]) }
    let crowd = (0...Limits.recipientsMax).map { index in
      var recipient = SealRecipient(bob.prekey, chain: .first)
      recipient.recipient.kid = Kid(bigEndianBytes(UInt64(0)) + bigEndianBytes(UInt64(index))) ?? .zero
      return recipient
    }
    #expect(throws: SealError.recipients) { try sealText("x", from: alice, to: crowd) }
    let sealed = try sealText("x", from: alice, to: Array(crowd.dropLast()))
    #expect(try UnverifiedEnvelope(parsing: sealed.bytes).slots.count == Limits.recipientsMax)
  }

  @Test("sealing refuses a header that a parser would refuse")
  func headerIsChecked() throws {
    let adjustments: [(inout SealRequest) -> Void] = [
      { $0.labels = [Label(key: "b", value: ""), Label(key: "a", value: "")] },
      { $0.labels = [Label(key: "a", value: ""), Label(key: "a", value: "")] },
      { $0.labels = [Label(key: "A", value: "")] },
      { $0.topic = "no spaces" },
      { $0.attachments = [.zero, .zero] },
    ]
    for adjust in adjustments {
      #expect(throws: SealError.header) { try sealText("x", from: alice, to: [bob], adjust: adjust) }
    }
    #expect(throws: Never.self) {
      try sealText("x", from: alice, to: [bob]) {
        $0.labels = [Label(key: "a", value: ""), Label(key: "b", value: "")]
        $0.topic = "no.spaces"
      }
    }
  }

  @Test("bodies and content types go up to their limits and no further")
  func bodyLimits() throws {
    let largest = try sealText("", from: alice, to: [bob]) {
      $0.body = [UInt8](repeating: 7, count: Limits.bodyBytesMax)
      $0.contentType = String(repeating: "a", count: Limits.contentTypeBytesMax)
    }
    #expect(largest.bytes.count <= Limits.envelopeBytesMax)
    #expect(try bob.open(largest.bytes, from: alice).body.count == Limits.bodyBytesMax)
    #expect(throws: SealError.bodyTooLarge) {
      try sealText("", from: alice, to: [bob]) {
        $0.body = [UInt8](repeating: 7, count: Limits.bodyBytesMax + 1)
      }
    }
    #expect(throws: SealError.contentTypeTooLong) {
      try sealText("", from: alice, to: [bob]) {
        $0.contentType = String(repeating: "a", count: Limits.contentTypeBytesMax + 1)
      }
    }
  }

  @Test("bodies are compressed only when the caller allows it and they are long enough")
  func compression() throws {
    func length(_ count: Int, mayCompress: Bool) throws -> UInt32 {
      let sealed = try sealText(String(repeating: "a", count: count), from: alice, to: [bob]) {
        $0.mayCompress = mayCompress
      }
      #expect(try bob.open(sealed.bytes, from: alice).body.count == count)
      return try UnverifiedEnvelope(parsing: sealed.bytes).header.paddedLength
    }
    #expect(try length(8_192, mayCompress: true) == 256)
    #expect(try length(8_192, mayCompress: false) >= 8_192)
    #expect(try length(1_000, mayCompress: true) >= 1_000)
  }

  @Test("short messages of different lengths give envelopes of one length")
  func paddingHidesLength() throws {
    let lengths = try ["", "yes", "no, and here is why"].map {
      try sealText($0, from: alice, to: [bob]).bytes.count
    }
    #expect(Set(lengths).count == 1)
    let long = try sealText(String(repeating: "x", count: 300), from: alice, to: [bob])
    #expect(long.bytes.count > lengths[0], "control: padding is not constant for everything")
  }

  @Test("sealing the same request twice shares no key, nonce or wrap")
  func fresh() throws {
    let message = MessageID(randomBytes(16)) ?? .zero
    let envelopes = try (0..<2).map { _ in
      try UnverifiedEnvelope(parsing: sealText("x", from: alice, to: [bob]) { $0.messageID = message }.bytes)
    }
    #expect(envelopes[0].header.keyCommitment != envelopes[1].header.keyCommitment)
    #expect(envelopes[0].body != envelopes[1].body)
    #expect(envelopes[0].slots != envelopes[1].slots)
  }

  @Test("a prekey that is gone, and a prekey of somebody else, do not open the message")
  func prekeys() throws {
    let sealed = try sealText("x", from: alice, to: [bob])
    let verified = try VerifiedEnvelope(UnverifiedEnvelope(parsing: sealed.bytes), sender: alice.certificate)
    #expect(throws: OpenError.prekeyGone) { try open(verified, as: bob.address, kid: bob.kid) { _ in nil } }
    #expect(throws: OpenError.unsealFailed) {
      try open(verified, as: bob.address, kid: bob.kid) { _ in carol.prekeySecret }
    }
    #expect(throws: OpenError.notForThisDevice) {
      try open(verified, as: bob.address, kid: carol.kid) { _ in bob.prekeySecret }
    }
    #expect(throws: OpenError.notForThisDevice) {
      try open(verified, as: carol.address, kid: bob.kid) { _ in bob.prekeySecret }
    }
    #expect(throws: Never.self) {
      try open(verified, as: bob.address, kid: bob.kid) { _ in bob.prekeySecret }
    }
  }
}
