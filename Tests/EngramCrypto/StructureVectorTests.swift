import EngramCore
import EngramCrypto
import TestSupport
import Testing

/// `structures.json` was made by the second implementation. Signatures of Ed25519 are deterministic, so this
/// one must give the same bytes, not just accept them.
@Suite("Keys, receipts, hello and hashes in vector files")
struct StructureVectorTests {
  let file: StructureVectors
  init() throws { file = try vectors("structures") }

  /// The labels of the protocol that the vectors use; `Transcript` takes literals only.
  private static let labels: [String: StaticString] = [
    "kid": "kid", "header": "header", "commit": "commit", "body": "body", "wraps": "wraps",
  ]

  @Test("T(label, x…; key) gives the digests of the vectors")
  func hashes() throws {
    #expect(file.hashes.count >= 7)
    for vector in file.hashes {
      let label = try #require(Self.labels[vector.label])
      let digest = vector.key.bytes.withUnsafeBytes { key in
        let transcript = key.isEmpty ? Transcript(label) : Transcript(label, key: key)
        for part in vector.parts { transcript.absorb(part.bytes) }
        return transcript.finish()
      }
      #expect(digest == vector.digest.bytes)
    }
  }

  @Test("names derived from keys, padded lengths and safety numbers are those of the vectors")
  func names() throws {
    for vector in file.kids { #expect(kid(of: try key(vector.key)).bytes == vector.kid.bytes) }
    for vector in file.prekeyIds {
      #expect(prekeyID(of: try #require(SealingPublicKey(vector.key.bytes))).bytes == vector.id.bytes)
    }
    for vector in file.nodeIds {
      #expect(NodeID(try key(vector.key)).description == vector.text)
      #expect(try NodeID(parsing: vector.text).bytes == vector.key.bytes)
    }
    for pair in file.paddedLengths { #expect(paddedLength(of: pair[0]) == pair[1]) }
    for vector in file.safetyNumbers {
      #expect(safetyNumber(try party(vector.a), try party(vector.b)) == vector.number)
    }
  }

  private func key(_ bytes: HexBytes) throws -> SigningPublicKey {
    try #require(SigningPublicKey(bytes.bytes))
  }
  private func party(
    _ party: StructureVectors.Party
  ) throws -> (address: Address, identity: SigningPublicKey) {
    (try Address(party.address), try key(party.identity))
  }

  @Test("certificate, device list, prekeys and registration come out byte for byte")
  func keys() throws {
    let keys = file.keys
    let (identity, device) = (
      signingKey(seed: keys.identitySeed.bytes), signingKey(seed: keys.deviceSeed.bytes)
    )
    let address = try Address(keys.address)
    let body = DeviceCertificateBody(
      address: address, identity: identity.publicKey, signing: device.publicKey, serial: keys.serial,
      notBeforeMs: keys.notBeforeMs, notAfterMs: keys.notAfterMs)
    #expect(DeviceCertificate.issue(body, identity: identity, device: device) == keys.certificate.bytes)
    let certificate = try DeviceCertificate(verifying: keys.certificate.bytes)

    let list = DeviceListBody(
      address: address, identity: identity.publicKey, version: keys.list.version,
      issuedMs: keys.list.issuedMs,
      validUntilMs: keys.list.validUntilMs,
      entries: try keys.list.entries.map { entry in
        DeviceListBody.Entry(
          kid: try #require(Kid(entry.kid.bytes)), state: try #require(DeviceState(rawValue: entry.state)),
          sinceMs: entry.sinceMs)
      })
    #expect(DeviceList.issue(list, identity: identity) == keys.list.bytes.bytes)
    #expect(try DeviceList(verifying: keys.list.bytes.bytes).body == list)

    for vector in keys.prekeys {
      let prekey = try Prekey(verifying: vector.bytes.bytes, by: certificate)
      #expect(prekey.body.kind.rawValue == vector.kind)
      #expect(Prekey.issue(prekey.body, device: device) == vector.bytes.bytes)
    }
    let node = NodeID(try key(keys.registration.nodeId))
    let request = makeRegistration(
      node: node, inviteToken: keys.registration.invite.bytes, certificate: body,
      list: try DeviceList(verifying: keys.registrationList.bytes).body,
      signedPrekey: keys.prekeys[0].bytes.bytes,
      identity: identity, device: device)
    #expect(request.encoded() == keys.registration.bytes.bytes)
    let verified = try VerifiedRegistration(
      RegistrationRequest(parsing: keys.registration.bytes.bytes[...]), node: node, nowMs: TestTime.startMs)
    #expect(verified.invite.bytes == keys.registration.inviteDigest.bytes)
  }

  @Test("bundles and the countersigned directory answer come out byte for byte")
  func directory() throws {
    let vector = file.keys.directory
    let node = signingKey(seed: vector.nodeSeed.bytes)
    let answer = DirectoryAnswerBody(
      node: try NodeName(vector.node), nodeID: NodeID(node.publicKey), address: try Address(vector.address),
      issuedMs: vector.issuedMs,
      bundles: try file.keys.bundles.map { try PrekeyBundle(parsing: $0.bytes[...]) })
    #expect(answer.bundles.map(\.oneTimePrekey?.isEmpty) == [false, nil])
    #expect(signDirectoryAnswer(answer, key: node) == vector.bytes.bytes)
    #expect(try verifyDirectoryAnswer(vector.bytes.bytes[...], pinned: NodeID(node.publicKey)) == answer)
  }

  @Test("receipt batches come out byte for byte, and verify")
  func receipts() throws {
    #expect(file.receipts.map(\.bodies.count) == [1, 2, 3, 5, 8, 1, 3, 9])
    for batch in file.receipts {
      let issuer = signingKey(seed: batch.issuerSeed.bytes)
      let bodies = try batch.receipts.map { try UnverifiedReceipt(parsing: $0.bytes[...]).body }
      #expect(bodies.map(\.attempt) == batch.bodies.map(\.attempt))
      #expect(bodies.map(\.state.rawValue) == batch.bodies.map(\.state))
      #expect(bodies.map { $0.recipient?.text ?? "" } == batch.bodies.map(\.recipient))
      #expect(signReceipts(bodies, with: issuer).map { HexBytes($0) } == batch.receipts)
      for bytes in batch.receipts {
        let receipt = try UnverifiedReceipt(parsing: bytes.bytes[...])
        #expect(throws: Never.self) {
          try VerifiedReceipt(receipt, bytes: bytes.bytes, expectedKey: issuer.publicKey)
        }
      }
    }
  }

  @Test("the hello comes out byte for byte, and verifies")
  func hello() throws {
    let vector = file.hello
    let key = signingKey(seed: vector.nodeSeed.bytes)
    let body = try verifyHello(
      vector.bytes.bytes[...], exporter: vector.exporter.bytes, pinned: NodeID(key.publicKey))
    let fields = vector.fields
    #expect(body.name.text == fields.name && body.peerName.text == fields.peerName)
    #expect(body.role.rawValue == fields.role && body.version == fields.version)
    #expect(body.peerNodeID.bytes == fields.peerNodeId.bytes)
    #expect(
      [body.nowMs, body.epoch, body.throughEpoch, body.through]
        == [fields.nowMs, fields.epoch, fields.throughEpoch, fields.through])
    #expect([body.maxFrame, body.window] == [fields.maxFrame, fields.window])
    #expect(body.features.rawValue == fields.features)
    #expect(signHello(body, exporter: vector.exporter.bytes, key: key) == vector.bytes.bytes)
  }

  @Test("deliver, ack, part, mailbox items and outcomes come out byte for byte")
  func frames() throws {
    let frames = file.frames
    let deliver = try DeliverFrame(parsing: frames.deliver.bytes.bytes[...])
    #expect(deliver.envelopes.map { HexBytes($0) } == frames.deliver.envelopes)
    #expect((deliver.epoch, deliver.firstSeq) == (frames.deliver.epoch, frames.deliver.firstSeq))
    #expect(deliver.encoded() == frames.deliver.bytes.bytes)
    let ack = try AckFrame(parsing: frames.ack.bytes.bytes[...])
    #expect(ack.items.map(\.outcome.rawValue) == frames.ack.items.map(\.outcome))
    #expect(ack.items.map(\.code.rawValue) == frames.ack.items.map(\.code))
    #expect(ack.through == frames.ack.through)
    #expect(ack.encoded() == frames.ack.bytes.bytes)
    let part = try PartFrame(parsing: frames.part.bytes.bytes[...])
    #expect(
      [part.stream, part.total, part.offset] == [frames.part.stream, frames.part.total, frames.part.offset])
    #expect(part.encoded() == frames.part.bytes.bytes)
    let items = try MailboxItem.decode(frames.mailbox.bytes.bytes[...])
    #expect(items.map(\.kind) == [.certificate, .envelope, .receipt])
    #expect(MailboxItem.encode(items) == frames.mailbox.bytes.bytes)
    let outcomes = try ItemOutcome.decode(frames.outcomes.bytes.bytes[...])
    #expect(ItemOutcome.encode(outcomes) == frames.outcomes.bytes.bytes)
  }

  @Test("receipts, directory, certificate and goodbye frames come out byte for byte")
  func smallFrames() throws {
    let frames = file.frames
    let receipts = try ReceiptsFrame(parsing: frames.receipts.bytes.bytes[...])
    // One number for the whole row, however many receipts are in it.
    #expect((receipts.epoch, receipts.seq) == (frames.receipts.epoch, frames.receipts.seq))
    #expect(receipts.receipts.map { HexBytes($0) } == frames.receipts.receipts)
    #expect(receipts.receipts.count == 3)
    #expect(receipts.encoded() == frames.receipts.bytes.bytes)
    let ack = ReceiptsAckFrame(epoch: frames.receiptsAck.epoch, through: frames.receiptsAck.through)
    #expect(ack.encoded() == frames.receiptsAck.bytes.bytes)
    #expect(try ReceiptsAckFrame(parsing: frames.receiptsAck.bytes.bytes[...]) == ack)
    let certificate = CertificateItem(
      certificate: frames.certificate.certificate.bytes, deviceList: frames.certificate.deviceList.bytes)
    #expect(certificate.encoded() == frames.certificate.bytes.bytes)
    #expect(try CertificateItem(parsing: frames.certificate.bytes.bytes[...]) == certificate)
    let query = DirectoryQueryFrame(
      request: frames.directoryQuery.request, address: try Address(frames.directoryQuery.address))
    #expect(query.encoded() == frames.directoryQuery.bytes.bytes)
    #expect(try DirectoryQueryFrame(parsing: frames.directoryQuery.bytes.bytes[...]) == query)
    for vector in [frames.directoryAnswer, frames.directoryRefusal] {
      let answer = DirectoryAnswerFrame(
        request: vector.request, code: ErrorCode(received: vector.code), answer: vector.answer.bytes)
      #expect(answer.encoded() == vector.bytes.bytes)
      #expect(try DirectoryAnswerFrame(parsing: vector.bytes.bytes[...]) == answer)
    }
    let goodbye = GoodbyeFrame(
      code: ErrorCode(received: frames.goodbye.code), retryAfterMs: frames.goodbye.retryAfterMs)
    #expect(goodbye.encoded() == frames.goodbye.bytes.bytes)
    #expect(try GoodbyeFrame(parsing: frames.goodbye.bytes.bytes[...]) == goodbye)
  }

  @Test("a token of the second implementation verifies")
  func token() throws {
    let vector = file.token
    let token = try #require(DeviceToken(parsing: vector.text))
    let device = signingKey(seed: vector.deviceSeed.bytes)
    #expect(token.address.text == vector.address)
    #expect(token.kid == device.kid)
    let verdict = token.verify(
      key: try VerifyingKey(device.publicKey), node: NodeID(try key(vector.nodeId)), nowMs: vector.iat * 1_000
    )
    #expect(verdict == .none)
  }
}

struct StructureVectors: Decodable {
  struct Hash: Decodable {
    var label: String
    var parts: [HexBytes]
    var key: HexBytes
    var digest: HexBytes
  }
  struct NamedKid: Decodable {
    var key: HexBytes
    var kid: HexBytes
  }
  struct NamedPrekey: Decodable {
    var key: HexBytes
    var id: HexBytes
  }
  struct NamedNode: Decodable {
    var key: HexBytes
    var text: String
  }
  struct Party: Decodable {
    var address: String
    var identity: HexBytes
  }
  struct Safety: Decodable {
    var a: Party
    var b: Party
    var number: String
  }
  struct Keys: Decodable {
    struct List: Decodable {
      struct Entry: Decodable {
        var kid: HexBytes
        var state: UInt8
        var sinceMs: UInt64
      }
      var version: UInt64
      var issuedMs: UInt64
      var validUntilMs: UInt64
      var entries: [Entry]
      var bytes: HexBytes
    }
    struct PrekeyVector: Decodable {
      var kind: UInt8
      var bytes: HexBytes
    }
    struct Registration: Decodable {
      var nodeId: HexBytes
      var invite: HexBytes
      var inviteDigest: HexBytes
      var bytes: HexBytes
    }
    struct Directory: Decodable {
      var node: String
      var nodeSeed: HexBytes
      var address: String
      var issuedMs: UInt64
      var bytes: HexBytes
    }
    var address: String
    var identitySeed: HexBytes
    var deviceSeed: HexBytes
    var serial: UInt64
    var notBeforeMs: UInt64
    var notAfterMs: UInt64
    var certificate: HexBytes
    var list: List
    var registrationList: HexBytes
    var prekeys: [PrekeyVector]
    var registration: Registration
    var bundles: [HexBytes]
    var directory: Directory
  }
  struct Batch: Decodable {
    struct Body: Decodable {
      var recipient: String
      var state: UInt8
      var attempt: UInt32
    }
    var issuerSeed: HexBytes
    var bodies: [Body]
    var receipts: [HexBytes]
  }
  struct Hello: Decodable {
    struct Fields: Decodable {
      var role: UInt8
      var version: UInt16
      var name: String
      var peerName: String
      var peerNodeId: HexBytes
      var nowMs: UInt64
      var epoch: UInt64
      var throughEpoch: UInt64
      var through: UInt64
      var maxFrame: UInt32
      var window: UInt32
      var features: UInt64
    }
    var nodeSeed: HexBytes
    var exporter: HexBytes
    var fields: Fields
    var bytes: HexBytes
  }
  struct Frames: Decodable {
    struct Deliver: Decodable {
      var epoch: UInt64
      var firstSeq: UInt64
      var envelopes: [HexBytes]
      var bytes: HexBytes
    }
    struct Ack: Decodable {
      struct Item: Decodable {
        var outcome: UInt8
        var code: UInt16
      }
      var through: UInt64
      var items: [Item]
      var bytes: HexBytes
    }
    struct Part: Decodable {
      var stream: UInt32
      var total: UInt32
      var offset: UInt32
      var bytes: HexBytes
    }
    struct Encoded: Decodable {
      var bytes: HexBytes
    }
    struct Receipts: Decodable {
      var epoch: UInt64
      var seq: UInt64
      var receipts: [HexBytes]
      var bytes: HexBytes
    }
    struct ReceiptsAck: Decodable {
      var epoch: UInt64
      var through: UInt64
      var bytes: HexBytes
    }
    struct Certificate: Decodable {
      var certificate: HexBytes
      var deviceList: HexBytes
      var bytes: HexBytes
    }
    struct DirectoryQuery: Decodable {
      var request: UInt32
      var address: String
      var bytes: HexBytes
    }
    struct DirectoryAnswer: Decodable {
      var request: UInt32
      var code: UInt16
      var answer: HexBytes
      var bytes: HexBytes
    }
    struct Goodbye: Decodable {
      var code: UInt16
      var retryAfterMs: UInt32
      var bytes: HexBytes
    }
    var deliver: Deliver
    var ack: Ack
    var part: Part
    var receipts: Receipts
    var receiptsAck: ReceiptsAck
    var certificate: Certificate
    var directoryQuery: DirectoryQuery
    var directoryAnswer: DirectoryAnswer
    var directoryRefusal: DirectoryAnswer
    var goodbye: Goodbye
    var mailbox: Encoded
    var outcomes: Encoded
  }
  struct Token: Decodable {
    var address: String
    var deviceSeed: HexBytes
    var nodeId: HexBytes
    var iat: UInt64
    var text: String
  }

  var hashes: [Hash]
  var kids: [NamedKid]
  var prekeyIds: [NamedPrekey]
  var nodeIds: [NamedNode]
  var paddedLengths: [[Int]]
  var safetyNumbers: [Safety]
  var keys: Keys
  var receipts: [Batch]
  var hello: Hello
  var frames: Frames
  var token: Token
}
