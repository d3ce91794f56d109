import EngramCore
import EngramCrypto
import EngramSealing

/// One client with one device, keys in memory. Kept over all runs, so that what it sealed once serves every
/// run: an envelope names people and keys, never a node's key, and each run starts with fresh nodes.
struct Device: Sendable {
  let address: Address
  let identity: SigningKey
  let key: SigningKey
  let prekeySecret: PrekeySecret
  let certificate: DeviceCertificate
  let list: DeviceList
  let prekey: Prekey
  var kid: Kid { certificate.kid }

  private static let dayMs: UInt64 = 24 * 3_600 * 1_000

  init(_ address: String) throws {
    let now = wallClockMs()
    self.address = try Address(address)
    identity = SigningKey()
    key = SigningKey()
    prekeySecret = PrekeySecret()
    certificate = try DeviceCertificate(
      verifying: DeviceCertificate.issue(
        DeviceCertificateBody(
          address: self.address, identity: identity.publicKey, signing: key.publicKey, serial: 1,
          notBeforeMs: now, notAfterMs: now + 30 * Self.dayMs),
        identity: identity, device: key))
    list = try DeviceList(
      verifying: DeviceList.issue(
        DeviceListBody(
          address: self.address, identity: identity.publicKey, version: 1, issuedMs: now,
          validUntilMs: now + 30 * Self.dayMs,
          entries: [DeviceListBody.Entry(kid: certificate.kid, state: .active, sinceMs: now)]),
        identity: identity))
    prekey = try Prekey(
      verifying: prekeySecret.certified(
        kind: .signed, address: self.address, device: key, notBeforeMs: now,
        notAfterMs: now + 7 * Self.dayMs),
      by: certificate)
  }

  func registration(node: NodeID, invite: String) -> [UInt8] {
    makeRegistration(
      node: node, inviteToken: base64URLDecode(invite) ?? [], certificate: certificate.body, list: list.body,
      signedPrekey: prekey.bytes, identity: identity, device: key
    ).encoded()
  }

  /// Seals `body` for `recipient` as message number `index` of this program.
  func seal(
    _ body: [UInt8], index: Int, to recipient: Device, at chain: ChainPosition = .first
  ) throws -> SealedEnvelope {
    let now = wallClockMs()
    let request = SealRequest(
      messageID: MessageIndex.messageID(index), thread: MessageIndex.thread, type: .direct, createdMs: now,
      expiresMs: now + Self.dayMs, contentType: "application/octet-stream", body: body)
    return try EngramSealing.seal(
      request, from: address, for: [SealRecipient(recipient.prekey, chain: chain)], device: key)
  }

  /// Seals `body` for several devices as message 0, to be issued under other numbers.
  func seal(_ body: [UInt8], _ terms: Reissue.Terms, to recipients: [Device]) throws -> SealedEnvelope {
    let now = wallClockMs()
    var request = SealRequest(
      messageID: MessageIndex.messageID(0), thread: MessageIndex.thread, type: terms.type, createdMs: now,
      expiresMs: now + terms.ttlMs, contentType: "application/octet-stream", body: body)
    (request.priority, request.topic) = (terms.priority, terms.topic)
    return try EngramSealing.seal(
      request, from: address, for: recipients.map { SealRecipient($0.prekey, chain: .first) }, device: key)
  }

  /// This device's word that it took the message `envelope` of `sender`, to be signed with others by
  /// `signDeviceReceipts`.
  func processed(_ envelope: EnvelopeID, message: MessageID, from sender: Device) -> ReceiptBody {
    ReceiptBody(
      role: .device, issuerName: address.text, issuerKey: key.publicKey, envelope: envelope,
      sender: sender.address, senderKid: sender.kid, messageID: message, recipient: address,
      recipientKid: kid, state: .processed, atMs: wallClockMs())
  }
}

/// Message ids of this program: eight random bytes drawn once, then the message's number, big-endian. So a
/// message is recognised by its clear header, without a table and without opening it.
enum MessageIndex {
  private static let prefix = randomBytes(8)
  static let thread = ThreadID.zero

  /// Offset of the number in an envelope: lp(H) 4, magic 11, suite 5, kind 5, the id's own length 4, prefix
  /// 8.
  static let offsetInEnvelope = 37

  static func messageID(_ index: Int) -> MessageID {
    guard let id = MessageID(prefix + bigEndianBytes(UInt64(index))) else { preconditionFailure("16 bytes") }
    return id
  }

  static func index(of id: MessageID) -> Int? {
    let bytes = id.bytes
    guard bytes.prefix(8).elementsEqual(prefix) else { return nil }
    return Int(bytes.dropFirst(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
  }
}
