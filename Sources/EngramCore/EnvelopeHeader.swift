/// One device that an envelope is sealed for.
package struct Recipient: Hashable, Sendable {
  package var address: Address
  package var kid: Kid
  package var prekey: PrekeyID
  package var prekeyKind: PrekeyKind

  package init(address: Address, kid: Kid, prekey: PrekeyID, prekeyKind: PrekeyKind) {
    (self.address, self.kid, self.prekey, self.prekeyKind) = (address, kid, prekey, prekeyKind)
  }

  /// The order in which recipients stand in a header: (address, kid) bytes.
  package static func precedes(_ a: Recipient, _ b: Recipient) -> Bool {
    (a.address, a.kid) < (b.address, b.kid)
  }
}

package struct Label: Hashable, Sendable {
  package var key: String
  package var value: String
  package init(key: String, value: String) { (self.key, self.value) = (key, value) }
}

/// `H`: the clear, signed part of an envelope. Everything here is visible to every node on the way.
package struct EnvelopeHeader: Equatable, Sendable {
  package var kind: EnvelopeKind
  package var messageID: MessageID
  package var sender: Address
  package var senderKid: Kid
  package var thread: ThreadID
  package var parent: EnvelopeID?
  package var type: MessageType
  package var priority: Priority
  package var createdMs: UInt64
  package var expiresMs: UInt64
  /// 0: deliver at once.
  package var notBeforeMs: UInt64
  package var topic: String
  package var labels: [Label]
  package var attachments: [AttachmentID]
  package var recipients: [Recipient]
  /// Length of `P` in bytes; `|C|` is this plus `Limits.ciphertextOverhead`.
  package var paddedLength: UInt32
  package var keyCommitment: Digest

  package init(
    kind: EnvelopeKind = .message, messageID: MessageID, sender: Address, senderKid: Kid, thread: ThreadID,
    parent: EnvelopeID? = nil, type: MessageType, priority: Priority, createdMs: UInt64, expiresMs: UInt64,
    notBeforeMs: UInt64 = 0, topic: String = "", labels: [Label] = [], attachments: [AttachmentID] = [],
    recipients: [Recipient], paddedLength: UInt32, keyCommitment: Digest
  ) {
    (self.kind, self.messageID, self.sender, self.senderKid) = (kind, messageID, sender, senderKid)
    (self.thread, self.parent, self.type, self.priority) = (thread, parent, type, priority)
    (self.createdMs, self.expiresMs, self.notBeforeMs) = (createdMs, expiresMs, notBeforeMs)
    (self.topic, self.labels, self.attachments) = (topic, labels, attachments)
    (self.recipients, self.paddedLength, self.keyCommitment) = (recipients, paddedLength, keyCommitment)
  }

  private static let magic = Array("ENGRAM1".utf8)

  package func encoded() -> [UInt8] {
    fields(capacity: 320 + recipients.count * 96) { w in
      w.field(Self.magic)
      w.field(Suite.one.rawValue)
      w.field(kind.rawValue)
      w.field(messageID.bytes)
      w.field(sender.text)
      w.field(senderKid.bytes)
      w.field(thread.bytes)
      w.field(parent?.bytes ?? [])
      w.field(type.rawValue)
      w.field(priority.rawValue)
      w.field(createdMs)
      w.field(expiresMs)
      w.field(notBeforeMs)
      w.field(topic)
      w.list { list in
        for label in labels {
          list.field(label.key)
          list.field(label.value)
        }
      }
      w.list { list in for id in attachments { list.field(id.bytes) } }
      w.list { list in
        for recipient in recipients {
          list.list {
            $0.field(recipient.address.text)
            $0.field(recipient.kid.bytes)
            $0.field(recipient.prekey.bytes)
            $0.field(recipient.prekeyKind.rawValue)
          }
        }
      }
      w.field(paddedLength)
      w.field(keyCommitment.bytes)
      w.list { _ in }
    }
  }

  /// Parses `H` strictly: one encoding per value, known numbers only, sets ascending.
  package init(parsing bytes: ArraySlice<UInt8>) throws(CodecError) {
    guard bytes.count <= Limits.headerBytesMax else { throw .tooLarge }
    var r = FieldReader(bytes)
    guard try r.field(max: Self.magic.count).elementsEqual(Self.magic) else { throw .unknownValue }
    guard Suite(rawValue: try r.integer()) != nil else { throw .unknownSuite }
    kind = try known(EnvelopeKind(rawValue: try r.integer()))
    messageID = try MessageID(field: try r.field(max: 16))
    sender = try Address(try r.field(max: Limits.addressBytesMax))
    senderKid = try Kid(field: try r.field(max: 16))
    thread = try ThreadID(field: try r.field(max: 16))
    let parentBytes = try r.field(max: 32)
    parent = parentBytes.isEmpty ? nil : try EnvelopeID(field: parentBytes)
    type = try known(MessageType(rawValue: try r.integer()))
    priority = try known(Priority(rawValue: try r.integer()))
    createdMs = try r.integer()
    expiresMs = try r.integer()
    notBeforeMs = try r.integer()
    topic = try r.string(max: Limits.topicBytesMax)
    guard topic.isEmpty || isTopic(topic) else { throw .nonCanonical }
    labels = try Self.parseLabels(&r)
    attachments = try Self.parseAttachments(&r)
    recipients = try Self.parseRecipients(&r)
    paddedLength = try r.integer()
    guard isPaddedLength(Int(paddedLength)) else { throw .nonCanonical }
    keyCommitment = try Digest(field: try r.field(max: 32))
    guard try r.field(max: Limits.criticalExtensionBytesMax).isEmpty else { throw .criticalExtension }
    try r.finish()
  }

  private static func parseLabels(_ r: inout FieldReader) throws(CodecError) -> [Label] {
    var labels: [Label] = []
    try r.list(maxCount: Limits.labelsMax) { (list) throws(CodecError) in
      let key = try list.string(max: 63)
      let value = try list.string(max: Limits.labelValueBytesMax)
      guard isLocalName(key) else { throw .nonCanonical }
      if let last = labels.last, !last.key.utf8.lexicographicallyPrecedes(key.utf8) { throw .nonCanonical }
      labels.append(Label(key: key, value: value))
    }
    return labels
  }

  private static func parseAttachments(_ r: inout FieldReader) throws(CodecError) -> [AttachmentID] {
    var ids: [AttachmentID] = []
    try r.list(maxCount: Limits.attachmentsMax) { (list) throws(CodecError) in
      let id = try AttachmentID(field: try list.field(max: 32))
      if let last = ids.last, last >= id { throw .nonCanonical }
      ids.append(id)
    }
    return ids
  }

  private static func parseRecipients(_ r: inout FieldReader) throws(CodecError) -> [Recipient] {
    var recipients: [Recipient] = []
    try r.list(maxCount: Limits.recipientsMax) { (list) throws(CodecError) in
      let recipient = try parse(try list.field()) { (item) throws(CodecError) in
        Recipient(
          address: try Address(try item.field(max: Limits.addressBytesMax)),
          kid: try Kid(field: try item.field(max: 16)),
          prekey: try PrekeyID(field: try item.field(max: 16)),
          prekeyKind: try known(PrekeyKind(rawValue: try item.integer())))
      }
      if let last = recipients.last, !Recipient.precedes(last, recipient) { throw .nonCanonical }
      recipients.append(recipient)
    }
    guard !recipients.isEmpty else { throw .nonCanonical }
    return recipients
  }
}

/// Unwraps an enumeration's raw value, or says that the number is not in the table.
@inlinable
package func known<T>(_ value: T?) throws(CodecError) -> T {
  guard let value else { throw .unknownValue }
  return value
}
