import NIOCore

/// Walks the node's realtime frames in place, without an allocation for each message: the load generator
/// shares the machine with what it measures. Layouts as in `RealtimeFrame`, `MailboxItem` and `ItemOutcome`.
enum FrameScan {
  static let items: UInt8 = 16
  static let outcomes: UInt8 = 17
  static let problem: UInt8 = 18

  struct Item {
    /// 1 certificate, 2 envelope, 3 receipts.
    let kind: UInt8
    let seq: UInt64
    let payload: UnsafeRawBufferPointer
  }

  /// False when the frame ends in the middle of an item.
  static func eachItem(in frame: UnsafeRawBufferPointer, _ body: (Item) -> Void) -> Bool {
    // lp(item): length 4 | kind 4 + 1 | seq 4 + 8 | payload 4 + n
    var at = 1
    while at < frame.count {
      guard at + 25 <= frame.count else { return false }
      let payloadBytes = Int(frame.bigEndian(at + 21, UInt32.self))
      guard at + 25 + payloadBytes <= frame.count else { return false }
      body(
        Item(
          kind: frame[at + 8], seq: frame.bigEndian(at + 13, UInt64.self),
          payload: UnsafeRawBufferPointer(rebasing: frame[(at + 25)..<(at + 25 + payloadBytes)])))
      at += 25 + payloadBytes
    }
    return true
  }

  /// The request that an outcomes frame answers.
  static func request(of frame: UnsafeRawBufferPointer) -> UInt32 {
    frame.count >= 9 ? frame.bigEndian(5, UInt32.self) : 0
  }

  /// Outcome (1 accepted, 2 duplicate, 3 refused, 4 later) and code of each answer.
  static func eachOutcome(in frame: UnsafeRawBufferPointer, _ body: (UInt8, UInt16) -> Void) -> Bool {
    // lp(outcome): length 4 | outcome 4 + 1 | code 4 + 2 | receipt 4 + n
    var at = 9
    while at < frame.count {
      guard at + 19 <= frame.count else { return false }
      let length = Int(frame.bigEndian(at, UInt32.self))
      guard at + 4 + length <= frame.count else { return false }
      body(frame[at + 8], frame.bigEndian(at + 13, UInt16.self))
      at += 4 + length
    }
    return true
  }

  /// Roles (2 recipient's node, 3 device) of the receipts in one item.
  static func eachReceiptRole(in payload: UnsafeRawBufferPointer, _ body: (UInt8) -> Void) -> Bool {
    // lp(receipt): length 4 | R: length 4 | role 4 + 1 | …
    var at = 0
    while at < payload.count {
      guard at + 13 <= payload.count else { return false }
      body(payload[at + 12])
      at += 4 + Int(payload.bigEndian(at, UInt32.self))
    }
    return at == payload.count
  }
}

extension UnsafeRawBufferPointer {
  func bigEndian<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: T.Type) -> T {
    T(bigEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
  }
}
