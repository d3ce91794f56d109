import EngramCore
import TestSupport
import Testing

/// One structure of the protocol with the three things its properties need.
struct StructureCodec: Sendable, CustomTestStringConvertible {
  let name: String
  /// A well-formed value, encoded, with its description.
  let make: @Sendable (inout SeededGenerator) -> (bytes: [UInt8], description: String)
  /// Parses and encodes again, with the description of what was parsed.
  let reencode: @Sendable ([UInt8]) throws -> (bytes: [UInt8], description: String)
  /// A list without a count ends where its input ends, so cutting it between elements gives a shorter list.
  var endsAnywhere = false

  /// Codes that are not in the registry are read as others of their group: the only value with two encodings.
  var takesUnknownCodes: Bool {
    ["ack", "directory answer frame", "goodbye", "outcomes", "realtime frame", "response"].contains(name)
  }

  var testDescription: String { name }

  init<T>(
    _ name: String, endsAnywhere: Bool = false, make: @escaping @Sendable (inout SeededGenerator) -> T,
    encode: @escaping @Sendable (T) -> [UInt8],
    parse: @escaping @Sendable (ArraySlice<UInt8>) throws -> T
  ) {
    self.name = name
    self.endsAnywhere = endsAnywhere
    self.make = { generator in
      let value = make(&generator)
      return (encode(value), "\(value)")
    }
    reencode = { bytes in
      let value = try parse(bytes[...])
      return (encode(value), "\(value)")
    }
  }

  static let all: [StructureCodec] = signed + frames + client + requests

  private static let signed = [
    StructureCodec(
      "header", make: { $0.header() }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "envelope", make: { well(try? UnverifiedEnvelope(parsing: $0.envelope())) },
      encode: {
        assembleEnvelope(header: $0.header.encoded(), slots: $0.slots, body: $0.body, signature: $0.signature)
      },
      parse: { bytes in try UnverifiedEnvelope(parsing: Array(bytes)) }),
    StructureCodec(
      "device certificate", make: { $0.certificateBody() }, encode: { $0.encoded() },
      parse: { try .init(parsing: $0) }),
    StructureCodec(
      "device list", make: { $0.listBody() }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "prekey", make: { $0.prekeyBody() }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "signed bytes", make: { SignedBytes(body: $0.shortBytes(), signatures: [$0.bytes(64), $0.bytes(64)]) },
      encode: { $0.encoded() },
      parse: { bytes in
        try SignedBytes(parsing: bytes, signatureCount: 2, bodyBytesMax: 100)
      }),
    StructureCodec(
      "bundle", make: { $0.bundle() }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "registration",
      make: {
        RegistrationRequest(
          inviteToken: $0.shortBytes(), certificate: $0.shortBytes(), deviceList: $0.shortBytes(),
          signature: $0.bytes(64), signedPrekey: $0.shortBytes())
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "directory answer",
      make: {
        DirectoryAnswerBody(
          node: $0.nodeName(), nodeID: $0.nodeID(), address: $0.address(), issuedMs: $0.integer(),
          bundles: $0.array(upTo: 3) { $0.bundle() })
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "receipt body", make: { $0.receiptBody() }, encode: { $0.encoded() },
      parse: { try .init(parsing: $0) }),
    StructureCodec(
      "receipt", make: { well(try? UnverifiedReceipt(parsing: $0.receipt()[...])) },
      encode: {
        UnverifiedReceipt.encode(
          body: $0.body.encoded(), index: $0.index, count: $0.count, path: $0.path, signature: $0.signature)
      }, parse: { try .init(parsing: $0) }),
  ]

  private static let frames = [
    StructureCodec(
      "hello", make: { $0.hello() }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "deliver",
      make: {
        DeliverFrame(
          origin: $0.nodeID(), destination: $0.nodeID(), epoch: $0.integer(), firstSeq: 1 + $0.integer() >> 1,
          envelopes: $0.array(upTo: 4, atLeast: 1) { $0.shortBytes()[...] })
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "ack", endsAnywhere: true,
      make: {
        AckFrame(
          origin: $0.nodeID(), destination: $0.nodeID(), epoch: $0.integer(), through: $0.integer(),
          items: $0.array(upTo: 4) {
            AckFrame.Item(seq: $0.integer(), outcome: $0.outcome(), code: $0.code(), receipt: $0.shortBytes())
          }.sorted { $0.seq < $1.seq })
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "receipts", endsAnywhere: true,
      make: {
        ReceiptsFrame(
          epoch: $0.integer(), seq: 1 + $0.integer() >> 1,
          receipts: $0.array(upTo: 4, atLeast: 1) { $0.shortBytes()[...] })
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "receipts ack", make: { ReceiptsAckFrame(epoch: $0.integer(), through: $0.integer()) },
      encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "directory query", make: { DirectoryQueryFrame(request: $0.integer(), address: $0.address()) },
      encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "directory answer frame",
      make: { DirectoryAnswerFrame(request: $0.integer(), code: $0.code(), answer: $0.shortBytes()) },
      encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "certificate item",
      make: { CertificateItem(certificate: $0.shortBytes(), deviceList: $0.shortBytes()) },
      encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec("part", make: { $0.part() }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "goodbye", make: { GoodbyeFrame(code: $0.code(), retryAfterMs: $0.integer()) },
      encode: { $0.encoded() },
      parse: { try .init(parsing: $0) }),
  ]

  private static let requests = [
    StructureCodec(
      "request",
      make: { RequestFrame(request: $0.integer(), kind: $0.integer(), payload: $0.shortBytes()) },
      encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "response",
      make: { generator in
        let code = generator.one(of: [ErrorCode.none, generator.code()])
        return ResponseFrame(
          request: generator.integer(), code: code, payload: code == .none ? generator.shortBytes() : [])
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "topic membership request",
      make: {
        TopicMembershipRequest(pattern: $0.topicPattern(), address: $0.address(), kid: $0.id16())
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "topic members request",
      make: {
        TopicMembersRequest(topic: $0.topic(), after: Bool.random(using: &$0) ? $0.address() : nil)
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "topic members page", endsAnywhere: true,
      make: { generator in
        let members = Set(generator.array(upTo: 4, atLeast: 1) { $0.address() }).sorted()
        return TopicMembersPage(hasMore: Bool.random(using: &generator), members: members)
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "topic retain request",
      make: {
        TopicRetainRequest(topic: $0.topic(), address: $0.address(), keeps: Bool.random(using: &$0))
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "topic changed request", endsAnywhere: true,
      make: {
        TopicChangedRequest(
          member: $0.address(), joined: Bool.random(using: &$0),
          kept: $0.array(upTo: 3) { .init(topic: $0.topic(), publisher: $0.address()) })
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "topic membership notice",
      make: {
        TopicMembershipNotice(
          topic: $0.topic(), node: $0.nodeName(), member: $0.address(), joined: Bool.random(using: &$0))
      }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
  ]

  private static let client = [
    StructureCodec(
      "mailbox items", endsAnywhere: true, make: { $0.array(upTo: 4) { $0.item() } },
      encode: { MailboxItem.encode($0) },
      parse: { bytes in try MailboxItem.decode(bytes) }),
    StructureCodec(
      "mailbox acks", endsAnywhere: true,
      make: { $0.array(upTo: 4) { MailboxAck(seq: $0.integer(), receipt: $0.shortBytes()) } },
      encode: { MailboxAck.encode($0) },
      parse: { bytes in try MailboxAck.decode(bytes) }),
    StructureCodec(
      "outcomes", endsAnywhere: true,
      make: { $0.array(upTo: 4) { ItemOutcome($0.outcome(), code: $0.code(), receipt: $0.shortBytes()) } },
      encode: { ItemOutcome.encode($0) },
      parse: { bytes in try ItemOutcome.decode(bytes) }),
    StructureCodec(
      "settlements", endsAnywhere: true, make: { $0.array(upTo: 4) { $0.settlement() } },
      encode: { Settlement.encode($0) },
      parse: { bytes in try Settlement.decode(bytes) }),
    StructureCodec(
      "leased envelope", make: { $0.leased() }, encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "node notice", make: { NodeNotice(kind: .topicMembership, payload: $0.shortBytes()) },
      encode: { $0.encoded() }, parse: { try .init(parsing: $0) }),
    StructureCodec(
      "realtime frame", endsAnywhere: true, make: { $0.realtime() }, encode: { $0.encoded() },
      parse: { try .init(parsing: $0) }),
  ]
}
