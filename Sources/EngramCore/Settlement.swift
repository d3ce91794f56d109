/// What a consumer says about a message that it leased: `seq u64 | token u64 | verb u8 | delay ms u32 | code
/// u16 | receipt or empty`. Fields that a verb does not use are zero or empty; anything else is refused.
package struct Settlement: Equatable, Sendable {
  package enum Verb: Equatable, Sendable {
    /// 1: done, with the device's signed receipt, `processed` or `failed`.
    case ack(receipt: [UInt8])
    /// 2: not now. nil leaves the delay to the node's backoff; the code goes into the delivery's history.
    case nack(delayMs: UInt32?, code: ErrorCode)
    /// 3: never. With the device's signed `failed` receipt the delivery fails, without one it becomes a dead
    /// letter.
    case reject(code: ErrorCode, receipt: [UInt8])
    /// 4: still at it: the lease begins anew.
    case renew
  }

  package var seq: UInt64
  package var token: UInt64
  package var verb: Verb
  package init(seq: UInt64, token: UInt64, _ verb: Verb) {
    (self.seq, self.token, self.verb) = (seq, token, verb)
  }

  /// The delay that means "as the node's backoff has it".
  private static let backoffDelay = UInt32.max

  private struct Parts {
    var number: UInt8
    var delay: UInt32 = 0
    var code = ErrorCode.none
    var receipt: [UInt8] = []
  }

  private var parts: Parts {
    switch verb {
    case .ack(let receipt): Parts(number: 1, receipt: receipt)
    case .nack(let delayMs, let code): Parts(number: 2, delay: delayMs ?? Self.backoffDelay, code: code)
    case .reject(let code, let receipt): Parts(number: 3, code: code, receipt: receipt)
    case .renew: Parts(number: 4)
    }
  }

  package static func encode(_ settlements: [Settlement]) -> [UInt8] {
    fields(capacity: settlements.count * 64) { append(settlements, to: &$0) }
  }

  package static func append(_ settlements: [Settlement], to w: inout FieldWriter) {
    for settlement in settlements {
      let parts = settlement.parts
      w.list {
        $0.field(settlement.seq)
        $0.field(settlement.token)
        $0.field(parts.number)
        $0.field(parts.delay)
        $0.field(parts.code.rawValue)
        $0.field(parts.receipt)
      }
    }
  }

  /// Decodes `lp(settlement)…`, the body of `POST …/messages/settle`.
  package static func decode(_ bytes: ArraySlice<UInt8>) throws(CodecError) -> [Settlement] {
    var reader = FieldReader(bytes)
    var settlements: [Settlement] = []
    try reader.rest(maxCount: Limits.envelopesPerBatchMax) { (r) throws(CodecError) in
      settlements.append(
        try parse(try r.field()) { (item) throws(CodecError) in
          Settlement(seq: try item.integer(), token: try item.integer(), try Self.verb(&item))
        })
    }
    return settlements
  }

  private static func verb(_ r: inout FieldReader) throws(CodecError) -> Verb {
    let parts = Parts(
      number: try r.integer(), delay: try r.integer(), code: try known(ErrorCode(rawValue: try r.integer())),
      receipt: Array(try r.field(max: Limits.receiptBytesMax)))
    let (hasDelay, hasCode, hasReceipt) = (parts.delay != 0, parts.code != .none, !parts.receipt.isEmpty)
    switch parts.number {
    case 1:
      guard !hasDelay, !hasCode, hasReceipt else { throw .nonCanonical }
      return .ack(receipt: parts.receipt)
    case 2:
      guard !hasReceipt else { throw .nonCanonical }
      return .nack(delayMs: parts.delay == backoffDelay ? nil : parts.delay, code: parts.code)
    case 3:
      guard !hasDelay else { throw .nonCanonical }
      return .reject(code: parts.code, receipt: parts.receipt)
    case 4:
      guard !hasDelay, !hasCode, !hasReceipt else { throw .nonCanonical }
      return .renew
    default: throw .unknownValue
    }
  }
}

/// How a connection wants to be given work: `prefetch u32 | visibility ms u32 | flags u8`.
package struct ConsumeRequest: Equatable, Sendable {
  /// Messages in this consumer's hands at the same time, 1 to `Limits.prefetchMax`.
  package var prefetch: UInt32
  /// How long it keeps a message without renewing; 0: as long as the connection lasts.
  package var visibilityMs: UInt32
  /// Flag 1: a message that was held when the connection broke counts as a failed attempt.
  package var countsDisconnects: Bool

  package init(prefetch: UInt32, visibilityMs: UInt32 = 0, countsDisconnects: Bool = false) {
    (self.prefetch, self.visibilityMs) = (prefetch, visibilityMs)
    self.countsDisconnects = countsDisconnects
  }

  func append(to w: inout FieldWriter) {
    w.field(prefetch)
    w.field(visibilityMs)
    w.field(UInt8(countsDisconnects ? 1 : 0))
  }

  init(_ r: inout FieldReader) throws(CodecError) {
    (prefetch, visibilityMs) = (try r.integer(), try r.integer())
    let flags: UInt8 = try r.integer()
    guard flags <= 1 else { throw .unknownValue }
    countsDisconnects = flags == 1
  }

  /// `none`, or why a node does not take this.
  package var problem: ErrorCode {
    guard prefetch >= 1, visibilityMs == 0 || visibilityMs >= Limits.visibilityMsMin else {
      return .nonCanonical
    }
    return prefetch <= Limits.prefetchMax && visibilityMs <= Limits.visibilityMsMax ? .none : .tooLarge
  }
}

/// The payload of a mailbox item of kind `leased`: `token u64 | attempt u32 | lease ms u32 | envelope`.
package struct LeasedEnvelope: Equatable, Sendable {
  /// Greater than every token that this node gave out before: what was written under an older one can be told
  /// apart (a fencing token).
  package var token: UInt64
  /// 1 the first time.
  package var attempt: UInt32
  /// 0: as long as the connection lasts.
  package var leaseMs: UInt32
  package var envelope: [UInt8]

  package init(token: UInt64, attempt: UInt32, leaseMs: UInt32, envelope: [UInt8]) {
    (self.token, self.attempt, self.leaseMs, self.envelope) = (token, attempt, leaseMs, envelope)
  }

  /// What comes on top of the envelope.
  static let overheadBytes = 12 + 8 + 8 + 4

  package func encoded() -> [UInt8] {
    fields(capacity: envelope.count + Self.overheadBytes) { w in
      w.field(token)
      w.field(attempt)
      w.field(leaseMs)
      w.field(envelope)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    (token, attempt, leaseMs) = (try r.integer(), try r.integer(), try r.integer())
    envelope = Array(try r.field(max: Limits.envelopeBytesMax))
    try r.finish()
  }
}

/// The payload of a mailbox item of kind `notice`, news from the node itself: `kind u8 | payload`.
package struct NodeNotice: Equatable, Sendable {
  package enum Kind: UInt8, CaseIterable, Sendable {
    /// `TopicMembershipNotice`
    case topicMembership = 1
  }

  package var kind: Kind
  package var payload: [UInt8]
  package init(kind: Kind, payload: [UInt8]) { (self.kind, self.payload) = (kind, payload) }

  package func encoded() -> [UInt8] {
    fields {
      $0.field(kind.rawValue)
      $0.field(payload)
    }
  }

  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    var r = FieldReader(bytes)
    kind = try known(Kind(rawValue: try r.integer()))
    payload = Array(try r.field(max: Limits.noticeBytesMax))
    try r.finish()
  }
}

/// How the devices of one agent share what comes in.
package enum QueueMode: UInt8, CaseIterable, Sendable {
  /// Every device gets its own copy.
  case each = 0
  /// A work queue: each message goes to one of the devices.
  case one = 1

  package var name: String { "\(self)" }
  package init?(name: String) {
    guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = match
  }
}
