package import EngramCore

/// `T("invite", token)`: what the node keeps of an invite.
package func inviteDigest(_ token: [UInt8]) -> Digest { tagged("invite", token[...]) }

/// What a registration's identity signature covers.
private func registrationParts(
  node: NodeID, certificate: DeviceCertificateBody, inviteToken: [UInt8]
) -> [[UInt8]] {
  [
    node.bytes, Array(certificate.address.text.utf8), certificate.identity.bytes,
    inviteDigest(inviteToken).bytes, tagged("device-cert", certificate.encoded()[...]).bytes,
  ]
}

/// Builds the request of a new client's first device.
package func makeRegistration(
  node: NodeID, inviteToken: [UInt8], certificate: DeviceCertificateBody, list: DeviceListBody,
  signedPrekey: [UInt8], identity: SigningKey, device: SigningKey
) -> RegistrationRequest {
  let parts = registrationParts(node: node, certificate: certificate, inviteToken: inviteToken)
  return RegistrationRequest(
    inviteToken: inviteToken,
    certificate: DeviceCertificate.issue(certificate, identity: identity, device: device),
    deviceList: DeviceList.issue(list, identity: identity),
    signature: identity.sign(
      "register-sig", parts[0][...], parts[1][...], parts[2][...], parts[3][...], parts[4][...]),
    signedPrekey: signedPrekey)
}

/// A registration in which every key proved its possession and everything agrees.
package struct VerifiedRegistration: Sendable {
  package let certificate: DeviceCertificate
  package let list: DeviceList
  package let prekey: Prekey
  package let invite: Digest

  package init(_ request: RegistrationRequest, node: NodeID, nowMs: UInt64) throws(CredentialError) {
    certificate = try DeviceCertificate(verifying: request.certificate)
    list = try DeviceList(verifying: request.deviceList)
    prekey = try Prekey(verifying: request.signedPrekey, by: certificate)
    invite = inviteDigest(request.inviteToken)
    let body = certificate.body
    guard list.body.address == body.address, list.body.identity == body.identity,
      list.body.isActive(certificate.kid), prekey.body.kind == .signed
    else { throw .inconsistent(.badCertificate) }
    guard certificate.speaksSuiteOne else { throw .inconsistent(.unknownSuite) }
    guard certificate.isValid(atMs: nowMs), list.isValid(atMs: nowMs), prekey.isValid(atMs: nowMs) else {
      throw .inconsistent(.badCertificate)
    }
    let parts = registrationParts(node: node, certificate: body, inviteToken: request.inviteToken)
    do throws(SignatureError) {
      try certificate.identity.verify(
        request.signature[...], "register-sig", parts[0][...], parts[1][...], parts[2][...], parts[3][...],
        parts[4][...])
    } catch { throw .signature(error) }
  }
}

/// The number that two people compare: per party `T("fingerprint", address, identity key)`, first 30 bytes as
/// six 40-bit groups modulo 10^5; both parties' groups, sorted by party. Twelve groups of five digits.
package func safetyNumber(
  _ a: (address: Address, identity: SigningPublicKey), _ b: (address: Address, identity: SigningPublicKey)
) -> String {
  let parties = [a, b].sorted { ($0.address, $0.identity) < ($1.address, $1.identity) }
  let groups = parties.flatMap { party -> [String] in
    let bytes = tagged("fingerprint", Array(party.address.text.utf8)[...], party.identity.bytes[...]).bytes
    return (0..<6).map { group in
      let value = bytes[(group * 5)..<(group * 5 + 5)].reduce(UInt64(0)) { $0 << 8 | UInt64($1) } % 100_000
      let digits = String(value)
      return String(repeating: "0", count: 5 - digits.count) + digits
    }
  }
  return groups.joined(separator: " ")
}
