import EngramCore

/// Places in the payload of a leased item: `lp(token 8) lp(attempt 4) lp(lease 4) lp(envelope)`.
enum LeaseScan {
  static let token = 4
  /// The message's number in the envelope behind 12 + 8 + 8 + 4 bytes.
  static let number = 32 + MessageIndex.offsetInEnvelope

  /// One element of a `Settlement` list: lp(seq 8) lp(token 8) lp(verb 1) lp(delay 4) lp(code 2) lp(receipt).
  static func appendAck(_ seq: UInt64, token: UInt64, _ receipt: [UInt8], to w: inout FieldWriter) {
    w.raw(UInt32(12 + 12 + 5 + 8 + 6 + 4 + receipt.count))
    w.field(seq)
    w.field(token)
    w.field(UInt8(1))
    w.field(UInt32(0))
    w.field(UInt16(0))
    w.field(receipt)
  }
}

/// Walks receipts in place.
enum ReceiptScan {
  /// Role and message number of each receipt in one item; false when it ends in the middle of a field.
  static func each(in payload: UnsafeRawBufferPointer, _ body: (_ role: UInt8, _ number: Int) -> Void) -> Bool
  {
    // lp(receipt): length 4 | lp(R): length 4 | role 4 + 1 | issuer | key | envelope | sender | kid | id 4 +
    // 16
    var at = 0
    while at < payload.count {
      guard at + 13 <= payload.count else { return false }
      let end = at + 4 + Int(payload.bigEndian(at, UInt32.self))
      guard end <= payload.count else { return false }
      let role = payload[at + 12]
      var field = at + 13
      for _ in 0..<5 {
        guard field + 4 <= end else { return false }
        field += 4 + Int(payload.bigEndian(field, UInt32.self))
      }
      guard field + 20 <= end else { return false }
      body(role, Int(truncatingIfNeeded: payload.bigEndian(field + 12, UInt64.self)))
      at = end
    }
    return true
  }
}
