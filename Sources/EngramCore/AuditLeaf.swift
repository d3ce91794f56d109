/// What a node decided about a message or a mailbox. Numbers are stored and never change.
package enum AuditAction: UInt8, CaseIterable, Sendable {
  case accepted = 1
  /// The same message id with other bytes.
  case idReused = 2
  case delivered = 3
  case processed = 4
  case failed = 5
  case expired = 6
  case deadLettered = 7
  case cancelled = 8
  /// A failed attempt; the message waits for the next.
  case retried = 9
  /// A dead letter got another round.
  case requeued = 10
  case dropped = 11
  case modeChanged = 12
  /// Handed to the recipient's node, which acknowledged it.
  case forwarded = 13
  /// A client's identity key added a device; the recipient is its kid.
  case deviceAdded = 20
  /// A client's identity key revoked a device; the recipient is its kid.
  case deviceRevoked = 21
}

/// One decision, as the audit keeps it: `action u8 | at_ms u64 | actor | envelope id or empty | recipient or
/// empty | code u16`. The actor is an address, a node's name, or `operator`.
package struct AuditLeaf: Equatable, Sendable {
  package var action: AuditAction
  package var atMs: UInt64
  package var actor: String
  package var envelope: EnvelopeID?
  package var recipient: String
  package var code: ErrorCode

  package init(
    _ action: AuditAction, atMs: UInt64, actor: String, envelope: EnvelopeID? = nil, recipient: String = "",
    code: ErrorCode = .none
  ) {
    (self.action, self.atMs, self.actor) = (action, atMs, actor)
    (self.envelope, self.recipient, self.code) = (envelope, recipient, code)
  }

  package func append(to w: inout FieldWriter) {
    w.list {
      $0.field(action.rawValue)
      $0.field(atMs)
      $0.field(actor)
      $0.field(envelope?.bytes ?? [])
      $0.field(recipient)
      $0.field(code.rawValue)
    }
  }

  package static func encode(_ leaves: [AuditLeaf]) -> [UInt8] {
    fields(capacity: leaves.count * 160) { for leaf in leaves { leaf.append(to: &$0) } }
  }

  /// Decodes the leaves of one row.
  package static func decode(_ bytes: ArraySlice<UInt8>) throws(CodecError) -> [AuditLeaf] {
    var reader = FieldReader(bytes)
    var leaves: [AuditLeaf] = []
    try reader.rest(maxCount: .max) { (r) throws(CodecError) in
      leaves.append(
        try parse(try r.field()) { (leaf) throws(CodecError) in
          let action = try known(AuditAction(rawValue: try leaf.integer()))
          let (atMs, actor): (UInt64, String) = (
            try leaf.integer(), try leaf.string(max: Limits.addressBytesMax)
          )
          let id = try leaf.field(max: 32)
          return AuditLeaf(
            action, atMs: atMs, actor: actor, envelope: id.isEmpty ? nil : try EnvelopeID(field: id),
            recipient: try leaf.string(max: Limits.addressBytesMax),
            code: try known(ErrorCode(rawValue: try leaf.integer())))
        })
    }
    return leaves
  }
}
