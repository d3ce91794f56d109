internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

/// One device that can be sealed for now.
struct SealableDevice: Sendable {
  let certificate: DeviceCertificate
  let prekey: Prekey
}

/// A directory answer after every check, against what is pinned.
struct JudgedAnswer: Sendable {
  let body: DirectoryAnswerBody
  let identity: SigningPublicKey
  let list: DeviceList
  let certificates: [DeviceCertificate]
  /// Active devices whose certificate and prekey hold now.
  let devices: [SealableDevice]
}

/// What a directory answer is held against.
struct DirectoryPins: Sendable {
  var node: NodeID?
  var identity: SigningPublicKey?
  var list: StoredDeviceList?
}

/// Why an answer is not used. `identityChanged` and `nodeChanged` carry what was offered, for a person to
/// judge.
enum DirectoryRefusal: Error, Sendable, Equatable {
  case identityChanged(offered: SigningPublicKey)
  case nodeChanged(offered: NodeID)
  case refused(ErrorCode)

  var code: ErrorCode {
    switch self {
    case .identityChanged: .identityChanged
    case .nodeChanged: .wrongPeer
    case .refused(let code): code
    }
  }
}

/// Judges a directory answer. The node may be lying: it can withhold an address, but everything it says about
/// one has to be signed by keys that it does not hold.
///
/// 1. The node signed it, under the id that is pinned for its name; on first contact any id is taken, to be
///    pinned.
/// 2. It is about the address that was asked for, and not dated in the future.
/// 3. Every bundle carries the same device list, signed by the identity that is pinned (first contact: any).
/// 4. The list is not older than the known one, and valid now.
/// 5. Certificates belong to that identity and address, and are valid now; devices are active in the list.
/// 6. Prekeys are signed by their devices and valid now.
func judgeDirectoryAnswer(
  _ bytes: [UInt8], about address: Address, pins: DirectoryPins, credentials: CredentialCache, nowMs: UInt64
) throws(DirectoryRefusal) -> JudgedAnswer {
  let body: DirectoryAnswerBody
  do throws(CredentialError) {
    body = try verifyDirectoryAnswer(bytes[...], pinned: nil)
  } catch { throw .refused(error.code) }
  if let pinned = pins.node, pinned != body.nodeID { throw .nodeChanged(offered: body.nodeID) }
  guard body.address == address else { throw .refused(.wrongPeer) }
  guard body.issuedMs <= nowMs + Limits.clockSkewMs else { throw .refused(.futureDated) }
  guard let first = body.bundles.first else { throw .refused(.unknownRecipient) }
  guard body.bundles.allSatisfy({ $0.deviceList == first.deviceList }) else {
    throw .refused(.staleDeviceList)
  }

  let list = try judgeList(first.deviceList, of: address, pins: pins, credentials, nowMs: nowMs)
  var certificates: [DeviceCertificate] = []
  var devices: [SealableDevice] = []
  for bundle in body.bundles {
    do throws(CredentialError) {
      let certificate = try credentials.certificate(bundle.certificate)
      guard certificate.body.address == address, certificate.body.identity == list.body.identity else {
        throw .inconsistent(.badCertificate)
      }
      certificates.append(certificate)
      guard list.body.isActive(certificate.kid), certificate.isValid(atMs: nowMs),
        !bundle.signedPrekey.isEmpty
      else { continue }
      let prekey = try credentials.prekey(bundle.signedPrekey, of: certificate)
      guard prekey.body.kind == .signed, prekey.body.notBeforeMs <= nowMs + Limits.clockSkewMs,
        nowMs < prekey.body.notAfterMs
      else { continue }
      devices.append(SealableDevice(certificate: certificate, prekey: prekey))
    } catch { throw .refused(error.code) }
  }
  return JudgedAnswer(
    body: body, identity: list.body.identity, list: list, certificates: certificates, devices: devices)
}

private func judgeList(
  _ bytes: [UInt8], of address: Address, pins: DirectoryPins, _ credentials: CredentialCache, nowMs: UInt64
) throws(DirectoryRefusal) -> DeviceList {
  let list: DeviceList
  do throws(CredentialError) { list = try credentials.list(bytes) } catch { throw .refused(error.code) }
  guard list.body.address == address else { throw .refused(.badCertificate) }
  if let pinned = pins.identity, pinned != list.body.identity {
    throw .identityChanged(offered: list.body.identity)
  }
  if let known = pins.list, known.identity == list.body.identity {
    guard list.body.version >= known.version, list.body.version > known.version || list.bytes == known.bytes
    else {
      throw .refused(.staleDeviceList)
    }
  }
  guard list.body.issuedMs <= nowMs + Limits.clockSkewMs, nowMs < list.body.validUntilMs else {
    throw .refused(.staleDeviceList)
  }
  return list
}

extension ClientTransaction {
  /// Pins what a judged answer shows for the first time and keeps the rest of it.
  func adopt(_ answer: JudgedAnswer, bytes: [UInt8], nowMs: UInt64) throws {
    let address = answer.body.address
    try pinNode(answer.body.node, answer.body.nodeID, nowMs: nowMs)
    try pinPeer(address, identity: answer.identity, nowMs: nowMs)
    try setDeviceList(
      address, identity: answer.identity, version: answer.list.body.version, list: answer.list.bytes)
    for certificate in answer.certificates {
      try setDevice(certificate.kid, address: address, certificate: certificate.bytes)
    }
    if let known = try directoryAnswer(address), known.issuedMs > answer.body.issuedMs { return }
    try setDirectoryAnswer(address, bytes, issuedMs: answer.body.issuedMs, fetchedMs: nowMs)
  }

  /// Keeps what a refused answer offered, and raises the alarm.
  func note(_ refusal: DirectoryRefusal, about address: Address, nowMs: UInt64) throws {
    switch refusal {
    case .identityChanged(let offered):
      try setPendingIdentity(address, offered)
      try raise(.identityChanged, .identityChanged, address: address.text, nowMs: nowMs)
    case .nodeChanged(let offered):
      try setPendingNode(address.node, offered)
      try raise(.identityChanged, .wrongPeer, address: address.text, nowMs: nowMs)
    case .refused: break
    }
  }
}

extension ClientSnapshot {
  func directoryPins(for address: Address) throws -> DirectoryPins {
    DirectoryPins(
      node: try nodePin(address.node)?.id, identity: try peer(address)?.identity,
      list: try deviceList(of: address))
  }
}
