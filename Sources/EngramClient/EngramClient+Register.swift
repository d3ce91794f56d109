internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

/// What `register` needs to know beside the home.
struct Registrar: Sendable {
  let home: String
  let endpoint: String
  let serverName: String
  let passphrase: String?
  /// PEM text of the authority that vouches for the node; kept in the home once the node has answered.
  var authority: [UInt8]?
  let nowMs: @Sendable () -> UInt64
}

extension EngramClient {
  /// Makes the keys of a new client, proves them to its node, and leaves a home that `open` opens.
  ///
  /// A run that was cut off can be repeated with the same arguments: keys and request are on the disk before
  /// the node hears of them, and the very same request is sent again.
  /// - Parameters:
  ///   - home: a folder, made with mode 0700 if it does not exist.
  ///   - node: `HOST:PORT` of the node.
  ///   - caFile: PEM file of the certificate authority that vouches for the node; copied into the home.
  ///   - invite: the one-time token that the node's administrator handed out.
  ///   - nodeName: the name in the node's certificate where that is not HOST.
  ///   - passphrase: seals the key file; nil leaves it to the file's mode (0600).
  /// - Throws: `EngramError`.
  public static func register(
    home: String, node: String, caFile: String, invite: String, passphrase: String?, nodeName: String? = nil
  ) async throws -> EngramClient {
    try await publicly {
      let node = try FirstContact(node, caFile: caFile, name: nodeName)
      _ = try InviteToken(invite)
      let registrar = Registrar(
        home: home, endpoint: node.endpoint, serverName: node.serverName, passphrase: passphrase,
        authority: node.authority, nowMs: ClientClock().nowMs)
      return try await registrar.run(invite: invite, transport: node.transport)
    }
  }
}

extension Registrar {
  /// 1. The node says who it is; until then nothing is written, so a wrong address or authority leaves no
  ///    trace.
  /// 2. Keys are made and written, then the request with the first prekey, and what is pinned: the node's
  ///    identity and its authority.
  /// 3. The node answers with a signed directory answer about us, which is checked like any other.
  func run(invite: String, transport: NodeTransport) async throws -> EngramClient {
    let token = try InviteToken(invite)
    let node = try await NodeAPI.describe(transport)
    try makeHome(home)
    let keys = try loadOrMakeKeys()
    let store = try ClientStore(home: home, storageKey: keys.storageKey)
    guard let identity = keys.identity else { throw EngramError.homeOfFurtherDevice }
    let account = try prepare(store, keys, identity, token, node)
    guard let request = account.pendingRegistration, !account.isWaitingForApproval else {
      throw EngramError(
        .badInput, name: "already-registered", "this home belongs to \(account.address.text) already",
        hint: "give another client a home of its own with --home")
    }
    // A registration that is not answered yet may still be repeated with another authority.
    if let authority { try replaceFile(NodeTransport.caPath(home), authority) }
    let core = ClientCore(
      store: store, account: account, keys: keys, transport: transport, nowMs: nowMs)
    do {
      let answer = try await NodeAPI.register(transport, request)
      try await accept(answer, core)
    } catch let error as EngramError where error.kind == .refused {
      // An answer that got lost looks like this too: the invite is used, and we are the ones who used it.
      guard (try? await core.api.bearer()) != nil else {
        try store.write { try $0.abandonRegistration() }
        throw error
      }
    }
    try await core.commit { rows in
      try rows.completeRegistration()
      if let prekey = try rows.newestSignedPrekey() { try rows.markPrekeyPublished(prekey.id) }
    }
    return EngramClient(core: core)
  }

  private func loadOrMakeKeys() throws -> ClientKeys {
    let secret = passphrase.map { Array($0.utf8) }
    if ClientKeys.exists(home: home) { return try ClientKeys(home: home, passphrase: secret) }
    let keys = ClientKeys()
    try keys.write(home: home, passphrase: secret)
    return keys
  }

  /// The account as it stands, or a new one with its request.
  private func prepare(
    _ store: ClientStore, _ keys: ClientKeys, _ identity: SigningKey, _ token: InviteToken,
    _ node: (name: NodeName, id: NodeID)
  ) throws -> AccountRow {
    let now = nowMs()
    return try store.write { rows in
      do {
        let account = try rows.account()
        // A request to another node, which never answered it, is of no use to this one.
        guard account.pendingRegistration != nil, account.nodeID != node.id else { return account }
        try rows.abandonRegistration()
        throw ClientStoreError.notInitialised
      } catch ClientStoreError.notInitialised {
        let address = try token.address(at: node.name)
        let prekey = try rows.makeSignedPrekey(
          address, device: keys.device, acceptedTTLMs: ClientStoreLimits.acceptedTTLMs, nowMs: now)
        let request = makeRegistration(
          node: node.id, inviteToken: token.bytes,
          certificate: DeviceCertificateBody(
            address: address, identity: identity.publicKey, signing: keys.device.publicKey, serial: 1,
            notBeforeMs: now, notAfterMs: now + certificateValidityMs),
          list: DeviceListBody(
            address: address, identity: identity.publicKey, version: 1, issuedMs: now,
            validUntilMs: now + Limits.deviceListValidityMsMax,
            entries: [.init(kid: keys.device.kid, state: .active, sinceMs: now)]),
          signedPrekey: prekey, identity: identity, device: keys.device)
        let account = AccountRow(
          address: address, identity: identity.publicKey, kid: keys.device.kid, nodeID: node.id,
          endpoint: endpoint, serverName: serverName, certificate: request.certificate,
          deviceList: request.deviceList, pendingRegistration: request.encoded())
        try rows.insertAccount(account)
        try rows.pinNode(node.name, node.id, nowMs: now)
        return account
      }
    }
  }

  /// The node's word that it has registered exactly what we asked for.
  private func accept(_ answer: [UInt8], _ core: ClientCore) async throws {
    let account = core.account
    let pins = DirectoryPins(node: account.nodeID, identity: account.identity)
    let now = nowMs()
    let judged: JudgedAnswer
    do throws(DirectoryRefusal) {
      judged = try judgeDirectoryAnswer(
        answer, about: account.address, pins: pins, credentials: core.credentials, nowMs: now)
    } catch { throw EngramError(.untrusted, error.code) }
    guard judged.certificates.contains(where: { $0.bytes == account.certificate }) else {
      throw EngramError(.untrusted, .badCertificate)
    }
    try await core.commit { rows in
      try rows.adopt(judged, bytes: answer, nowMs: now)
      try rows.approvePeer(account.address, identity: account.identity, nowMs: now)
    }
  }
}

/// A device certificate outlives any device list; the list is what revokes.
let certificateValidityMs: UInt64 = 5 * 365 * 24 * 3_600 * 1_000

/// An invite as its administrator hands it out: base64url of `lp(name) || lp(24 random bytes)`.
struct InviteToken: Sendable, Equatable {
  let name: String
  /// The whole decoded token, which the registration presents.
  let bytes: [UInt8]

  init(_ text: String) throws {
    guard let bytes = base64URLDecode(text), bytes.count <= Limits.inviteTokenBytesMax,
      let name = try? parse(
        bytes[...],
        { (r) throws(CodecError) in
          let name = try r.string(max: Limits.addressBytesMax)
          guard try r.field(max: 64).count >= 16 else { throw CodecError.wrongLength }
          return name
        })
    else {
      throw EngramError(
        .badInput, name: "bad-invite", "this is not an invite token",
        hint: "copy the whole line that `engram-node admin client invite NAME` printed")
    }
    (self.name, self.bytes) = (name, bytes)
  }

  /// The address that the invite is for.
  func address(at node: NodeName) throws -> Address {
    let local = name.split(separator: "@", maxSplits: 1).first.map(String.init) ?? name
    guard let address = try? Address(name: local, node: node), name == local || name == address.text else {
      throw EngramError(.badInput, name: "bad-invite", "this invite is for a client of another node")
    }
    return address
  }
}
