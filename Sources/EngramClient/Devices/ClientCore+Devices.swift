internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import Glibc

extension ClientCore {
  /// Signs the device list anew, under the next version, once it is old enough; a device without the identity
  /// key looks whether another one has. The node takes it before it is kept here: whoever crashes between the
  /// two finds out from the node.
  func renewDeviceList() async throws {
    let now = nowMs()
    let list = try await knownOwnList()
    guard now >= list.body.issuedMs + ClientStoreLimits.deviceListRenewalMs else { return }
    guard identity != nil else {
      _ = try await newestOwnList()
      return
    }
    do { _ = try await publishOwnList(after: list, list.body.entries) } catch let error as EngramError {
      guard error.registered == .staleDeviceList else { throw error }
      guard try await newestOwnList().list.body.version > list.body.version else {
        throw EngramError(.untrusted, .staleDeviceList)
      }
    }
  }

  /// The newest list that this home has seen.
  func knownOwnList() async throws -> DeviceList {
    let bytes = try await read { try $0.account().deviceList }
    guard let list = try? DeviceList(verifying: bytes) else { throw ClientStoreError.damaged }
    return list
  }

  /// What the node says about this client, with its newest device list. Nobody but this client's identity key
  /// can have signed it, and an older one than is known here is refused.
  @discardableResult
  func newestOwnList() async throws -> JudgedAnswer {
    let answer = try await lookup(account.address)
    try await keepOwnList(answer.list)
    return answer
  }

  func keepOwnList(_ list: DeviceList) async throws {
    guard list.body.isActive(account.kid) else { throw EngramError(.refused, .deviceInactive) }
    try await commit { [address = account.address] rows in
      guard try DeviceList(verifying: rows.account().deviceList).body.version < list.body.version else {
        return
      }
      try rows.replaceDeviceList(of: address, version: list.body.version, list: list.bytes)
    }
  }

  /// The version after `list`, with these entries, signed.
  func nextOwnList(
    after list: DeviceList, _ entries: [DeviceListBody.Entry]
  ) async throws -> DeviceList {
    let identity = try await identityKey()
    let now = nowMs()
    let body = DeviceListBody(
      address: account.address, identity: identity.publicKey, version: list.body.version + 1, issuedMs: now,
      validUntilMs: now + Limits.deviceListValidityMsMax, entries: entries)
    return try DeviceList(verifying: DeviceList.issue(body, identity: identity))
  }

  func publishOwnList(
    after list: DeviceList, _ entries: [DeviceListBody.Entry]
  ) async throws -> DeviceList {
    let next = try await nextOwnList(after: list, entries)
    try await api.putDeviceList(next.bytes)
    try await keepOwnList(next)
    return next
  }

  /// - Throws: `no-identity-key`, saying which home has it.
  func identityKey() async throws -> SigningKey {
    if let identity { return identity }
    throw EngramError.noIdentityKey(account.address, try await identityHome())
  }

  /// Looks at gaps that were just found. Where the devices of this client share a queue, or did as long as a
  /// message may live, another one may have taken what is missing. That is the node's word: it takes the
  /// warning off the messages, and not the gap off the list; the sender is asked as ever.
  func judgeGaps(foundMs: UInt64) async {
    guard let list = try? await knownOwnList(), list.body.entries.count > 1,
      let queue = try? await api.queueSharing(), queue.mayHaveShared(atMs: nowMs())
    else { return }
    try? await commit { try $0.markGapsShared(foundMs: foundMs) }
    // With the certificates of the others, for what they may have signed.
    _ = try? await newestOwnList()
  }

  /// Where the identity key is, for people.
  func identityHome() async throws -> String {
    if identity != nil { return "this home, \(store.home) on \(hostName())" }
    guard let enrolment = try await read({ try $0.enrolment() }) else { return "the home it was made in" }
    return "\(enrolment.place) (device \(enrolment.approver))"
  }

  /// What an answer says about this home.
  var place: String {
    let text = "the home \(store.home) on \(hostName())"
    return text.utf8.count <= DeviceAnswer.placeBytesMax ? text : "another home on \(hostName())"
  }
}

extension ClientTransaction {
  /// A message was refused as a whole. If that is because its devices are gone, the directory is asked about
  /// those recipients again that the node which refused it knows.
  func lookAgain(after code: ErrorCode, _ row: OutboxRow, at node: String) throws {
    guard code.saysDeviceIsGone, let header = try? UnverifiedEnvelope(parsing: row.envelope).header else {
      return
    }
    for address in header.recipientAddresses where address.node.text == node {
      try expireDirectoryAnswer(address)
    }
  }
}

/// Of this machine, as it calls itself.
private func hostName() -> String {
  var name = [CChar](repeating: 0, count: 256)
  guard gethostname(&name, name.count - 1) == 0 else { return "this machine" }
  return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
