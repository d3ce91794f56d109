import EngramCore
import EngramCrypto
import NIOCore

/// Looks at the last frames of a run with the strict decoders and checks signatures: a load generator that
/// only counts would also count nonsense.
struct SampleCheck {
  let stage: Stage
  let pool: Pool

  func check(outcomes: ByteBuffer, items: ByteBuffer) throws {
    guard case .outcomes(_, let outcomes) = try frame(outcomes), let outcome = outcomes.last else {
      throw BenchError("no outcomes came")
    }
    let index = try Self.accepted(outcome.receipt, by: stage.home, from: [stage.sender])
    guard pool.envelopes.indices.contains(index) else {
      throw BenchError("a receipt is about something else")
    }

    guard case .items(let items) = try frame(items), let item = items.last(where: { $0.kind == .envelope })
    else {
      throw BenchError("no envelopes came")
    }
    let header = try UnverifiedEnvelope(parsing: item.payload).header
    guard let index = MessageIndex.index(of: header.messageID), pool.envelopes.indices.contains(index),
      pool.envelopes[index] == item.payload
    else { throw BenchError("an envelope was delivered with other bytes") }
  }

  /// A receipt of `home` that it accepted message n of `senders[n % senders.count]`.
  /// - Returns: the message's number.
  @discardableResult
  static func accepted(_ bytes: [UInt8], by home: Organisation, from senders: [Device]) throws -> Int {
    let receipt = try UnverifiedReceipt(parsing: bytes[...])
    let verified = try VerifiedReceipt(receipt, bytes: bytes, expectedKey: home.nodeID.key)
    guard verified.body.state == .accepted,
      let index = MessageIndex.index(of: verified.body.messageID),
      verified.body.senderKid == senders[index % senders.count].kid
    else { throw BenchError("a receipt is about something else") }
    return index
  }

  /// An envelope of message n whose signature by `senders[n % senders.count]` holds.
  static func genuine(_ envelope: [UInt8], from senders: [Device]) throws {
    let unverified = try UnverifiedEnvelope(parsing: envelope)
    guard let index = MessageIndex.index(of: unverified.header.messageID) else {
      throw BenchError("an envelope was delivered that nobody sent")
    }
    _ = try VerifiedEnvelope(unverified, sender: senders[index % senders.count].certificate)
  }

  private func frame(_ buffer: ByteBuffer) throws -> RealtimeFrame {
    try RealtimeFrame(parsing: Array(buffer.readableBytesView)[...])
  }
}
