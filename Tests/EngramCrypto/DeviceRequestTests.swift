import EngramCore
import EngramCrypto
import TestSupport
import Testing

@Suite("Requests to be a client's device, and their answers")
struct DeviceRequestTests {
  private let bob: TestDevice
  private let phone: TestDevice
  private let node: NodeID

  init() throws {
    bob = try TestDevice("bob@acme.example")
    phone = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 2)
    node = try TestNode("acme.example").id
  }

  private func request(_ body: DeviceCertificateBody? = nil, by key: SigningKey? = nil) -> [UInt8] {
    DeviceRequest.make(body ?? phone.certificate.body, node: node, device: key ?? phone.key)
  }

  private func answer(
    to request: DeviceRequest, list: DeviceList? = nil, by identity: SigningKey? = nil
  ) -> [UInt8] {
    DeviceAnswer.make(
      request: request, certificate: request.certified(by: bob.identity), list: (list ?? phone.list).bytes,
      approver: bob.kid, place: "a home", identity: identity ?? bob.identity)
  }

  @Test("a request comes back as it was made, and its certificate is that of the device")
  func roundTrip() throws {
    let made = try DeviceRequest(verifying: request())
    #expect(made.body == phone.certificate.body && made.node == node && made.kid == phone.kid)
    let certificate = try DeviceCertificate(verifying: made.certified(by: bob.identity))
    #expect(certificate.bytes == phone.certificate.bytes)
    #expect(made.certified(by: bob.identity) == certificate.bytes, "the same, however often it is signed")
  }

  @Test("without the secret of the key that it names nobody can make a request")
  func possession() throws {
    #expect(throws: CredentialError.signature(.badSignature)) {
      try DeviceRequest(verifying: request(by: bob.key))
    }
    // A proof of possession from somewhere else does not help: it covers the very certificate.
    let other = try DeviceRequest(
      verifying: DeviceRequest.make(bob.certificate.body, node: node, device: bob.key))
    #expect(other.kid == bob.kid, "control")
    #expect(throws: CredentialError.self) {
      try DeviceCertificate(verifying: try DeviceRequest(verifying: request()).certified(by: phone.key))
    }
    var body = phone.certificate.body
    body.identity = body.signing
    #expect(throws: CredentialError.inconsistent(.badCertificate)) {
      try DeviceRequest(verifying: request(body))
    }
  }

  @Test("two requests have two codes, also when they ask for the same")
  func codes() throws {
    let requests = try (0..<50).map { _ in try DeviceRequest(verifying: request()) }
    #expect(Set(requests.map(\.comparisonCode)).count == 50)
    for code in requests.map(\.comparisonCode) {
      #expect(code.split(separator: " ").map(\.count) == [5, 5, 5, 5])
    }
    let same = try DeviceRequest(verifying: requests[0].bytes)
    #expect(same.comparisonCode == requests[0].comparisonCode, "control")
  }

  @Test("a request can be answered for a day")
  func validity() throws {
    let made = try DeviceRequest(verifying: request())
    let start = made.body.notBeforeMs
    #expect(made.isValid(atMs: start) && made.isValid(atMs: start - Limits.clockSkewMs))
    #expect(!made.isValid(atMs: start - Limits.clockSkewMs - 1))
    #expect(made.isValid(atMs: start + DeviceRequest.validityMs - 1))
    #expect(!made.isValid(atMs: start + DeviceRequest.validityMs))
  }

  @Test("an answer counts when the identity key that was asked signed all of it")
  func answers() throws {
    let made = try DeviceRequest(verifying: request())
    let good = try DeviceAnswer(verifying: answer(to: made), identity: bob.identity.publicKey)
    #expect(good.request == made.digest && good.approver == bob.kid && good.place == "a home")
    #expect(throws: CredentialError.signature(.badSignature)) {
      try DeviceAnswer(verifying: answer(to: made, by: phone.key), identity: bob.identity.publicKey)
    }
    #expect(throws: CredentialError.inconsistent(.badCertificate), "not in the list") {
      try DeviceAnswer(verifying: answer(to: made, list: bob.list), identity: bob.identity.publicKey)
    }
    let bytes = answer(to: made)
    for index in stride(from: 0, to: bytes.count, by: 5) {
      var flipped = bytes
      flipped[index] ^= 1 << UInt8(index % 8)
      #expect(throws: CredentialError.self) {
        try DeviceAnswer(verifying: flipped, identity: bob.identity.publicKey)
      }
    }
  }
}
