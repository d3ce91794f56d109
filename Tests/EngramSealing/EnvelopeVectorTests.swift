import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport
import Testing

@Suite("Envelopes in vector files")
struct EnvelopeVectorTests {
  @Test(
    "an envelope sealed by either implementation opens for every recipient, in full, pruned and stub copies",
    arguments: try vectors("envelopes-python", as: [EnvelopeVector].self)
      + vectors("envelopes-swift", as: [EnvelopeVector].self))
  func opens(vector: EnvelopeVector) throws {
    let certificate = try DeviceCertificate(verifying: vector.sender.certificate.bytes)
    let list = try DeviceList(verifying: vector.sender.deviceList.bytes)
    #expect(certificate.body.address.text == vector.sender.address)
    #expect(list.body.isActive(certificate.kid))
    let copies =
      [EnvelopeVector.Copy(keep: Array(vector.recipients.indices), bytes: vector.envelope)]
      + vector.pruned + [EnvelopeVector.Copy(keep: [], bytes: vector.stub)]
    for copy in copies {
      let envelope = try UnverifiedEnvelope(parsing: copy.bytes.bytes)
      let verified = try VerifiedEnvelope(envelope, sender: certificate)
      #expect(EnvelopeVector.Header(verified.header) == vector.header)
      #expect(EnvelopeVector.Digests(verified.digests) == vector.digests)
      #expect(
        assembleEnvelope(
          header: envelope.headerBytes, slots: envelope.slots, body: envelope.body,
          signature: envelope.signature) == copy.bytes.bytes)
      #expect(verified.header.encoded() == Array(envelope.headerBytes))
      for (index, recipient) in vector.recipients.enumerated() {
        try check(copy, for: recipient, isKept: copy.keep.contains(index), certificate, vector)
      }
    }
  }

  private func check(
    _ copy: EnvelopeVector.Copy, for recipient: EnvelopeVector.Recipient, isKept: Bool,
    _ certificate: DeviceCertificate, _ vector: EnvelopeVector
  ) throws {
    let secret = sealingKey(seed: recipient.prekeySecret.bytes)
    #expect(secret.id.bytes == recipient.prekeyId.bytes)
    let kid = try #require(Kid(recipient.kid.bytes))
    let (word, message) = outcome(
      of: copy.bytes.bytes, from: certificate, as: try Address(recipient.address), kid: kid, secret: secret)
    guard isKept else {
      #expect(word == "not-for-this-device")
      return
    }
    #expect(word == "opened")
    #expect(message?.contentType == vector.contentType)
    #expect(message?.body == vector.body.bytes)
    #expect(message?.chain.seq == recipient.seq)
    #expect(message?.chain.previous.bytes == recipient.prev.bytes)
    #expect(message?.prekeyKind.rawValue == recipient.prekeyKind)
  }

  @Test(
    "pruning here gives the pruned copies of the vectors, byte for byte",
    arguments: try vectors("envelopes-python", as: [EnvelopeVector].self))
  func prunes(vector: EnvelopeVector) throws {
    let certificate = try DeviceCertificate(verifying: vector.sender.certificate.bytes)
    let verified = try VerifiedEnvelope(
      UnverifiedEnvelope(parsing: vector.envelope.bytes), sender: certificate)
    for copy in vector.pruned {
      let kept = copy.keep.map { verified.header.recipients[$0] }
      #expect(verified.pruned { kept.contains($0) } == copy.bytes.bytes)
    }
  }

  struct AttackFile: Decodable {
    struct Party: Decodable {
      var address: String
      var certificate: HexBytes
      var kid: HexBytes
      var prekeySecret: HexBytes
    }
    struct Case: Decodable {
      var name: String
      var expect: String
      var envelope: HexBytes
      var sender: String
      var recipient: String
    }
    var parties: [String: Party]
    var body: HexBytes
    var cases: [Case]
  }

  /// `Tests/Vectors/attacks.py` says what every case is for. Controls are cases that must open.
  @Test("every hostile envelope is refused with the code that both implementations agree on")
  func attacks() throws {
    let file = try vectors("attacks", as: AttackFile.self)
    #expect(file.cases.count >= 80)
    #expect(file.cases.filter { $0.expect == "opened" }.count == 3)
    for attack in file.cases {
      let sender = try #require(file.parties[attack.sender])
      let recipient = try #require(file.parties[attack.recipient])
      let (word, message) = outcome(
        of: attack.envelope.bytes, from: try DeviceCertificate(verifying: sender.certificate.bytes),
        as: try Address(recipient.address), kid: try #require(Kid(recipient.kid.bytes)),
        secret: sealingKey(seed: recipient.prekeySecret.bytes))
      #expect(word == attack.expect, "\(attack.name)")
      if attack.name.hasPrefix("control: the honest") { #expect(message?.body == file.body.bytes) }
    }
  }
}
