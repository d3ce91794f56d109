import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport
import Testing

@Suite("Tampering with an envelope on its way")
struct TamperingTests {
  let alice: TestDevice
  let bob: TestDevice
  let carol: TestDevice
  let sealed: SealedEnvelope

  init() throws {
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@beta.example")
    carol = try TestDevice("carol@gamma.example")
    sealed = try sealText("the honest text", from: alice, to: [bob, carol])
  }

  private func isRefused(_ bytes: [UInt8]) -> Bool {
    outcome(of: bytes, from: alice.certificate, as: bob.address, kid: bob.kid, secret: bob.prekeySecret).word
      != "opened"
  }

  @Test("every single bit flip of a full envelope is refused by parser or signature")
  func bitFlips() throws {
    var bytes = sealed.bytes
    #expect(!isRefused(bytes), "control: unchanged bytes open")
    for bit in 0..<bytes.count * 8 {
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      if !isRefused(bytes) { Issue.record("bit \(bit) of \(bytes.count * 8) went unnoticed") }
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
    }
    #expect(!isRefused(bytes), "control: all flips were undone")
  }

  @Test("every single bit flip of a pruned copy is refused by parser or signature")
  func bitFlipsOfPrunedCopy() throws {
    var bytes = try pruneEnvelope(UnverifiedEnvelope(parsing: sealed.bytes)) { $0.kid == bob.kid }
    #expect(!isRefused(bytes), "control: the pruned copy opens")
    for bit in 0..<bytes.count * 8 {
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      if !isRefused(bytes) { Issue.record("bit \(bit) of \(bytes.count * 8) went unnoticed") }
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
    }
  }

  @Test("every truncation is refused by the parser")
  func truncations() throws {
    for count in 0..<sealed.bytes.count {
      #expect(throws: CodecError.self) { try UnverifiedEnvelope(parsing: Array(sealed.bytes.prefix(count))) }
    }
    #expect(throws: Never.self) { try UnverifiedEnvelope(parsing: sealed.bytes) }
  }

  @Test("trailing bytes are refused")
  func trailing() throws {
    #expect(throws: CodecError.trailingBytes) { try UnverifiedEnvelope(parsing: sealed.bytes + [0]) }
  }

  @Test("pruned and stub copies keep the id of the full envelope, and verify")
  func copiesKeepTheID() throws {
    let full = try UnverifiedEnvelope(parsing: sealed.bytes)
    #expect(EnvelopeDigests(of: full).id == sealed.id)
    for keep in [[], [bob.kid], [carol.kid], [bob.kid, carol.kid]] {
      let copy = try UnverifiedEnvelope(parsing: pruneEnvelope(full) { keep.contains($0.kid) })
      let verified = try VerifiedEnvelope(copy, sender: alice.certificate)
      #expect(verified.id == sealed.id)
      #expect(copy.hasPattern { keep.contains($0.kid) })
    }
    let stub = try UnverifiedEnvelope(
      parsing: assembleEnvelope(
        header: full.headerBytes, slots: full.slots, body: .stub(EnvelopeDigests(of: full).ciphertext),
        signature: full.signature))
    #expect(stub.isStub)
    #expect(try VerifiedEnvelope(stub, sender: alice.certificate).id == sealed.id)
    let other = try sealText("the honest text", from: alice, to: [bob, carol])
    #expect(other.id != sealed.id, "control: another envelope has another id")
  }

  @Test("a stub or pruned slot with another hash does not verify")
  func wrongHashes() throws {
    let full = try UnverifiedEnvelope(parsing: sealed.bytes)
    let wrongStub = assembleEnvelope(
      header: full.headerBytes, slots: full.slots, body: .stub(.zero), signature: full.signature)
    let wrongSlot = assembleEnvelope(
      header: full.headerBytes, slots: [full.slots[0], .pruned(.zero)], body: full.body,
      signature: full.signature)
    for bytes in [wrongStub, wrongSlot] {
      #expect(throws: CredentialError.signature(.badSignature)) {
        try VerifiedEnvelope(UnverifiedEnvelope(parsing: bytes), sender: alice.certificate)
      }
    }
  }

  @Test("a certificate of another device or of another address does not verify the envelope")
  func wrongCertificate() throws {
    let envelope = try UnverifiedEnvelope(parsing: sealed.bytes)
    let laptop = try TestDevice("alice@acme.example", device: "laptop")
    let body = alice.certificate.body
    let renamed = DeviceCertificateBody(
      address: try Address("alice@beta.example"), identity: body.identity, signing: body.signing, serial: 1,
      notBeforeMs: body.notBeforeMs, notAfterMs: body.notAfterMs)
    let impostor = try DeviceCertificate(
      verifying: DeviceCertificate.issue(renamed, identity: alice.identity, device: alice.key))
    #expect(impostor.kid == alice.kid)
    for certificate in [laptop.certificate, bob.certificate, impostor] {
      #expect(throws: CredentialError.inconsistent(.unknownDevice)) {
        try VerifiedEnvelope(envelope, sender: certificate)
      }
    }
    #expect(throws: Never.self) { try VerifiedEnvelope(envelope, sender: alice.certificate) }
  }
}
