internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

extension EngramClient {
  /// Makes the keys of a further device in a new home, and a request to be one of `address`'s. Run again in
  /// the same home, it gives the same request while that can still be answered.
  /// - Parameters:
  ///   - home: a folder, made with mode 0700 if it does not exist.
  ///   - node: `HOST:PORT` of the client's node.
  ///   - caFile: PEM file of the certificate authority that vouches for the node; copied into the home.
  ///   - address: whose device this is to be.
  ///   - identityKey: that client's identity key, as `whoami` in another of its homes shows it. The new
  ///     device
  ///     believes this key and no other, whatever a node says.
  ///   - passphrase: seals the key file; nil leaves it to the file's mode (0600).
  ///   - nodeName: the name in the node's certificate where that is not HOST.
  /// - Throws: `EngramError`.
  public static func requestDevice(
    home: String, node: String, caFile: String, address: String, identityKey: String, passphrase: String?,
    nodeName: String? = nil
  ) async throws -> DeviceRequestInfo {
    try await publicly {
      let node = try FirstContact(node, caFile: caFile, name: nodeName)
      let enroller = DeviceEnroller(
        home: home, endpoint: node.endpoint, serverName: node.serverName, passphrase: passphrase,
        authority: node.authority, nowMs: ClientClock().nowMs)
      do {
        let request = try await enroller.request(
          try Address(checking: address), identity: try SigningPublicKey(checking: identityKey),
          node.transport)
        await node.transport.close()
        return request
      } catch {
        await node.transport.close()
        throw error
      }
    }
  }

  /// Finishes what `requestDevice` began: checks the answer against this home's own request and against what
  /// the node says, publishes the device's prekey, and leaves a home that `open` opens.
  ///
  /// A run that was cut off can be repeated.
  /// - Throws: `EngramError` of kind `untrusted` when the answer is not one to this request by the identity
  ///   key that it named, or the node says something else.
  public static func acceptDevice(home: String, answer: String, passphrase: String?) async throws
    -> EngramClient
  {
    try await publicly {
      let (store, account, keys) = try openHome(home, passphrase)
      let transport = try NodeTransport.tls(account, home: home)
      do {
        return try await DeviceEnroller.accept(
          answer, store, account, keys, transport: transport, clock: ClientClock())
      } catch {
        await transport.close()
        try? store.close()
        throw error
      }
    }
  }
}

/// The new device's side of joining a client.
struct DeviceEnroller: Sendable {
  let home: String
  let endpoint: String
  let serverName: String
  let passphrase: String?
  var authority: [UInt8]?
  let nowMs: @Sendable () -> UInt64

  /// The node says who it is before anything is written, so a wrong address or authority leaves no trace.
  func request(
    _ address: Address, identity: SigningPublicKey, _ transport: NodeTransport
  ) async throws -> DeviceRequestInfo {
    let node = try await NodeAPI.describe(transport)
    guard address.node == node.name else {
      throw EngramError(
        .badInput, name: "wrong-node", "\(address.text) is not a client of the node there",
        hint: "--node names the node of that client's organisation")
    }
    try makeHome(home)
    let keys = try loadOrMakeKeys()
    let store = try ClientStore(home: home, storageKey: keys.storageKey)
    defer { try? store.close() }
    let now = nowMs()
    let request = try store.write { rows in
      if let known = try known(address, identity, node.id, rows) { return known }
      let bytes = DeviceRequest.make(
        DeviceCertificateBody(
          address: address, identity: identity, signing: keys.device.publicKey, serial: 1,
          notBeforeMs: now, notAfterMs: now + certificateValidityMs),
        node: node.id, device: keys.device)
      try rows.insertAccount(
        AccountRow(
          address: address, identity: identity, kid: keys.device.kid, nodeID: node.id, endpoint: endpoint,
          serverName: serverName, certificate: [], deviceList: [], pendingRegistration: bytes))
      try rows.pinNode(node.name, node.id, nowMs: now)
      return try DeviceRequest(verifying: bytes)
    }
    if let authority { try replaceFile(NodeTransport.caPath(home), authority) }
    return DeviceRequestInfo(request)
  }

  /// The request that this home made before, while it asks for the same and can still be answered. One that
  /// does not is dropped.
  private func known(
    _ address: Address, _ identity: SigningPublicKey, _ node: NodeID, _ rows: ClientTransaction
  ) throws -> DeviceRequest? {
    let account: AccountRow
    do { account = try rows.account() } catch ClientStoreError.notInitialised { return nil }
    guard account.isWaitingForApproval, let bytes = account.pendingRegistration else {
      throw EngramError(
        .badInput, name: "already-registered", "this home belongs to \(account.address.text) already",
        hint: "give another device a home of its own with --home")
    }
    if account.address == address, account.identity == identity, account.nodeID == node,
      let request = try? DeviceRequest(verifying: bytes), request.isValid(atMs: nowMs())
    {
      return request
    }
    try rows.abandonRegistration()
    return nil
  }

  private func loadOrMakeKeys() throws -> ClientKeys {
    let secret = passphrase.map { Array($0.utf8) }
    if ClientKeys.exists(home: home) {
      let keys = try ClientKeys(home: home, passphrase: secret)
      guard keys.identity == nil else {
        throw EngramError(
          .badInput, name: "already-registered", "this home has an identity key of its own",
          hint: "give the new device a home of its own with --home")
      }
      return keys
    }
    let keys = ClientKeys.ofFurtherDevice()
    try keys.write(home: home, passphrase: secret)
    return keys
  }

  /// 1. The answer is one to this home's request, signed by the identity key that it named.
  /// 2. The node is the one that was asked, and lets the device in.
  /// 3. Its countersigned answer about the client shows that identity, and a list, not older than the one in
  ///    the answer, in which this device is active.
  /// 4. The device's prekey is published; from then on others seal for it.
  static func accept(
    _ text: String, _ store: ClientStore, _ account: AccountRow, _ keys: ClientKeys,
    transport: NodeTransport, clock: ClientClock
  ) async throws -> EngramClient {
    guard account.isWaitingForApproval, let request = account.pendingRegistration else {
      throw EngramError(
        .badInput, name: "already-registered", "this home belongs to \(account.address.text) already",
        hint: "nothing is left to accept")
    }
    let answer = try check(text, account, try DeviceRequest(verifying: request), nowMs: clock.nowMs())
    var complete = account
    (complete.certificate, complete.deviceList) = (answer.certificate.bytes, answer.list.bytes)
    complete.pendingRegistration = nil
    guard try await NodeAPI.describe(transport).id == account.nodeID else {
      throw EngramError(.untrusted, .wrongPeer)
    }
    let core = ClientCore(store: store, account: complete, keys: keys, transport: transport, clock: clock)
    let (now, address, device) = (clock.nowMs(), account.address, keys.device)
    let prekey = try await core.commit { rows -> PrekeyRow? in
      // Nothing older than what the identity key said in the answer is believed from here on.
      try rows.approvePeer(address, identity: account.identity, nowMs: now)
      try rows.setDeviceList(
        address, identity: account.identity, version: answer.list.body.version, list: answer.list.bytes)
      if let kept = try rows.newestSignedPrekey(), now < kept.notAfterMs { return kept }
      _ = try rows.makeSignedPrekey(
        address, device: device, acceptedTTLMs: account.acceptedTTLMs, nowMs: now)
      return try rows.newestSignedPrekey()
    }
    guard try await core.lookup(address).list.body.isActive(account.kid) else {
      throw EngramError(.untrusted, .deviceInactive)
    }
    if let prekey { try await core.api.putPrekey(prekey.certified) }
    let published = try await core.lookup(address)
    guard published.certificates.contains(where: { $0.bytes == answer.certificate.bytes }) else {
      throw EngramError(.untrusted, .badCertificate)
    }
    complete.deviceList = published.list.bytes
    try await core.commit { [complete] rows in
      try rows.completeEnrolment(
        certificate: complete.certificate, deviceList: complete.deviceList,
        EnrolmentRow(approver: answer.approver, place: answer.place))
      if let prekey { try rows.markPrekeyPublished(prekey.id) }
    }
    return EngramClient(
      core: ClientCore(store: store, account: complete, keys: keys, transport: transport, clock: clock))
  }

  private static func check(
    _ text: String, _ account: AccountRow, _ request: DeviceRequest, nowMs: UInt64
  ) throws -> DeviceAnswer {
    let bytes = try DeviceFile.answer.bytes(in: text)
    let answer: DeviceAnswer
    do throws(CredentialError) {
      answer = try DeviceAnswer(verifying: bytes, identity: account.identity)
    } catch {
      throw EngramError(
        .untrusted, error.code, saying: "the answer is not one of the identity key that was asked",
        hint: "check --identity in `engram device request`, and the file")
    }
    guard answer.request == request.digest else {
      throw EngramError(
        .untrusted, name: "wrong-answer", "the answer is to another request than this home's",
        hint: "approve the request of this home")
    }
    guard answer.certificate.kid == account.kid, answer.certificate.body == request.body,
      answer.certificate.isValid(atMs: nowMs)
    else { throw EngramError(.untrusted, .badCertificate) }
    return answer
  }
}

extension SigningPublicKey {
  init(checking text: String) throws {
    guard let key = EngramCore.bytes(hex: text).flatMap({ SigningPublicKey($0) }),
      (try? VerifyingKey(key)) != nil
    else {
      throw EngramError(
        .badInput, name: "bad-identity-key", "an identity key is 64 hexadecimal digits",
        hint: "`engram whoami` in another home of this client shows it")
    }
    self = key
  }
}
