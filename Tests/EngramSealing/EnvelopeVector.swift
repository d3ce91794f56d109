import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport
import Testing

/// One entry of `envelopes-python.json` and `envelopes-swift.json`.
struct EnvelopeVector: Codable, Sendable, CustomTestStringConvertible {
  struct Sender: Codable, Sendable {
    var address: String
    var certificate: HexBytes
    var deviceList: HexBytes
  }
  struct Recipient: Codable, Sendable {
    var address: String
    var kid: HexBytes
    var prekeyId: HexBytes
    var prekeyKind: UInt8
    var prekeySecret: HexBytes
    var seq: UInt64
    var prev: HexBytes
  }
  struct Header: Codable, Equatable, Sendable {
    var kind: UInt8
    var messageId: HexBytes
    var thread: HexBytes
    var parent: HexBytes
    var type: UInt8
    var priority: UInt8
    var createdMs: UInt64
    var expiresMs: UInt64
    var notBeforeMs: UInt64
    var topic: String
    var labels: [[String]]
    var attachments: [HexBytes]
    var paddedLen: UInt32
    var kcommit: HexBytes
  }
  struct Copy: Codable, Sendable {
    /// Indices of the recipients whose wraps are full.
    var keep: [Int]
    var bytes: HexBytes
  }
  struct Digests: Codable, Equatable, Sendable {
    var header: HexBytes
    var wraps: HexBytes
    var ciphertext: HexBytes
    var id: HexBytes
  }

  var name: String
  var sender: Sender
  var recipients: [Recipient]
  var header: Header
  var contentType: String
  var body: HexBytes
  var compressed: Bool
  var envelope: HexBytes
  var pruned: [Copy]
  var stub: HexBytes
  var digests: Digests

  var testDescription: String { name }
}

extension EnvelopeVector.Header {
  init(_ header: EnvelopeHeader) {
    self.init(
      kind: header.kind.rawValue, messageId: HexBytes(header.messageID.bytes),
      thread: HexBytes(header.thread.bytes), parent: HexBytes(header.parent?.bytes ?? []),
      type: header.type.rawValue, priority: header.priority.rawValue, createdMs: header.createdMs,
      expiresMs: header.expiresMs, notBeforeMs: header.notBeforeMs, topic: header.topic,
      labels: header.labels.map { [$0.key, $0.value] },
      attachments: header.attachments.map { HexBytes($0.bytes) },
      paddedLen: header.paddedLength, kcommit: HexBytes(header.keyCommitment.bytes))
  }
}

extension EnvelopeVector.Digests {
  init(_ digests: EnvelopeDigests) {
    self.init(
      header: HexBytes(digests.header.bytes), wraps: HexBytes(digests.wraps.bytes),
      ciphertext: HexBytes(digests.ciphertext.bytes), id: HexBytes(digests.id.bytes))
  }
}

/// The outcome of checking and opening as one word: "opened" or the name of the error code.
func outcome(
  of bytes: [UInt8], from sender: DeviceCertificate, as address: Address, kid: Kid, secret: PrekeySecret?
) -> (word: String, message: OpenedMessage?) {
  do {
    let verified = try VerifiedEnvelope(UnverifiedEnvelope(parsing: bytes), sender: sender)
    let message = try open(verified, as: address, kid: kid) { $0 == secret?.id ? secret : nil }
    return ("opened", message)
  } catch let error as CodecError {
    return (error.code.name, nil)
  } catch let error as CredentialError {
    return (error.code.name, nil)
  } catch let error as OpenError {
    return (error.code.name, nil)
  } catch {
    return ("another error: \(error)", nil)
  }
}
