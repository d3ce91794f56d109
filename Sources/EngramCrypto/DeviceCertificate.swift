package import EngramCore

/// Why a client's keys were not believed.
package enum CredentialError: Error, Equatable, Sendable {
  case codec(CodecError)
  case signature(SignatureError)
  /// Names, keys or times inside the structures contradict each other.
  case inconsistent(ErrorCode)

  package var code: ErrorCode {
    switch self {
    case .codec(let error): error.code
    case .signature(let error): error.code
    case .inconsistent(let code): code
    }
  }
}

/// A device certificate whose identity signature and proof of possession hold. Times are checked by the user.
package struct DeviceCertificate: Sendable {
  package let bytes: [UInt8]
  package let body: DeviceCertificateBody
  package let key: VerifyingKey
  package let identity: VerifyingKey
  package let kid: Kid

  package init(verifying bytes: [UInt8]) throws(CredentialError) {
    let signed: SignedBytes
    do throws(CodecError) {
      signed = try SignedBytes(
        parsing: bytes[...], signatureCount: 2, bodyBytesMax: Limits.certificateBytesMax)
      body = try DeviceCertificateBody(parsing: signed.body[...])
    } catch { throw .codec(error) }
    do throws(SignatureError) {
      identity = try VerifyingKey(body.identity)
      key = try VerifyingKey(body.signing)
      try identity.verify(signed.signatures[0][...], "device-cert-sig", signed.body[...])
      try key.verify(signed.signatures[1][...], "device-pop-sig", signed.body[...])
    } catch { throw .signature(error) }
    guard body.notBeforeMs < body.notAfterMs, body.identity != body.signing else {
      throw .inconsistent(.badCertificate)
    }
    kid = EngramCrypto.kid(of: body.signing)
    self.bytes = bytes
  }

  /// The device that a certificate is about, true or not; nil when it cannot be parsed.
  package static func claimedKid(_ bytes: [UInt8]) -> Kid? {
    let signed = try? SignedBytes(
      parsing: bytes[...], signatureCount: 2, bodyBytesMax: Limits.certificateBytesMax)
    guard let signed, let body = try? DeviceCertificateBody(parsing: signed.body[...]) else { return nil }
    return EngramCrypto.kid(of: body.signing)
  }

  /// Issued on the client: signed by identity and device.
  package static func issue(_ body: DeviceCertificateBody, identity: SigningKey, device: SigningKey)
    -> [UInt8]
  {
    let encoded = body.encoded()
    return SignedBytes(
      body: encoded,
      signatures: [
        identity.sign("device-cert-sig", encoded[...]), device.sign("device-pop-sig", encoded[...]),
      ]
    ).encoded()
  }

  package func isValid(atMs now: UInt64) -> Bool {
    body.notBeforeMs <= now + Limits.clockSkewMs && now < body.notAfterMs
  }

  /// Without the one suite of this version a device can neither seal nor be sealed to. Nodes refuse such a
  /// certificate when it is handed in; a later version may offer further suites beside it.
  package var speaksSuiteOne: Bool { body.suites.contains(Suite.one.rawValue) }
}

/// A device list whose identity signature holds.
package struct DeviceList: Sendable {
  package let bytes: [UInt8]
  package let body: DeviceListBody

  package init(verifying bytes: [UInt8]) throws(CredentialError) {
    let signed: SignedBytes
    do throws(CodecError) {
      signed = try SignedBytes(
        parsing: bytes[...], signatureCount: 1, bodyBytesMax: Limits.deviceListBytesMax)
      body = try DeviceListBody(parsing: signed.body[...])
    } catch { throw .codec(error) }
    do throws(SignatureError) {
      try VerifyingKey(body.identity).verify(signed.signatures[0][...], "device-list-sig", signed.body[...])
    } catch { throw .signature(error) }
    self.bytes = bytes
  }

  /// A list issued in the future is not believed either: it would outlive the 30 days that bound how long a
  /// revoked device can still pass for active.
  package func isValid(atMs now: UInt64) -> Bool {
    body.issuedMs <= now + Limits.clockSkewMs && now < body.validUntilMs
  }

  package static func issue(_ body: DeviceListBody, identity: SigningKey) -> [UInt8] {
    let encoded = body.encoded()
    return SignedBytes(body: encoded, signatures: [identity.sign("device-list-sig", encoded[...])]).encoded()
  }
}

/// A prekey signed by the device it belongs to; its X25519 key is neither of low order nor non-canonical.
package struct Prekey: Sendable {
  package let bytes: [UInt8]
  package let body: PrekeyBody

  package init(verifying bytes: [UInt8], by device: DeviceCertificate) throws(CredentialError) {
    let signed: SignedBytes
    do throws(CodecError) {
      signed = try SignedBytes(parsing: bytes[...], signatureCount: 1, bodyBytesMax: Limits.prekeyBytesMax)
      body = try PrekeyBody(parsing: signed.body[...])
    } catch { throw .codec(error) }
    do throws(SignatureError) {
      try device.key.verify(signed.signatures[0][...], "prekey-sig", signed.body[...])
    } catch { throw .signature(error) }
    guard body.address == device.body.address, body.kid == device.kid, body.id == prekeyID(of: body.key)
    else {
      throw .inconsistent(.badPrekey)
    }
    guard isUsableSealingKey(body.key) else { throw .signature(.weakKey) }
    self.bytes = bytes
  }

  package func isValid(atMs now: UInt64) -> Bool {
    body.notBeforeMs <= now + Limits.clockSkewMs && now < body.notAfterMs
  }

  package static func issue(_ body: PrekeyBody, device: SigningKey) -> [UInt8] {
    let encoded = body.encoded()
    return SignedBytes(body: encoded, signatures: [device.sign("prekey-sig", encoded[...])]).encoded()
  }
}
