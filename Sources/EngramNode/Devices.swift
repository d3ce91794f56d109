package import EngramCore
internal import EngramCrypto
internal import EngramStore
internal import Logging

// Devices of a client come and go by its identity key alone: the node checks, stores and carries out what
// that key signed, and can neither add a device nor bring one back.

extension Node {
  /// Devices kept of one client, revoked ones included: what a list may hold, four times over for those it
  /// held before.
  static let devicesKeptMax = 4 * Limits.devicesPerClientMax

  /// Adds a device to the session's client: `device certificate | device list`, the list newer than the known
  /// one and with the device active in it. Both are stored together, or neither is. The very same request
  /// again, while it is the newest word, changes nothing and is answered alike. Answers with the client's
  /// directory entry, countersigned; the device itself shows up in it once it has published a prekey.
  ///
  /// Refused with `not-permitted` (another address), `identity-changed`, `bad-signature` (no proof of
  /// possession, for instance), `bad-certificate`, `unknown-suite`, `stale-device-list`, `device-known`,
  /// `device-limit`.
  package func addDevice(
    _ bytes: [UInt8], _ session: ClientSession,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    let enrolment: Enrolment
    do throws(ErrorCode) { enrolment = try checkEnrolment(bytes, session) } catch {
      metrics.addRefusal(error)
      return completion(.failure(error))
    }
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        try enrol(enrolment, session, in: group)
        group.afterCommit { [self] _ in completion(localDirectoryAnswer(session.address)) }
      } refused: { [metrics, log] code in
        metrics.addRefusal(code)
        log.warning("a device was not added", metadata: ["code": "\(code.name)"])
        completion(.failure(code))
      })
  }

  private struct Enrolment: Sendable {
    let certificate: DeviceCertificate
    let list: DeviceList
  }

  /// Everything that can be said without the store.
  private func checkEnrolment(_ bytes: [UInt8], _ session: ClientSession) throws(ErrorCode) -> Enrolment {
    let (certificate, list): (DeviceCertificate, DeviceList)
    do {
      let item = try CertificateItem(parsing: bytes[...])
      certificate = try DeviceCertificate(verifying: item.certificate)
      list = try DeviceList(verifying: item.deviceList)
    } catch { throw (error as? CredentialError)?.code ?? (error as? CodecError)?.code ?? .malformed }
    let now = clock.nowMs()
    guard certificate.body.address == session.address, list.body.address == session.address else {
      throw .notPermitted
    }
    guard certificate.body.identity == list.body.identity else { throw .identityChanged }
    guard certificate.speaksSuiteOne else { throw .unknownSuite }
    // The device that brings the list stays: a client that locked itself out could not undo it.
    guard certificate.isValid(atMs: now), list.isValid(atMs: now), list.body.isActive(certificate.kid),
      list.body.isActive(session.kid)
    else { throw .badCertificate }
    return Enrolment(certificate: certificate, list: list)
  }

  private func enrol(_ new: Enrolment, _ session: ClientSession, in group: CommitGroup) throws {
    let (certificate, transaction) = (new.certificate, group.transaction)
    guard let client = try transaction.client(session.address), !client.isDisabled else {
      throw ErrorCode.notFound
    }
    // The session is as old as its last request; the list may have changed since.
    guard try isActive(session.kid, in: client) else { throw ErrorCode.deviceInactive }
    guard client.identity == certificate.body.identity else { throw ErrorCode.identityChanged }
    if let known = try transaction.device(certificate.kid) {
      let isRepeated = known.certificate == certificate.bytes && client.list == new.list.bytes
      guard isRepeated else { throw ErrorCode.deviceKnown }
      return
    }
    guard try transaction.devices(of: session.address).count < Self.devicesKeptMax else {
      throw ErrorCode.deviceLimit
    }
    let mailbox = try transaction.createMailbox(.device, owner: certificate.kid.bytes)
    try transaction.insertDevice(
      DeviceRow(
        kid: certificate.kid, address: session.address, certificate: certificate.bytes, mailbox: mailbox))
    try replaceDeviceList(new.list, of: client, in: group)
    group.audit(
      AuditLeaf(
        .deviceAdded, atMs: group.nowMs, actor: session.address.text, recipient: certificate.kid.description))
    group.afterCommit { [log] _ in log.info("a device was added") }
  }

  private func isActive(_ kid: Kid, in client: ClientRow) throws -> Bool {
    do throws(CredentialError) { return try DeviceList(verifying: client.list).body.isActive(kid) } catch {
      throw ErrorCode.damagedRow
    }
  }

  /// Puts a newer list in the place of the known one. Devices that are not active in it lose their sessions
  /// at once, and what waits for them ends.
  func replaceDeviceList(_ list: DeviceList, of client: ClientRow, in group: CommitGroup) throws {
    guard client.identity == list.body.identity else { throw ErrorCode.identityChanged }
    guard list.body.version > client.listVersion else { throw ErrorCode.staleDeviceList }
    try group.transaction.updateDeviceList(
      client.address, list: list.bytes, version: list.body.version)
    let kids = try group.transaction.devices(of: client.address).map(\.kid)
    let gone = kids.filter { !list.body.isActive($0) }
    let revoked = try gone.filter { try isActive($0, in: client) }
    for kid in revoked {
      group.audit(
        AuditLeaf(
          .deviceRevoked, atMs: group.nowMs, actor: client.address.text, recipient: kid.description))
    }
    try noteRevoked(revoked, in: group)
    group.afterCommit { [self] _ in
      roster.forget(kids)
      endSessions(of: gone)
      if !revoked.isEmpty { endDeliveriesOfRevoked() }
    }
  }

  /// What a peer refuses because a device is gone says that its directory answer is out of date.
  func forgetDirectoryAnswer(after receipt: ReceiptBody) {
    guard receipt.state == .failed, receipt.code.saysDeviceIsGone, let recipient = receipt.recipient else {
      return
    }
    directoryCache.forget(recipient)
  }

  /// The same for an envelope that the peer refused as a whole.
  func forgetDirectoryAnswers(
    after item: AckFrame.Item, from known: KnownPeer, in group: CommitGroup
  ) throws {
    guard item.code.saysDeviceIsGone,
      let row = try group.transaction.delivery(known.envelopes, seq: item.seq),
      let header = try? UnverifiedEnvelope(parsing: row.bytes).header
    else { return }
    for recipient in header.recipients where recipient.address.node == known.peer.name {
      directoryCache.forget(recipient.address)
    }
  }

  // MARK: - What waits for a device that is revoked

  private static let revokedKey = "revoked-devices"
  /// Rows looked at in one command.
  private static let endedPerCommand = 200

  /// Remembers whose deliveries have to end, so that a stop in between leaves none behind.
  private func noteRevoked(_ kids: [Kid], in group: CommitGroup) throws {
    guard !kids.isEmpty else { return }
    let known = try group.transaction.value(Self.revokedKey) ?? []
    try group.transaction.setValue(known + kids.flatMap(\.bytes), for: Self.revokedKey)
  }

  /// Ends, in small steps, what waits for devices that were revoked: their senders get `failed` with
  /// `device-revoked`. In a shared queue only what no other device can open ends. Called after a revocation,
  /// when the node starts, and every second while something is still in a hand that is about to let go.
  func endDeliveriesOfRevoked(after seq: UInt64 = 0) {
    commitLoop.submit(
      CommitCommand(weight: Self.endedPerCommand) { [self] group in
        let waiting = try group.transaction.value(Self.revokedKey) ?? []
        guard let kid = Kid(waiting.prefix(16)) else {
          group.afterCommit { [revokedLeft] _ in revokedLeft.isSet = false }
          return
        }
        let rest = Array(waiting.dropFirst(16))
        let step = try endDeliveries(of: kid, after: seq, in: group)
        switch step {
        case .goOn: break
        case .done: try group.transaction.setValue(rest, for: Self.revokedKey)
        // The others first, then this one again.
        case .held: try group.transaction.setValue(rest + kid.bytes, for: Self.revokedKey)
        }
        group.afterCommit { [self] _ in
          switch step {
          case .goOn(let next): endDeliveriesOfRevoked(after: next)
          case .done where rest.isEmpty: revokedLeft.isSet = false
          case .done: endDeliveriesOfRevoked()
          case .held: revokedLeft.isSet = true
          }
        }
      } refused: { [log, revokedLeft] code in
        revokedLeft.isSet = true
        log.warning("deliveries of a revoked device were not ended", metadata: ["code": "\(code.name)"])
      })
  }

  private enum EndingStep: Sendable {
    case done
    /// After this number in the client's queue; 0 for the mailbox once more.
    case goOn(UInt64)
    /// Somebody has some of it in hand.
    case held
  }

  /// One step: the device's own mailbox first, then its client's queue.
  private func endDeliveries(of kid: Kid, after seq: UInt64, in group: CommitGroup) throws -> EndingStep {
    let transaction = group.transaction
    guard let device = try transaction.device(kid), let mailbox = device.mailbox else { return .done }
    dispatcher.release(mailbox, kid: kid)
    var statements = StatementBatch()
    let own = try transaction.listDeliveries(mailbox, after: 0, limit: Self.endedPerCommand)
    let ended = try own.count { try end($0.place, $0.info, &statements, in: group) }
    var step = EndingStep.goOn(0)
    if own.count < Self.endedPerCommand || ended == 0 {
      _ = try transaction.removeNotices(mailbox, through: try transaction.highestSeq(mailbox))
      step = try endInQueue(of: device.address, kid, after: seq, &statements, in: group)
      if case .done = step, ended < own.count { step = .held }
    }
    try statements.write(by: self, in: group)
    return step
  }

  private func endInQueue(
    of address: Address, _ kid: Kid, after seq: UInt64, _ statements: inout StatementBatch,
    in group: CommitGroup
  ) throws -> EndingStep {
    let owner = Array(address.text.utf8)
    guard let queue = try group.transaction.mailbox(.workQueue, owner: owner),
      let client = try group.transaction.client(address)
    else { return .done }
    dispatcher.release(queue, kid: kid)
    let rows = try group.transaction.listDeliveries(queue, after: seq, limit: Self.endedPerCommand)
    var isHeld = false
    for row in rows {
      let isForOthers = try (row.place.kids ?? []).contains { try isActive($0, in: client) }
      if !isForOthers, try !end(row.place, row.info, &statements, in: group) { isHeld = true }
    }
    if let last = rows.last, rows.count == Self.endedPerCommand { return .goOn(last.place.seq) }
    return isHeld ? .held : .done
  }

  /// - Returns: false when somebody has it in hand; whoever that is ends it.
  private func end(
    _ place: DeliveryPlace, _ info: MessageInfo, _ statements: inout StatementBatch, in group: CommitGroup
  ) throws -> Bool {
    let (mailbox, seq) = (place.mailbox, place.seq)
    guard dispatcher.withdraw(mailbox, seq: seq) else { return false }
    group.onUndo { [dispatcher] in dispatcher.restore(mailbox, seq: seq) }
    for body in try endings(.failed, code: .deviceRevoked, of: place, info, group) { statements.add(body) }
    _ = try group.transaction.removeDelivery(mailbox, seq: seq)
    group.note(.gone(mailbox: mailbox, seq: seq))
    freshRows.forget(mailbox)
    audit(.failed, info, code: .deviceRevoked, actor: nil, group)
    return true
  }
}
