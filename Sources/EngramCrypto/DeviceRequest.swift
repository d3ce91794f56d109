package import EngramCore

// How a device joins a client. The new device makes its own keys and asks; whoever holds the client's
// identity key signs; neither secret ever moves. Both files are public, and both are signed, so that it does
// not matter who carries them.
//
//   request = lp(RQ) lp(Sig(device, "device-request-sig", RQ))
//     RQ = version u8=1 | DC | Sig(device, "device-pop-sig", DC) | node id | 16 random bytes
//   answer = lp(AN) lp(Sig(identity, "device-answer-sig", AN))
//     AN = version u8=1 | T("device-request", request) | device certificate | device list
//        | approving kid | where the identity key is, for people (UTF-8)

/// A device's request to be one of a client's, its signatures verified: the keys in it are in the hands of
/// whoever made it. Nothing says yet that this is the client's owner; the comparison code is for that.
package struct DeviceRequest: Sendable {
  package let bytes: [UInt8]
  package let body: DeviceCertificateBody
  package let node: NodeID
  package let kid: Kid
  private let possession: [UInt8]

  /// How long a request may be answered: a person carries it from one machine to another.
  package static let validityMs: UInt64 = 24 * 3_600_000
  private static let version: UInt8 = 1
  private static let nonceBytes = 16
  private static let bodyBytesMax = Limits.certificateBytesMax + 256

  /// Asks for `body`, whose signing key is this device's.
  package static func make(_ body: DeviceCertificateBody, node: NodeID, device: SigningKey) -> [UInt8] {
    let certificate = body.encoded()
    let request = fields { w in
      w.field(version)
      w.field(certificate)
      w.field(device.sign("device-pop-sig", certificate[...]))
      w.field(node.bytes)
      w.field(randomBytes(nonceBytes))
    }
    return SignedBytes(body: request, signatures: [device.sign("device-request-sig", request[...])]).encoded()
  }

  package init(verifying bytes: [UInt8]) throws(CredentialError) {
    let signed: SignedBytes
    let certificate: [UInt8]
    do throws(CodecError) {
      signed = try SignedBytes(parsing: bytes[...], signatureCount: 1, bodyBytesMax: Self.bodyBytesMax)
      var r = FieldReader(signed.body)
      guard try r.integer(UInt8.self) == Self.version else { throw .unknownValue }
      certificate = Array(try r.field(max: Limits.certificateBytesMax))
      body = try DeviceCertificateBody(parsing: certificate[...])
      possession = Array(try r.field(max: Limits.signatureBytes))
      node = try NodeID(try r.field(max: 32))
      guard try r.field(max: Self.nonceBytes).count == Self.nonceBytes else { throw .wrongLength }
      try r.finish()
    } catch { throw .codec(error) }
    do throws(SignatureError) {
      let device = try VerifyingKey(body.signing)
      try device.verify(possession[...], "device-pop-sig", certificate[...])
      try device.verify(signed.signatures[0][...], "device-request-sig", signed.body[...])
    } catch { throw .signature(error) }
    guard body.identity != body.signing, body.notBeforeMs < body.notAfterMs else {
      throw .inconsistent(.badCertificate)
    }
    kid = EngramCrypto.kid(of: body.signing)
    self.bytes = bytes
  }

  package var digest: Digest { tagged("device-request", bytes[...]) }

  /// What two screens show and a person compares: the first 20 bytes of the request's digest as four 40-bit
  /// groups modulo 10^5. 66 bits, because whoever swaps the request may try as many as they like.
  package var comparisonCode: String {
    let digest = digest.bytes
    return (0..<4).map { group in
      let value = digest[(group * 5)..<(group * 5 + 5)].reduce(UInt64(0)) { $0 << 8 | UInt64($1) } % 100_000
      let digits = String(value)
      return String(repeating: "0", count: 5 - digits.count) + digits
    }.joined(separator: " ")
  }

  package func isValid(atMs now: UInt64) -> Bool {
    body.notBeforeMs <= now + Limits.clockSkewMs && now < body.notBeforeMs + Self.validityMs
  }

  /// The device's certificate. The same request gives the same bytes, however often it is signed.
  package func certified(by identity: SigningKey) -> [UInt8] {
    let encoded = body.encoded()
    return SignedBytes(
      body: encoded, signatures: [identity.sign("device-cert-sig", encoded[...]), possession]
    ).encoded()
  }
}

/// The word of a client's identity key on a request.
package struct DeviceAnswer: Sendable {
  /// Of the request that is answered.
  package let request: Digest
  package let certificate: DeviceCertificate
  package let list: DeviceList
  /// The device beside which the identity key lies.
  package let approver: Kid
  /// Where that is, in the words of whoever approved.
  package let place: String

  private static let version: UInt8 = 1
  private static let bodyBytesMax = Limits.certificateBytesMax + Limits.deviceListBytesMax + 2_048
  package static let placeBytesMax = 1_024

  package static func make(
    request: DeviceRequest, certificate: [UInt8], list: [UInt8], approver: Kid, place: String,
    identity: SigningKey
  ) -> [UInt8] {
    let body = fields { w in
      w.field(version)
      w.field(request.digest.bytes)
      w.field(certificate)
      w.field(list)
      w.field(approver.bytes)
      w.field(place)
    }
    return SignedBytes(body: body, signatures: [identity.sign("device-answer-sig", body[...])]).encoded()
  }

  /// - Parameter identity: the key that the new device wants to belong to; whoever else signed is refused.
  package init(verifying bytes: [UInt8], identity: SigningPublicKey) throws(CredentialError) {
    let signed: SignedBytes
    let (certificateBytes, listBytes): ([UInt8], [UInt8])
    do throws(CodecError) {
      signed = try SignedBytes(parsing: bytes[...], signatureCount: 1, bodyBytesMax: Self.bodyBytesMax)
      var r = FieldReader(signed.body)
      guard try r.integer(UInt8.self) == Self.version else { throw .unknownValue }
      request = try Digest(field: try r.field(max: 32))
      certificateBytes = Array(try r.field(max: Limits.certificateBytesMax))
      listBytes = Array(try r.field(max: Limits.deviceListBytesMax))
      approver = try Kid(field: try r.field(max: 16))
      place = try r.string(max: Self.placeBytesMax)
      try r.finish()
    } catch { throw .codec(error) }
    do throws(SignatureError) {
      try VerifyingKey(identity).verify(
        signed.signatures[0][...], "device-answer-sig", signed.body[...])
    } catch { throw .signature(error) }
    certificate = try DeviceCertificate(verifying: certificateBytes)
    list = try DeviceList(verifying: listBytes)
    guard certificate.body.identity == identity, list.body.identity == identity,
      certificate.body.address == list.body.address, list.body.isActive(certificate.kid)
    else { throw .inconsistent(.badCertificate) }
  }
}
