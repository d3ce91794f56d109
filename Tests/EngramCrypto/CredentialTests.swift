import EngramCore
import EngramCrypto
import TestSupport
import Testing

@Suite("Certificates, lists, prekeys, registration")
struct CredentialTests {
  let alice: TestDevice
  let bob: TestDevice
  let node: TestNode
  let invite: [UInt8] = Array(1...20)

  init() throws {
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@acme.example")
    node = try TestNode("acme.example")
  }

  private func resigned(_ body: [UInt8], _ signatures: [UInt8]...) -> [UInt8] {
    SignedBytes(body: body, signatures: signatures).encoded()
  }

  @Test("a certificate needs the identity's signature and the device's, each under its own label")
  func certificateSignatures() throws {
    let body = alice.certificate.body.encoded()
    let byIdentity = alice.identity.sign("device-cert-sig", body[...])
    let byDevice = alice.key.sign("device-pop-sig", body[...])
    #expect(throws: Never.self) { try DeviceCertificate(verifying: resigned(body, byIdentity, byDevice)) }
    let forged = [
      resigned(body, bob.identity.sign("device-cert-sig", body[...]), byDevice),
      resigned(body, byIdentity, bob.key.sign("device-pop-sig", body[...])),
      resigned(body, byIdentity, alice.identity.sign("device-pop-sig", body[...])),
      resigned(body, byDevice, byIdentity),
      resigned(body, byIdentity, alice.key.sign("device-cert-sig", body[...])),
    ]
    for bytes in forged {
      #expect(throws: CredentialError.signature(.badSignature)) { try DeviceCertificate(verifying: bytes) }
    }
    #expect(throws: CredentialError.codec(.truncated)) {
      try DeviceCertificate(verifying: resigned(body, byIdentity))
    }
    #expect(throws: CredentialError.codec(.trailingBytes)) {
      try DeviceCertificate(verifying: alice.certificate.bytes + [0])
    }
  }

  @Test("every single bit flip of a certificate, a list and a prekey is refused")
  func bitFlips() throws {
    func flips(_ bytes: [UInt8], _ verify: ([UInt8]) throws -> Void) throws {
      var bytes = bytes
      try verify(bytes)
      for bit in 0..<bytes.count * 8 {
        bytes[bit / 8] ^= 1 << UInt8(bit % 8)
        #expect(throws: CredentialError.self) { try verify(bytes) }
        bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      }
    }
    try flips(alice.certificate.bytes) { _ = try DeviceCertificate(verifying: $0) }
    try flips(alice.list.bytes) { _ = try DeviceList(verifying: $0) }
    try flips(alice.prekey.bytes) { _ = try Prekey(verifying: $0, by: alice.certificate) }
  }

  @Test("a certificate is refused when it ends before it begins, or when identity and device are one key")
  func certificateConsistency() throws {
    var body = alice.certificate.body
    (body.notBeforeMs, body.notAfterMs) = (body.notAfterMs, body.notBeforeMs)
    #expect(throws: CredentialError.inconsistent(.badCertificate)) {
      try DeviceCertificate(
        verifying: DeviceCertificate.issue(body, identity: alice.identity, device: alice.key))
    }
    body = alice.certificate.body
    body.signing = body.identity
    #expect(throws: CredentialError.inconsistent(.badCertificate)) {
      try DeviceCertificate(
        verifying: DeviceCertificate.issue(body, identity: alice.identity, device: alice.identity))
    }
    let weak = try #require(SigningPublicKey([UInt8](repeating: 0, count: 32)))
    body = alice.certificate.body
    body.signing = weak
    #expect(throws: CredentialError.signature(.weakKey)) {
      try DeviceCertificate(
        verifying: DeviceCertificate.issue(body, identity: alice.identity, device: alice.key))
    }
  }

  @Test("a certificate counts from its start, less the allowed skew, up to its end")
  func certificateTimes() {
    let body = alice.certificate.body
    #expect(alice.certificate.isValid(atMs: body.notBeforeMs - Limits.clockSkewMs))
    #expect(!alice.certificate.isValid(atMs: body.notBeforeMs - Limits.clockSkewMs - 1))
    #expect(alice.certificate.isValid(atMs: body.notAfterMs - 1))
    #expect(!alice.certificate.isValid(atMs: body.notAfterMs))
  }

  @Test("a list and a prekey count from their start, less the allowed skew, up to their end")
  func listAndPrekeyTimes() {
    let (list, prekey) = (alice.list.body, alice.prekey.body)
    #expect(alice.list.isValid(atMs: list.issuedMs - Limits.clockSkewMs))
    #expect(!alice.list.isValid(atMs: list.issuedMs - Limits.clockSkewMs - 1))
    #expect(alice.list.isValid(atMs: list.validUntilMs - 1))
    #expect(!alice.list.isValid(atMs: list.validUntilMs))
    #expect(alice.prekey.isValid(atMs: prekey.notBeforeMs - Limits.clockSkewMs))
    #expect(!alice.prekey.isValid(atMs: prekey.notBeforeMs - Limits.clockSkewMs - 1))
    #expect(alice.prekey.isValid(atMs: prekey.notAfterMs - 1))
    #expect(!alice.prekey.isValid(atMs: prekey.notAfterMs))
  }

  @Test("a list with devices out of order or twice, or valid too long, is refused")
  func listForm() throws {
    let kids = [alice.kid, bob.kid].sorted()
    func list(_ kids: [Kid], validMs: UInt64) -> [UInt8] {
      DeviceList.issue(
        DeviceListBody(
          address: alice.address, identity: alice.identity.publicKey, version: 1, issuedMs: 10,
          validUntilMs: 10 + validMs,
          entries: kids.map { DeviceListBody.Entry(kid: $0, state: .active, sinceMs: 0) }),
        identity: alice.identity)
    }
    let month = Limits.deviceListValidityMsMax
    #expect(throws: Never.self) { try DeviceList(verifying: list(kids, validMs: month)) }
    for bytes in [
      list(kids.reversed(), validMs: month), list([kids[0], kids[0]], validMs: month),
      list(kids, validMs: month + 1), list(kids, validMs: 0),
    ] {
      #expect(throws: CredentialError.codec(.nonCanonical)) { try DeviceList(verifying: bytes) }
    }
    #expect(
      !DeviceListBody(
        address: alice.address, identity: alice.identity.publicKey, version: 1, issuedMs: 0, validUntilMs: 1,
        entries: [.init(kid: alice.kid, state: .revoked, sinceMs: 0)]
      ).isActive(alice.kid))
  }

  @Test("a prekey of another device, with another id, or with a weak key is refused")
  func prekeys() throws {
    var body = alice.prekey.body
    #expect(throws: CredentialError.signature(.badSignature)) {
      try Prekey(verifying: alice.prekey.bytes, by: bob.certificate)
    }
    body.id = .zero
    #expect(throws: CredentialError.inconsistent(.badPrekey)) {
      try Prekey(verifying: Prekey.issue(body, device: alice.key), by: alice.certificate)
    }
    body = alice.prekey.body
    body.address = bob.address
    #expect(throws: CredentialError.inconsistent(.badPrekey)) {
      try Prekey(verifying: Prekey.issue(body, device: alice.key), by: alice.certificate)
    }
    body = alice.prekey.body
    body.key = .zero
    body.id = prekeyID(of: .zero)
    #expect(throws: CredentialError.signature(.weakKey)) {
      try Prekey(verifying: Prekey.issue(body, device: alice.key), by: alice.certificate)
    }
    body = alice.prekey.body
    body.notAfterMs = body.notBeforeMs + Limits.prekeyValidityMsMax + 1
    #expect(throws: CredentialError.codec(.nonCanonical)) {
      try Prekey(verifying: Prekey.issue(body, device: alice.key), by: alice.certificate)
    }
    #expect(throws: Never.self) { try Prekey(verifying: alice.prekey.bytes, by: alice.certificate) }
  }

  private func register(
    at node: TestNode? = nil, nowMs: UInt64 = TestTime.startMs,
    _ change: (inout RegistrationRequest) -> Void = { _ in }
  ) -> ErrorCode {
    var request = alice.registration(node: self.node.id, invite: invite)
    change(&request)
    do throws(CredentialError) {
      let verified = try VerifiedRegistration(request, node: (node ?? self.node).id, nowMs: nowMs)
      return verified.invite == inviteDigest(invite) ? .none : .inviteInvalid
    } catch { return error.code }
  }

  @Test("a registration is refused for another node, another invite, and without possession of a key")
  func registration() throws {
    #expect(register() == .none, "control: the honest registration")
    #expect(register(at: try TestNode("other.example")) == .badSignature)
    #expect(register { $0.inviteToken[0] ^= 1 } == .badSignature)
    #expect(
      register { $0.signature = bob.registration(node: node.id, invite: invite).signature } == .badSignature)
    let body = alice.certificate.body.encoded()
    let withoutPossession = resigned(
      body, alice.identity.sign("device-cert-sig", body[...]), bob.key.sign("device-pop-sig", body[...]))
    #expect(register { $0.certificate = withoutPossession } == .badSignature)
  }

  @Test("a registration is refused when its parts belong to different clients or do not list the device")
  func registrationParts() throws {
    #expect(register { $0.deviceList = bob.list.bytes } == .badCertificate)
    #expect(register { $0.signedPrekey = bob.prekey.bytes } == .badSignature)
    #expect(register { $0.certificate = bob.certificate.bytes } != .none)
    let oneTime = try alice.oneTimePrekey(1).prekey
    #expect(register { $0.signedPrekey = oneTime.bytes } == .badCertificate)
    let revoked = try TestDevice("alice@acme.example", state: .revoked)
    #expect(register { $0.deviceList = revoked.list.bytes } == .badCertificate)
    #expect(register(nowMs: TestTime.startMs + 31 * TestTime.dayMs) == .badCertificate)
    let later = try TestDevice("alice@acme.example", nowMs: TestTime.startMs + Limits.clockSkewMs + 1)
    #expect(register { $0.deviceList = later.list.bytes } == .badCertificate, "a list from the future")
    #expect(register { $0.signedPrekey = later.prekey.bytes } == .badCertificate, "a prekey from the future")
  }

  @Test("safety numbers have twelve groups, do not depend on who looks, and change with any key")
  func safetyNumbers() {
    let (a, b) = ((alice.address, alice.identity.publicKey), (bob.address, bob.identity.publicKey))
    let number = safetyNumber(a, b)
    #expect(number.split(separator: " ").map(\.count) == [Int](repeating: 5, count: 12))
    #expect(number == safetyNumber(b, a))
    #expect(number != safetyNumber(a, (bob.address, alice.identity.publicKey)))
  }
}
