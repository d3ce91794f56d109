/// One failed attempt of a delivery: `attempt u32 | at_ms u64 | code u16 | kid or empty`.
package struct DeliveryFailure: Equatable, Sendable {
  /// Counted from 1.
  package var attempt: UInt32
  package var atMs: UInt64
  package var code: ErrorCode
  /// The device that had it.
  package var kid: Kid?

  package init(attempt: UInt32, atMs: UInt64, code: ErrorCode, kid: Kid?) {
    (self.attempt, self.atMs, self.code, self.kid) = (attempt, atMs, code, kid)
  }

  /// Failures kept per delivery, the newest: as many as there are attempts by default.
  package static let keptMax = 20

  /// A history with one more failure.
  package static func appended(_ failure: DeliveryFailure, to history: [UInt8]?) -> [UInt8] {
    encode(Array((decode(history ?? []) + [failure]).suffix(keptMax)))
  }

  package static func encode(_ failures: [DeliveryFailure]) -> [UInt8] {
    fields(capacity: failures.count * 64) { w in
      for failure in failures {
        w.list {
          $0.field(failure.attempt)
          $0.field(failure.atMs)
          $0.field(failure.code.rawValue)
          $0.field(failure.kid?.bytes ?? [])
        }
      }
    }
  }

  /// What can be read of a history: it informs people and decides nothing.
  package static func decode(_ bytes: [UInt8]) -> [DeliveryFailure] {
    var reader = FieldReader(bytes)
    var failures: [DeliveryFailure] = []
    try? reader.rest(maxCount: keptMax) { (r) throws(CodecError) in
      failures.append(
        try parse(try r.field()) { (item) throws(CodecError) in
          let (attempt, atMs): (UInt32, UInt64) = (try item.integer(), try item.integer())
          let code = try known(ErrorCode(rawValue: try item.integer()))
          let kid = try item.field(max: 16)
          return DeliveryFailure(
            attempt: attempt, atMs: atMs, code: code, kid: kid.isEmpty ? nil : try Kid(field: kid))
        })
    }
    return failures
  }
}
