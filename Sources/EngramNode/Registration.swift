package import EngramCore
internal import EngramCrypto
internal import EngramStore
internal import Logging

/// What an invite's text holds: `lp(name) lp(24 random bytes)`, base64url without padding.
package enum InviteToken {
  package static func make(name: String, secret: [UInt8]) -> [UInt8] {
    fields {
      $0.field(name)
      $0.field(secret)
    }
  }
}

extension Node {
  /// Registers a new client's first device: `invite token | registration | signed prekey`. Everything is
  /// verified before the commit thread sees it; the invite is used up in the same transaction that creates
  /// the client. Answers with the client's own directory entry, countersigned.
  package func register(
    _ request: [UInt8], completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    let registration: VerifiedRegistration
    do {
      let parsed = try RegistrationRequest(parsing: request[...])
      // One read before five signatures: whoever was not invited costs little.
      guard try reading({ try $0.hasInvite(inviteDigest(parsed.inviteToken)) }) else {
        return completion(.failure(.inviteInvalid))
      }
      registration = try VerifiedRegistration(parsed, node: identity.id, nowMs: clock.nowMs())
    } catch let error as CodecError {
      return completion(.failure(error.code))
    } catch let error as CredentialError {
      return completion(.failure(error.code))
    } catch {
      return completion(.failure(error as? ErrorCode ?? .internalError))
    }
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        try enrol(registration, in: group)
        group.afterCommit { [self] _ in
          metrics.add(.registrations)
          roster.forget([registration.certificate.kid])
          log.info("a client was registered")
          completion(localDirectoryAnswer(registration.certificate.body.address))
        }
      } refused: {
        completion(.failure($0))
      })
  }

  private func enrol(_ registration: VerifiedRegistration, in group: CommitGroup) throws {
    let (certificate, transaction) = (registration.certificate, group.transaction)
    let address = certificate.body.address
    guard let name = try transaction.takeInvite(registration.invite, nowMs: group.nowMs),
      name == address.name,
      address.node == identity.name
    else { throw ErrorCode.inviteInvalid }
    guard try transaction.clientCount(home: 0) < settings.clientsMax else { throw ErrorCode.quotaExceeded }
    guard try transaction.client(address) == nil, try transaction.device(certificate.kid) == nil else {
      throw ErrorCode.nameTaken
    }
    try transaction.insertClient(
      ClientRow(
        address: address, identity: certificate.body.identity, list: registration.list.bytes,
        listVersion: registration.list.body.version, home: 0, isDisabled: false, createdMs: group.nowMs))
    let mailbox = try transaction.createMailbox(.device, owner: certificate.kid.bytes)
    try transaction.insertDevice(
      DeviceRow(kid: certificate.kid, address: address, certificate: certificate.bytes, mailbox: mailbox))
    let prekey = registration.prekey
    try transaction.setSignedPrekey(
      of: certificate.kid, id: prekey.body.id, bytes: prekey.bytes, notAfterMs: prekey.body.notAfterMs)
  }

  /// Replaces the device's signed prekey; refused unless it is newer than now and signed by the device
  /// itself.
  package func putPrekey(
    _ bytes: [UInt8], _ session: ClientSession, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let prekey: Prekey
    do {
      guard let device = try roster.device(session.kid) else { return completion(.unknownDevice) }
      prekey = try Prekey(verifying: bytes, by: device.certificate)
      guard prekey.body.kind == .signed, prekey.isValid(atMs: clock.nowMs()) else {
        return completion(.badPrekey)
      }
    } catch let error as CredentialError {
      return completion(error.code)
    } catch {
      return completion(.internalError)
    }
    commitLoop.submit(
      CommitCommand(weight: 1) { group in
        try group.transaction.setSignedPrekey(
          of: session.kid, id: prekey.body.id, bytes: prekey.bytes, notAfterMs: prekey.body.notAfterMs)
        group.afterCommit { _ in completion(.none) }
      } refused: {
        completion($0)
      })
  }

  /// Replaces the client's device list by a newer one, signed by its identity key. Lists run out after 30
  /// days at the latest, so every client does this from time to time. The session's own device must stay
  /// active in it.
  package func putDeviceList(
    _ bytes: [UInt8], _ session: ClientSession, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let list: DeviceList
    do throws(CredentialError) { list = try DeviceList(verifying: bytes) } catch {
      return completion(error.code)
    }
    guard list.body.address == session.address, list.body.isActive(session.kid),
      list.isValid(atMs: clock.nowMs())
    else { return completion(.badCertificate) }
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        guard let client = try group.transaction.client(session.address) else { throw ErrorCode.notFound }
        try replaceDeviceList(list, of: client, in: group)
        group.afterCommit { _ in completion(.none) }
      } refused: {
        completion($0)
      })
  }

  /// Stores the certificate and device list of a peer's client, sent before the first envelope that needs
  /// them.
  package func learn(
    _ item: CertificateItem, from peer: NodeName, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let kid = DeviceCertificate.claimedKid(item.certificate)
    verifyAndStore(item, from: peer) { [refusedSenders] code in
      if let kid { refusedSenders.note(code, of: kid, from: peer) }
      completion(code)
    }
  }

  private func verifyAndStore(
    _ item: CertificateItem, from peer: NodeName, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let (certificate, list): (DeviceCertificate, DeviceList)
    do throws(CredentialError) {
      (certificate, list) = (
        try DeviceCertificate(verifying: item.certificate), try DeviceList(verifying: item.deviceList)
      )
    } catch { return completion(error.code) }
    guard certificate.body.address.node == peer else { return completion(.wrongHome) }
    guard certificate.speaksSuiteOne else { return completion(.unknownSuite) }
    guard list.body.address == certificate.body.address, list.body.identity == certificate.body.identity,
      certificate.isValid(atMs: clock.nowMs())
    else { return completion(.badCertificate) }
    guard list.isValid(atMs: clock.nowMs()) else { return completion(.staleDeviceList) }
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        try store(certificate, list, from: peer, in: group)
        // Those that the list no longer names as well.
        let kids = try group.transaction.devices(of: list.body.address).map(\.kid)
        group.afterCommit { [self] _ in
          roster.forget(kids)
          completion(.none)
        }
      } refused: {
        completion($0)
      })
  }

  private func store(
    _ certificate: DeviceCertificate, _ list: DeviceList, from peer: NodeName, in group: CommitGroup
  ) throws {
    guard let known = roster.peer(peer) else { throw ErrorCode.noRoute }
    let (address, transaction) = (certificate.body.address, group.transaction)
    if let client = try transaction.client(address) {
      // Until rotation arrives, an address keeps the identity key that its node first vouched for.
      guard client.identity == certificate.body.identity else { throw ErrorCode.identityChanged }
      guard list.body.version >= client.listVersion else { throw ErrorCode.staleDeviceList }
      if list.body.version > client.listVersion {
        try transaction.updateDeviceList(address, list: list.bytes, version: list.body.version)
        // What we were told about its devices is out of date.
        group.afterCommit { [directoryCache] _ in directoryCache.forget(address) }
      }
    } else {
      guard try transaction.clientCount(home: known.envelopes) < settings.clientsPerPeerMax else {
        throw ErrorCode.quotaExceeded
      }
      try transaction.insertClient(
        ClientRow(
          address: address, identity: certificate.body.identity, list: list.bytes,
          listVersion: list.body.version,
          home: known.envelopes, isDisabled: false, createdMs: group.nowMs))
    }
    if try transaction.device(certificate.kid) == nil {
      guard try transaction.devices(of: address).count < Self.devicesKeptMax else {
        throw ErrorCode.quotaExceeded
      }
      try transaction.insertDevice(
        DeviceRow(kid: certificate.kid, address: address, certificate: certificate.bytes, mailbox: nil))
    }
  }
}
