import Dispatch
import EngramCore
import EngramCrypto
import EngramSealing
import NIOCore
import Synchronization

/// One message sealed once and issued under many numbers: number, and with it header and signature, differ
/// from copy to copy, wraps and body do not. No recipient could open a copy, and a node, which sees neither,
/// does the same work for each: a million of them cost a signature each instead of a whole sealing.
struct Reissue: Sendable {
  private let template: [UInt8]
  private let header: Range<Int>
  private let digests: EnvelopeDigests
  private let key: SigningKey

  struct Terms: Sendable {
    var type = MessageType.direct
    var priority = Priority.normal
    var topic = ""
    var ttlMs: UInt64 = 24 * 3_600 * 1_000
    var bodyBytes = 1_024
  }

  init(_ terms: Terms, from sender: Device, to recipients: [Device]) throws {
    let sealed = try sender.seal(randomBytes(terms.bodyBytes), terms, to: recipients)
    let envelope = try UnverifiedEnvelope(parsing: sealed.bytes)
    template = sealed.bytes
    header = 4..<(4 + envelope.headerBytes.count)
    digests = EnvelopeDigests(of: envelope)
    key = sender.key
  }

  var envelopeBytes: Int { template.count }

  /// Message `number`, signed anew.
  func envelope(_ number: Int) -> (bytes: [UInt8], id: EnvelopeID) {
    var bytes = template
    let place = MessageIndex.offsetInEnvelope
    bytes.replaceSubrange(place..<(place + 8), with: bigEndianBytes(UInt64(number)))
    let headerDigest = tagged("header", bytes[header])
    let signature = key.sign(
      "envelope-sig", headerDigest.bytes[...], digests.wraps.bytes[...], digests.ciphertext.bytes[...])
    bytes.replaceSubrange((bytes.count - signature.count)..., with: signature)
    let id = tagged(
      "envelope", headerDigest.bytes[...], digests.wraps.bytes[...], digests.ciphertext.bytes[...],
      signature[...])
    return (bytes, EnvelopeID(id.bytes) ?? .zero)
  }
}

/// Numbered envelopes in frames of `RealtimeFrame.send`, made before the clock runs.
struct IssuedFrames: Sendable {
  let perFrame: Int
  /// Number of the first message.
  let first: Int
  private(set) var frames: [ByteBuffer] = []
  private(set) var ids: [EnvelopeID] = []

  var numbers: Range<Int> { first..<(first + ids.count) }

  /// Number `n` is a copy of `issues[n % issues.count]`. Signs on all cores.
  init(_ issues: [Reissue], first: Int = 0, count: Int, perFrame: Int) {
    (self.first, self.perFrame) = (first, perFrame)
    let starts = Array(stride(from: 0, to: count, by: perFrame))
    let lanes = 2
    let share = (starts.count + lanes - 1) / lanes
    let parts = Mutex([(frames: [ByteBuffer], ids: [EnvelopeID])](repeating: ([], []), count: lanes))
    DispatchQueue.concurrentPerform(iterations: lanes) { lane in
      var part: (frames: [ByteBuffer], ids: [EnvelopeID]) = ([], [])
      for position in min(lane * share, starts.count)..<min((lane + 1) * share, starts.count) {
        let start = starts[position]
        var writer = FieldWriter(capacity: perFrame * (issues[0].envelopeBytes + 4) + 16)
        writer.raw(UInt8(1))
        writer.field(UInt32(position))
        for number in (first + start)..<(first + min(start + perFrame, count)) {
          let (bytes, id) = issues[number % issues.count].envelope(number)
          writer.field(bytes)
          part.ids.append(id)
        }
        part.frames.append(ByteBuffer(bytes: writer.bytes))
      }
      parts.withLock { [part] in $0[lane] = part }
    }
    for part in parts.withLock({ $0 }) {
      frames += part.frames
      ids += part.ids
    }
  }

  /// What the receipts of `recipient` say about some of these messages.
  func book(
    of recipient: Device, from sender: Device, numbers: [Int], stride: Int = 1
  ) -> ReceiptBook {
    let words = numbers.map { number in
      recipient.processed(ids[number - first], message: MessageIndex.messageID(number), from: sender)
    }
    return ReceiptBook(first: numbers.first ?? first, stride: stride, words, key: recipient.key)
  }
}

/// What a recipient says about messages `first`, `first + stride`, … and which of them it has said it about.
struct ReceiptBook: Sendable {
  var first = 0
  var stride = 1
  var words: [ReceiptBody]
  /// Signs what is said at the same time together.
  let key: SigningKey
  private var isTaken: [Bool]

  init(first: Int = 0, stride: Int = 1, _ words: [ReceiptBody], key: SigningKey) {
    (self.first, self.stride, self.words, self.key) = (first, stride, words, key)
    isTaken = [Bool](repeating: false, count: words.count)
  }

  enum Page {
    case word(ReceiptBody)
    /// It was given out before: the node delivered a settled message again.
    case again
    /// This recipient leaves the message alone.
    case none
  }

  mutating func take(_ number: Int) -> Page {
    let offset = number - first
    guard offset >= 0, offset.isMultiple(of: stride), offset / stride < words.count else { return .none }
    guard !isTaken[offset / stride] else { return .again }
    isTaken[offset / stride] = true
    return .word(words[offset / stride])
  }

  var takenCount: Int { isTaken.count { $0 } }
}
