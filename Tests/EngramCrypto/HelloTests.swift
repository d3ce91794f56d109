import EngramCore
import EngramCrypto
import TestSupport
import Testing

@Suite("Hello and directory answers")
struct HelloTests {
  let acme: TestNode
  let beta: TestNode
  let exporter = [UInt8](repeating: 7, count: HelloExporter.bytes)

  init() throws {
    acme = try TestNode("acme.example")
    beta = try TestNode("beta.example")
  }

  private var hello: HelloBody {
    HelloBody(
      role: .dialler, name: acme.name, nodeID: acme.id, peerName: beta.name, peerNodeID: beta.id,
      nowMs: TestTime.startMs, epoch: 1, throughEpoch: 2, through: 3, window: 4)
  }

  private func verdict(_ bytes: [UInt8], exporter: [UInt8]? = nil, pinned: NodeID? = nil) -> ErrorCode {
    do throws(CredentialError) {
      let body = try verifyHello(bytes[...], exporter: exporter ?? self.exporter, pinned: pinned ?? acme.id)
      return body == hello ? .none : .internalError
    } catch { return error.code }
  }

  @Test("a hello is refused on another connection, from another node, and without a signature")
  func refusals() {
    let signed = signHello(hello, exporter: exporter, key: acme.key)
    #expect(verdict(signed) == .none, "control")
    #expect(verdict(signed, exporter: [UInt8](repeating: 8, count: 32)) == .badSignature)
    #expect(verdict(signed, exporter: []) == .badSignature)
    #expect(verdict(signed, pinned: beta.id) == .wrongPeer)
    #expect(verdict(signHello(hello, exporter: exporter, key: beta.key)) == .badSignature)
    let body = hello.encoded()
    #expect(
      verdict(SignedBytes(body: body, signatures: [[UInt8](repeating: 0, count: 64)]).encoded())
        == .badSignature)
    #expect(verdict(SignedBytes(body: body, signatures: [[]]).encoded()) == .malformed)
    #expect(verdict(SignedBytes(body: body, signatures: []).encoded()) == .malformed)
  }

  @Test("the exporter value counts as a field of its own: its bytes cannot move into the body")
  func exporterIsAField() {
    let body = hello.encoded()
    let glued = acme.key.sign("hello-sig", (body + exporter)[...])
    #expect(verdict(SignedBytes(body: body, signatures: [glued]).encoded()) == .badSignature)
    let right = acme.key.sign("hello-sig", body[...], exporter[...])
    #expect(verdict(SignedBytes(body: body, signatures: [right]).encoded()) == .none, "control")
  }

  @Test("every single bit flip of a hello is refused")
  func bitFlips() {
    var bytes = signHello(hello, exporter: exporter, key: acme.key)
    for bit in 0..<bytes.count * 8 {
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(verdict(bytes) != .none, "bit \(bit)")
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
    }
    #expect(verdict(bytes) == .none, "control: all flips were undone")
  }

  @Test("a hello with a critical extension is refused")
  func criticalExtension() {
    let body = hello.encoded().dropLast(4) + [0, 0, 0, 1, 9]
    let signature = acme.key.sign("hello-sig", body[...], exporter[...])
    #expect(verdict(SignedBytes(body: Array(body), signatures: [signature]).encoded()) == .criticalExtension)
  }

  @Test("a directory answer is refused from another node than the pinned one, and about foreign addresses")
  func directoryAnswers() throws {
    let alice = try TestDevice("alice@acme.example")
    func answer(_ address: Address, key: SigningKey) -> [UInt8] {
      signDirectoryAnswer(
        DirectoryAnswerBody(
          node: acme.name, nodeID: acme.id, address: address, issuedMs: 1, bundles: [alice.bundle()]),
        key: key)
    }
    let good = answer(alice.address, key: acme.key)
    #expect(try verifyDirectoryAnswer(good[...], pinned: acme.id).bundles == [alice.bundle()])
    #expect(try verifyDirectoryAnswer(good[...], pinned: nil).nodeID == acme.id)
    #expect(throws: CredentialError.inconsistent(.wrongPeer)) {
      try verifyDirectoryAnswer(good[...], pinned: beta.id)
    }
    #expect(throws: CredentialError.signature(.badSignature)) {
      try verifyDirectoryAnswer(answer(alice.address, key: beta.key)[...], pinned: acme.id)
    }
    let foreign = answer(try Address("alice@beta.example"), key: acme.key)
    #expect(throws: CredentialError.inconsistent(.wrongPeer)) {
      try verifyDirectoryAnswer(foreign[...], pinned: acme.id)
    }
  }
}

@Suite("Time rules of an envelope")
struct TimeRuleTests {
  private func verdict(
    created: UInt64, expires: UInt64, notBefore: UInt64 = 0, ttlMax: UInt64 = Limits.ttlMsMax
  ) throws -> ErrorCode {
    let header = EnvelopeHeader(
      messageID: .zero, sender: try Address("a@b.c"), senderKid: .zero, thread: .zero, type: .direct,
      priority: .normal, createdMs: created, expiresMs: expires, notBeforeMs: notBefore,
      recipients: [], paddedLength: 256, keyCommitment: .zero)
    return checkTimes(header, nowMs: TestTime.startMs, ttlMsMax: ttlMax)
  }

  @Test("each rule holds up to its boundary and not beyond")
  func boundaries() throws {
    let now = TestTime.startMs
    #expect(try verdict(created: now, expires: now + 1) == .none)
    #expect(try verdict(created: now + Limits.clockSkewMs, expires: now + Limits.clockSkewMs + 1) == .none)
    #expect(
      try verdict(created: now + Limits.clockSkewMs + 1, expires: now + 2 * Limits.clockSkewMs)
        == .futureDated)
    #expect(try verdict(created: now - 10, expires: now) == .expired)
    #expect(try verdict(created: now, expires: now + Limits.ttlMsMax) == .none)
    #expect(try verdict(created: now, expires: now + Limits.ttlMsMax + 1) == .lifetimeTooLong)
    #expect(try verdict(created: now, expires: .max) == .lifetimeTooLong)
    #expect(try verdict(created: now + 5, expires: now + 5) == .lifetimeTooLong)
    #expect(try verdict(created: now, expires: now + 11, ttlMax: 10) == .lifetimeTooLong)
    #expect(try verdict(created: now, expires: now + 10, notBefore: now) == .none)
    #expect(try verdict(created: now, expires: now + 10, notBefore: now + 9) == .none)
    #expect(try verdict(created: now, expires: now + 10, notBefore: now + 10) == .notBeforeInvalid)
    #expect(try verdict(created: now, expires: now + 10, notBefore: now - 1) == .notBeforeInvalid)
  }
}
