internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

extension EngramClient {
  /// What a request says, its signatures checked. Whose it is, only the comparison of codes can tell.
  public static func read(deviceRequest text: String) throws -> DeviceRequestInfo {
    try publicly { DeviceRequestInfo(try DeviceRequest(checking: text)) }
  }

  /// Makes a further device of this client out of a request: signs its certificate and the next device list,
  /// and has the node store both. Needs the identity key. Repeating it changes nothing and answers alike.
  ///
  /// A person has to have compared `comparisonCode` with what the new device shows.
  /// - Throws: `EngramError`: `no-identity-key`; `wrong-client`, `wrong-identity`, `wrong-node` and
  ///   `request-expired` for requests that are not for here and now; `device-known`, `device-limit`.
  public func approveDevice(_ text: String) async throws -> DeviceApproval {
    try await publicly {
      let identity = try await core.identityKey()
      let request = try DeviceRequest(checking: text)
      try core.check(request)
      // Before anything is built on the list: it may have run out, or another process may have changed it.
      try await core.maintain()
      let current = try await core.newestOwnList().list
      let list = try await core.list(current, with: request)
      let certificate = request.certified(by: identity)
      let answer = try await core.take(
        try await core.api.addDevice(CertificateItem(certificate: certificate, deviceList: list.bytes)),
        about: core.account.address)
      guard answer.list.body.version >= list.body.version, answer.list.body.isActive(request.kid) else {
        throw EngramError(.untrusted, .staleDeviceList)
      }
      try await core.keepOwnList(answer.list)
      // The directory names it only once it has a prekey; what it signs is to be believed from now on.
      try await core.commit { [address = core.account.address] rows in
        try rows.setDevice(request.kid, address: address, certificate: certificate)
      }
      let bytes = DeviceAnswer.make(
        request: request, certificate: certificate, list: list.bytes, approver: core.account.kid,
        place: core.place, identity: identity)
      return DeviceApproval(
        request: DeviceRequestInfo(request), deviceListVersion: list.body.version,
        text: DeviceFile.answer.armoured(bytes))
    }
  }

  /// This client's devices, from the node where it can be reached, otherwise as they were last seen.
  public func devices() async throws -> ClientDevices {
    try await publicly {
      do {
        let answer = try await core.newestOwnList()
        return try await core.devices(answer.list, answer.devices)
      } catch let error as EngramError where error.kind == .unreachable {
        return try await core.devices(try await core.knownOwnList(), [])
      }
    }
  }

  /// Takes a device out of this client for good. Its node ends its sessions at once and refuses it from then
  /// on; what waits for it ends as `failed`; others stop sealing for it when they next ask the directory.
  /// What it has received already it keeps. Needs the identity key.
  public func revokeDevice(_ device: String) async throws -> ClientDevices {
    try await publicly {
      _ = try await core.identityKey()
      guard let kid = bytes(hex: device).flatMap({ Kid($0) }) else {
        throw EngramError(
          .badInput, name: "bad-device", "a device is named by 32 hexadecimal digits",
          hint: "`engram device list` shows them")
      }
      guard kid != core.account.kid else {
        throw EngramError(
          .badInput, name: "own-device", "this is the device with the identity key; it cannot revoke itself",
          hint: "`engram-node admin client disable` shuts a client out whose identity key is lost")
      }
      try await core.maintain()
      let current = try await core.newestOwnList().list
      var entries = current.body.entries
      guard let index = entries.firstIndex(where: { $0.kid == kid }) else {
        throw EngramError(
          .refused, .notFound, saying: "this client has no such device",
          hint: "`engram device list` shows them")
      }
      if entries[index].state == .active {
        (entries[index].state, entries[index].sinceMs) = (.revoked, core.nowMs())
        _ = try await core.publishOwnList(after: current, entries)
      }
      let answer = try await core.newestOwnList()
      return try await core.devices(answer.list, answer.devices)
    }
  }

  /// What a person should be told while there is time: this device cannot sign the device list anew, and it
  /// is about to run out. nil while there is nothing to say.
  public func deviceListWarning() async -> String? {
    guard core.identity == nil, let list = try? await core.knownOwnList().body,
      core.nowMs() + ClientStoreLimits.deviceListWarningMs >= list.validUntilMs,
      let place = try? await core.identityHome()
    else { return nil }
    let now = core.nowMs()
    guard now < list.validUntilMs else {
      return "the device list of \(list.address.text) has run out; run any command in \(place)"
    }
    let days = (list.validUntilMs - now) / (24 * 3_600 * 1_000)
    return "the device list of \(list.address.text) runs out in \(days) days; run any command in \(place)"
  }
}

extension DeviceRequest {
  init(checking text: String) throws {
    let bytes = try DeviceFile.request.bytes(in: text)
    do throws(CredentialError) { try self.init(verifying: bytes) } catch {
      throw EngramError(
        .untrusted, error.code, saying: "the device request does not verify (\(error.code.name))",
        hint: "carry the file over again, or make a new request")
    }
  }
}

extension ClientCore {
  /// Whether a request is for this client, now. What it is signed with has been checked.
  func check(_ request: DeviceRequest) throws {
    func refuse(_ name: String, _ sentence: String, _ hint: String) -> EngramError {
      EngramError(.refused, name: name, sentence, hint: hint)
    }
    let body = request.body
    guard body.address == account.address else {
      throw refuse(
        "wrong-client", "the request is for \(body.address.text), and this home is \(account.address.text)",
        "take it to the home of that client")
    }
    guard body.identity == account.identity else {
      throw refuse(
        "wrong-identity", "the request names another identity key than this client's",
        "`engram whoami` shows the key for --identity")
    }
    guard request.node == account.nodeID else {
      throw refuse(
        "wrong-node", "the new device asked for another node than this client's",
        "check --node and --ca there: somebody else may be answering")
    }
    guard request.isValid(atMs: nowMs()), body.notAfterMs <= body.notBeforeMs + certificateValidityMs else {
      throw refuse(
        "request-expired", "the request is older than a day, or dated in the future",
        "run `engram device request` again, and check both clocks")
    }
    guard body.suites.contains(Suite.one.rawValue) else { throw EngramError(.refused, .unknownSuite) }
    guard body.signing != account.identity, request.kid != account.kid else {
      throw EngramError(.refused, .deviceKnown)
    }
  }

  /// The list with the new device in it: the current one when it is there already. Where a list is full of
  /// devices, the one that was revoked first makes room; it stays inactive, since it is no longer named.
  func list(_ current: DeviceList, with request: DeviceRequest) async throws -> DeviceList {
    var entries = current.body.entries
    if let entry = entries.first(where: { $0.kid == request.kid }) {
      guard entry.state == .active else { throw EngramError(.refused, .deviceKnown) }
      return current
    }
    if entries.count >= Limits.devicesPerClientMax {
      let revoked = entries.filter { $0.state == .revoked }.min { $0.sinceMs < $1.sinceMs }
      guard let revoked else {
        throw EngramError(.refused, .deviceLimit, hint: "`engram device revoke KID` makes room")
      }
      entries.removeAll { $0.kid == revoked.kid }
    }
    entries.append(DeviceListBody.Entry(kid: request.kid, state: .active, sinceMs: nowMs()))
    return try await nextOwnList(after: current, entries.sorted { $0.kid < $1.kid })
  }

  func devices(_ list: DeviceList, _ reachable: [SealableDevice]) async throws -> ClientDevices {
    let enrolment = try await read { try $0.enrolment() }
    let prekeys = Dictionary(
      reachable.map { ($0.certificate.kid, $0.prekey.body.notAfterMs) }, uniquingKeysWith: { a, _ in a })
    return ClientDevices(
      address: account.address.text, identityKey: hex(account.identity.bytes),
      listVersion: list.body.version, listValidUntilMs: list.body.validUntilMs,
      identityHome: try await identityHome(),
      devices: list.body.entries.map { entry in
        ClientDevice(
          device: entry.kid.description, state: entry.state == .active ? .active : .revoked,
          sinceMs: entry.sinceMs, isThis: entry.kid == account.kid,
          holdsIdentity: entry.kid == enrolment?.approver || (identity != nil && entry.kid == account.kid),
          prekeyNotAfterMs: prekeys[entry.kid])
      })
  }
}
