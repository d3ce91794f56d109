import EngramCore
import EngramCrypto
import EngramSealing
import Foundation
import TestSupport
import Testing

/// Writes the vectors that this implementation seals, for the other one to open. Run with
/// `ENGRAM_WRITE_VECTORS=Tests/Vectors swift test --filter WrittenVectorTests`; nothing happens otherwise.
@Suite("Vectors written for the second implementation")
struct WrittenVectorTests {
  private static let directory = ProcessInfo.processInfo.environment["ENGRAM_WRITE_VECTORS"]
  let alice: TestDevice
  let bob: TestDevice
  let carol: TestDevice

  init() throws {
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@beta.example")
    carol = try TestDevice("carol@gamma.example")
  }

  @Test("envelopes are written", .enabled(if: directory != nil))
  func writeEnvelopes() throws {
    let (secret, oneTime) = try carol.oneTimePrekey(1)
    let far = ChainPosition(seq: 1 << 40, previous: EnvelopeID(randomBytes(32)) ?? .zero)
    let signed = { (device: TestDevice) in (SealRecipient(device.prekey, chain: .first), device.prekeySecret)
    }
    let three = [
      signed(bob), (SealRecipient(oneTime, chain: far), secret), signed(try TestDevice("dave@beta.example")),
    ]
    let log = (0..<300).map { "line \($0): still nothing happened\n" }.joined()
    let vectors = [
      try vector("one recipient", [signed(bob)]) { $0.body = Array("hello bob".utf8) },
      try vector("three recipients on two nodes, one of them by one-time prekey", three) {
        $0.body = [1, 2, 3]
      },
      try vector("every header field", [signed(bob)]) { request in
        request.kind = .control
        request.parent = far.previous
        request.type = .handoff
        request.priority = .critical
        request.notBeforeMs = request.createdMs + 1
        request.topic = "builds.linux_x86.failed-2"
        request.labels = [Label(key: "a.b-c_d", value: "ü"), Label(key: "z", value: "")]
        request.attachments = [.zero, AttachmentID([UInt8](repeating: 255, count: 32)) ?? .zero]
      },
      try vector("an empty body and content type", [signed(bob)]) { ($0.body, $0.contentType) = ([], "") },
      try vector("a compressed log", [signed(bob), signed(carol)]) {
        ($0.body, $0.mayCompress) = (Array(log.utf8), true)
      },
    ]
    try write(vectors, to: "envelopes-swift.json")
  }

  private func vector(
    _ name: String, _ recipients: [(seal: SealRecipient, secret: PrekeySecret)],
    _ adjust: (inout SealRequest) -> Void
  ) throws -> EnvelopeVector {
    var asked: SealRequest?
    let sealed = try sealText("", from: alice, to: recipients.map(\.seal)) {
      adjust(&$0)
      asked = $0
    }
    let request = try #require(asked)
    let envelope = try UnverifiedEnvelope(parsing: sealed.bytes)
    let digests = EnvelopeDigests(of: envelope)
    let ordered = recipients.sorted { Recipient.precedes($0.seal.recipient, $1.seal.recipient) }
    let copies = ([[]] + ordered.indices.map { [$0] }).map { keep in
      EnvelopeVector.Copy(
        keep: keep,
        bytes: HexBytes(pruneEnvelope(envelope) { r in keep.contains { ordered[$0].seal.recipient == r } }))
    }
    let bare = try UnverifiedEnvelope(parsing: pruneEnvelope(envelope) { _ in false })
    let stub = assembleEnvelope(
      header: bare.headerBytes, slots: bare.slots, body: .stub(digests.ciphertext), signature: bare.signature)
    return EnvelopeVector(
      name: name,
      sender: .init(
        address: alice.address.text, certificate: HexBytes(alice.certificate.bytes),
        deviceList: HexBytes(alice.list.bytes)),
      recipients: ordered.map { recipientVector($0.seal, $0.secret) },
      header: .init(envelope.header), contentType: request.contentType, body: HexBytes(request.body),
      compressed: request.mayCompress, envelope: HexBytes(sealed.bytes), pruned: copies, stub: HexBytes(stub),
      digests: .init(digests))
  }

  private func recipientVector(_ seal: SealRecipient, _ secret: PrekeySecret) -> EnvelopeVector.Recipient {
    EnvelopeVector.Recipient(
      address: seal.recipient.address.text, kid: HexBytes(seal.recipient.kid.bytes),
      prekeyId: HexBytes(seal.recipient.prekey.bytes), prekeyKind: seal.recipient.prekeyKind.rawValue,
      prekeySecret: HexBytes(secret.seed().withUnsafeBytes { Array($0) }), seq: seal.chain.seq,
      prev: HexBytes(seal.chain.previous.bytes))
  }

  @Test("keys, receipts, hello and token are written", .enabled(if: directory != nil))
  func writeStructures() throws {
    let node = try TestNode("acme.example")
    let peer = try TestNode("beta.example")
    let invite = randomBytes(20)
    let exporter = randomBytes(HelloExporter.bytes)
    let hello = HelloBody(
      role: .listener, name: node.name, nodeID: node.id, peerName: peer.name, peerNodeID: peer.id,
      nowMs: TestTime.startMs, epoch: 3, throughEpoch: 4, through: 5, window: 6)
    let now = TestTime.startMs / 1_000
    let file = StructureFile(
      certificate: HexBytes(alice.certificate.bytes), deviceList: HexBytes(alice.list.bytes),
      prekey: HexBytes(alice.prekey.bytes), invite: HexBytes(invite), nodeId: HexBytes(node.id.bytes),
      registration: HexBytes(alice.registration(node: node.id, invite: invite).encoded()),
      receipts: try [1, 2, 3, 4, 7].map {
        try StructureFile.Batch(count: $0, issuer: peer, envelope: randomBytes(32))
      },
      hello: .init(
        nodeSeed: seed(node.key), exporter: HexBytes(exporter), fields: .init(hello),
        bytes: HexBytes(signHello(hello, exporter: exporter, key: node.key))),
      token: .init(
        address: alice.address.text, deviceSeed: seed(alice.key), nodeId: HexBytes(node.id.bytes), iat: now,
        exp: now + 120, text: alice.token(node: node.id)))
    try write(file, to: "structures-swift.json")
  }

  private func write(_ value: some Encodable, to name: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    let directory = try #require(Self.directory)
    try (encoder.encode(value) + [10]).write(to: URL(fileURLWithPath: "\(directory)/\(name)"))
  }
}

private func seed(_ key: SigningKey) -> HexBytes { HexBytes(key.seed().withUnsafeBytes { Array($0) }) }

private struct StructureFile: Encodable {
  struct Batch: Encodable {
    var issuerSeed: HexBytes
    var bodies: [Body]
    var receipts: [HexBytes]
  }
  struct Body: Encodable {
    var role: UInt8
    var issuerName: String
    var envelope: HexBytes
    var sender: String
    var senderKid: HexBytes
    var messageId: HexBytes
    var recipient: String
    var recipientKid: HexBytes
    var state: UInt8
    var code: UInt16
    var attempt: UInt32
    var atMs: UInt64
  }
  struct Hello: Encodable {
    var nodeSeed: HexBytes
    var exporter: HexBytes
    var fields: Fields
    var bytes: HexBytes
    struct Fields: Encodable {
      var role: UInt8
      var version: UInt16
      var name: String
      var nodeId: HexBytes
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
  }
  struct Token: Encodable {
    var address: String
    var deviceSeed: HexBytes
    var nodeId: HexBytes
    var iat: UInt64
    var exp: UInt64
    var text: String
  }

  var certificate: HexBytes
  var deviceList: HexBytes
  var prekey: HexBytes
  var invite: HexBytes
  var nodeId: HexBytes
  var registration: HexBytes
  var receipts: [Batch]
  var hello: Hello
  var token: Token
}

extension StructureFile.Batch {
  init(count: Int, issuer: TestNode, envelope: [UInt8]) throws {
    let sender = try Address("alice@acme.example")
    let bodies = (0..<count).map { index in
      ReceiptBody(
        role: .homeNode, issuerName: issuer.name.text, issuerKey: issuer.key.publicKey,
        envelope: EnvelopeID(envelope) ?? .zero, sender: sender,
        senderKid: .zero,
        messageID: .zero, state: .accepted, attempt: UInt32(index), atMs: TestTime.startMs)
    }
    self.init(
      issuerSeed: seed(issuer.key), bodies: bodies.map(StructureFile.Body.init),
      receipts: signReceipts(bodies, with: issuer.key).map { HexBytes($0) })
  }
}

extension StructureFile.Body {
  init(_ body: ReceiptBody) {
    self.init(
      role: body.role.rawValue, issuerName: body.issuerName, envelope: HexBytes(body.envelope.bytes),
      sender: body.sender.text, senderKid: HexBytes(body.senderKid.bytes),
      messageId: HexBytes(body.messageID.bytes),
      recipient: body.recipient?.text ?? "", recipientKid: HexBytes(body.recipientKid?.bytes ?? []),
      state: body.state.rawValue, code: body.code.rawValue, attempt: body.attempt, atMs: body.atMs)
  }
}

extension StructureFile.Hello.Fields {
  init(_ hello: HelloBody) {
    self.init(
      role: hello.role.rawValue, version: hello.version, name: hello.name.text,
      nodeId: HexBytes(hello.nodeID.bytes),
      peerName: hello.peerName.text, peerNodeId: HexBytes(hello.peerNodeID.bytes), nowMs: hello.nowMs,
      epoch: hello.epoch, throughEpoch: hello.throughEpoch, through: hello.through, maxFrame: hello.maxFrame,
      window: hello.window, features: hello.features.rawValue)
  }
}
