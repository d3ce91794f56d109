package import EngramCore
package import EngramCrypto
package import EngramSealing

/// One device of one client with everything that it would show to others. The same address has the same
/// identity key in every test, the same (address, device) the same device keys: failures repeat.
package struct TestDevice: Sendable {
  package let address: Address
  package let identity: SigningKey
  package let key: SigningKey
  package let prekeySecret: PrekeySecret
  package let certificate: DeviceCertificate
  package let list: DeviceList
  /// The signed prekey; `prekey.bytes` is what a directory holds.
  package let prekey: Prekey
  package var kid: Kid { certificate.kid }

  /// - Parameters:
  ///   - others: further active devices that the device list names.
  ///   - listVersion: version of the device list.
  ///   - suites: what the certificate says that the device speaks.
  ///   - identity: another identity key than the address has in all other tests.
  package init(
    _ address: String, device: String = "main", nowMs: UInt64 = TestTime.startMs, others: [Kid] = [],
    state: DeviceState = .active, listVersion: UInt64 = 1, suites: [UInt8] = [Suite.one.rawValue],
    identity identityName: String? = nil
  ) throws {
    self.address = try Address(address)
    identity = signingKey(named: identityName ?? address)
    key = signingKey(named: "\(address)/\(device)")
    prekeySecret = sealingKey(named: "\(address)/\(device)/signed")
    certificate = try DeviceCertificate(
      verifying: DeviceCertificate.issue(
        DeviceCertificateBody(
          address: self.address, identity: identity.publicKey, signing: key.publicKey, serial: 1,
          notBeforeMs: nowMs, notAfterMs: nowMs + 365 * TestTime.dayMs, suites: suites),
        identity: identity, device: key))
    var entries = others.map { DeviceListBody.Entry(kid: $0, state: .active, sinceMs: nowMs) }
    entries.append(DeviceListBody.Entry(kid: certificate.kid, state: state, sinceMs: nowMs))
    list = try DeviceList(
      verifying: DeviceList.issue(
        DeviceListBody(
          address: self.address, identity: identity.publicKey, version: listVersion, issuedMs: nowMs,
          validUntilMs: nowMs + 30 * TestTime.dayMs, entries: entries.sorted { $0.kid < $1.kid }),
        identity: identity))
    prekey = try Prekey(
      verifying: prekeySecret.certified(
        kind: .signed, address: self.address, device: key, notBeforeMs: nowMs,
        notAfterMs: nowMs + 7 * TestTime.dayMs),
      by: certificate)
  }

  /// One-time prekey number `index`.
  package func oneTimePrekey(
    _ index: Int, nowMs: UInt64 = TestTime.startMs
  ) throws -> (secret: PrekeySecret, prekey: Prekey) {
    let secret = sealingKey(named: "\(address)/\(kid)/one-time/\(index)")
    let bytes = secret.certified(
      kind: .oneTime, address: address, device: key, notBeforeMs: nowMs,
      notAfterMs: nowMs + 7 * TestTime.dayMs)
    return (secret, try Prekey(verifying: bytes, by: certificate))
  }

  /// The same device with a certificate that names other suites.
  package func speaking(_ suites: [UInt8]) throws -> TestDevice {
    try TestDevice(address.text, nowMs: certificate.body.notBeforeMs, suites: suites)
  }

  /// What nodes store about a sender and hand on before its first envelope.
  package var certificateItem: CertificateItem {
    CertificateItem(certificate: certificate.bytes, deviceList: list.bytes)
  }

  package func bundle(oneTime: Prekey? = nil) -> PrekeyBundle {
    PrekeyBundle(
      deviceList: list.bytes, certificate: certificate.bytes, signedPrekey: prekey.bytes,
      oneTimePrekey: oneTime?.bytes)
  }

  package func registration(node: NodeID, invite: [UInt8]) -> RegistrationRequest {
    makeRegistration(
      node: node, inviteToken: invite, certificate: certificate.body, list: list.body,
      signedPrekey: prekey.bytes,
      identity: identity, device: key)
  }

  /// A fresh session token for `node`.
  package func token(node: NodeID, nowMs: UInt64 = TestTime.startMs) -> String {
    DeviceToken.mint(address: address, device: key, node: node, nowMs: nowMs)
  }

  /// Verifies and opens an envelope as this device, with its signed prekey or one of `oneTime`.
  package func open(
    _ bytes: [UInt8], from sender: TestDevice, oneTime: [PrekeySecret] = []
  ) throws -> OpenedMessage {
    let verified = try VerifiedEnvelope(UnverifiedEnvelope(parsing: bytes), sender: sender.certificate)
    return try EngramSealing.open(verified, as: address, kid: kid) { id in
      ([prekeySecret] + oneTime).first { $0.id == id }
    }
  }

  /// This device's signed word about an envelope that it was sent.
  package func receipt(
    about envelope: [UInt8], state: ReceiptState = .processed, code: ErrorCode = .none,
    atMs: UInt64 = TestTime.startMs
  ) throws -> [UInt8] {
    try receipts(about: [envelope], state: state, code: code, atMs: atMs)[0]
  }

  /// The same about several, signed together.
  package func receipts(
    about envelopes: [[UInt8]], state: ReceiptState = .processed, code: ErrorCode = .none,
    atMs: UInt64 = TestTime.startMs
  ) throws -> [[UInt8]] {
    signReceipts(
      try envelopes.map { try statement(about: $0, state: state, code: code, atMs: atMs) }, with: key)
  }

  private func statement(
    about envelope: [UInt8], state: ReceiptState, code: ErrorCode, atMs: UInt64
  ) throws -> ReceiptBody {
    let envelope = try UnverifiedEnvelope(parsing: envelope)
    return ReceiptBody(
      role: .device, issuerName: address.text, issuerKey: key.publicKey,
      envelope: EnvelopeDigests(of: envelope).id,
      sender: envelope.header.sender, senderKid: envelope.header.senderKid,
      messageID: envelope.header.messageID,
      recipient: address, recipientKid: kid, state: state, code: code, atMs: atMs)
  }
}

/// A node's name and identity key, without the node.
package struct TestNode: Sendable {
  package let name: NodeName
  package let key: SigningKey
  package var id: NodeID { NodeID(key.publicKey) }

  package init(_ name: String) throws {
    self.name = try NodeName(name)
    key = signingKey(named: "node/\(name)")
  }
}

/// Seals `text` for `recipients`. Message ids differ from call to call; `adjust` changes anything else.
///
/// - Parameter position: the place in the sender's chain, used for every recipient.
package func sealText(
  _ text: String, from sender: TestDevice, to recipients: [TestDevice], at position: ChainPosition = .first,
  nowMs: UInt64 = TestTime.startMs, adjust: (inout SealRequest) -> Void = { _ in }
) throws -> SealedEnvelope {
  try sealText(
    text, from: sender, to: recipients.map { SealRecipient($0.prekey, chain: position) }, nowMs: nowMs,
    adjust: adjust)
}

/// The same for recipients with their own prekeys and chain positions.
package func sealText(
  _ text: String, from sender: TestDevice, to recipients: [SealRecipient], nowMs: UInt64 = TestTime.startMs,
  adjust: (inout SealRequest) -> Void = { _ in }
) throws -> SealedEnvelope {
  guard let message = MessageID(randomBytes(16)), let thread = ThreadID(randomBytes(16)) else {
    throw CodecError.wrongLength
  }
  var request = SealRequest(
    messageID: message, thread: thread, type: .direct, createdMs: nowMs, expiresMs: nowMs + TestTime.dayMs,
    body: Array(text.utf8))
  adjust(&request)
  return try seal(request, from: sender.address, for: recipients, device: sender.key)
}

/// The Ed25519 key that belongs to a name in every test.
package func signingKey(named name: String) -> SigningKey {
  var generator = SeededGenerator(name: "ed25519/\(name)")
  return signingKey(seed: generator.bytes(32))
}

package func signingKey(seed: [UInt8]) -> SigningKey {
  var seed = seed
  return SigningKey(seed: SecretBytes(consuming: &seed))
}

/// The X25519 key that belongs to a name in every test.
package func sealingKey(named name: String) -> PrekeySecret {
  var generator = SeededGenerator(name: "x25519/\(name)")
  return sealingKey(seed: generator.bytes(32))
}

package func sealingKey(seed: [UInt8]) -> PrekeySecret {
  var seed = seed
  return PrekeySecret(seed: SecretBytes(consuming: &seed))
}
