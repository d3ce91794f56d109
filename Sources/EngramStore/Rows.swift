package import EngramCore

/// What a mailbox holds and for whom. Numbers are stored.
package enum MailboxKind: Int64, Sendable, CaseIterable {
  /// Deliveries and notices for one local device; the owner is its kid.
  case device = 1
  /// The outbox of envelopes for one peer; the owner is the peer's name.
  case peerEnvelopes = 2
  /// The outbox of receipts for one peer; the owner is the peer's name.
  case peerReceipts = 3
  /// Deliveries for whichever device of a client takes them; the owner is its address.
  case workQueue = 4
  /// What failed for good in another mailbox; the owner is that mailbox's id, 8 bytes.
  case deadLetters = 5

  /// Whether devices of clients are given what is in it.
  package var isOfDevices: Bool { self == .device || self == .workQueue }
}

/// A message to be stored. Times are milliseconds since 1970.
package struct NewMessage: Sendable {
  package var dedupe: Digest
  package var envelopeID: EnvelopeID
  package var sender: Address
  package var senderKid: Kid
  package var type: MessageType
  package var priority: Priority
  package var createdMs: UInt64
  package var expiresMs: UInt64
  /// 0: at once, as in the envelope's header.
  package var notBeforeMs: UInt64
  /// 0 for a local sender, otherwise the envelope mailbox of the peer that delivered it.
  package var origin: Int64
  package var acceptedMs: UInt64
  /// How many rows `insertDelivery` will add for it in this transaction. Told beforehand, because counting
  /// them would rewrite the message's row once per recipient.
  package var openDeliveries: Int
  package var bytes: [UInt8]

  package init(
    dedupe: Digest, envelopeID: EnvelopeID, sender: Address, senderKid: Kid, type: MessageType,
    priority: Priority, createdMs: UInt64, expiresMs: UInt64, notBeforeMs: UInt64, origin: Int64,
    acceptedMs: UInt64, openDeliveries: Int, bytes: [UInt8]
  ) {
    self.dedupe = dedupe
    self.envelopeID = envelopeID
    self.sender = sender
    self.senderKid = senderKid
    self.type = type
    self.priority = priority
    self.createdMs = createdMs
    self.expiresMs = expiresMs
    self.notBeforeMs = notBeforeMs
    self.origin = origin
    self.acceptedMs = acceptedMs
    self.openDeliveries = openDeliveries
    self.bytes = bytes
  }
}

/// Whether a message was new.
package enum InsertOutcome: Equatable, Sendable {
  /// Stored; `message` is the number that `insertDelivery` takes.
  case inserted(message: Int64)
  /// The dedupe key was seen before, with this envelope; nothing was stored.
  case exists(envelope: EnvelopeID, acceptedMs: UInt64)
}

/// Everything about a stored message but its bytes.
package struct MessageInfo: Equatable, Sendable {
  /// The row's number in this store; it means nothing elsewhere.
  package var message: Int64
  package var dedupe: Digest
  package var envelopeID: EnvelopeID
  package var sender: Address
  package var senderKid: Kid
  package var type: MessageType
  package var priority: Priority
  package var createdMs: UInt64
  package var expiresMs: UInt64
  package var notBeforeMs: UInt64
  package var origin: Int64
  package var acceptedMs: UInt64
  /// Deliveries still open; at 0 the bytes are wiped and the row only serves deduplication.
  package var open: Int
}

package struct MessageRow: Equatable, Sendable {
  package var info: MessageInfo
  /// Nil once every delivery is done.
  package var bytes: [UInt8]?
}

/// One message waiting in a mailbox under one number, for one or more of its recipients.
package struct DeliveryRow: Equatable, Sendable {
  package var place: DeliveryPlace
  package var info: MessageInfo
  package var bytes: [UInt8]

  package var seq: UInt64 { place.seq }
  package var slots: [Int] { place.slots }
  package var message: Int64 { info.message }
  package var envelopeID: EnvelopeID { info.envelopeID }
  package var sender: Address { info.sender }
  package var senderKid: Kid { info.senderKid }
  package var expiresMs: UInt64 { info.expiresMs }
  package var notBeforeMs: UInt64 { info.notBeforeMs }
}

/// A delivery of an outbox with its message, and the bytes if they are not too many to be read ahead.
package struct OutboxRow: Sendable {
  package var place: DeliveryPlace
  package var info: MessageInfo
  package var byteCount: Int
  package var bytes: [UInt8]?
}

/// Where and how a message waits.
package struct DeliveryPlace: Equatable, Sendable {
  package var mailbox: Int64
  package var seq: UInt64
  package var message: Int64
  /// Indexes into the envelope's recipients, ascending.
  package var slots: [Int]
  /// Its place in the order of work; nil among dead letters and while it is held. In an outbox the number of
  /// its lane, nil for the one that most rows are in.
  package var rank: UInt64?
  /// Held until then; 0 when it is not.
  package var holdMs: UInt64
  /// Failures so far.
  package var attempt: UInt32
  /// In a work queue, the devices that can open it.
  package var kids: [Kid]?
  /// The last failures, in the caller's encoding.
  package var history: [UInt8]?
  /// Its device has read it without a lease, and its sender was told so: see `markShown`.
  package internal(set) var isShown = false

  package init(
    mailbox: Int64, seq: UInt64, message: Int64, slots: [Int], rank: UInt64? = nil, holdMs: UInt64 = 0,
    attempt: UInt32 = 0, kids: [Kid]? = nil, history: [UInt8]? = nil
  ) {
    (self.mailbox, self.seq, self.message, self.slots) = (mailbox, seq, message, slots)
    (self.rank, self.holdMs, self.attempt) = (rank, holdMs, attempt)
    (self.kids, self.history) = (kids, history)
  }
}

/// A delivery that has just been taken out; `info.open` counts what is left of the message.
package struct RemovedDelivery: Equatable, Sendable {
  package var place: DeliveryPlace
  package var info: MessageInfo

  package var mailbox: Int64 { place.mailbox }
  package var seq: UInt64 { place.seq }
  package var slots: [Int] { place.slots }
}

/// A delivery with its message and the kind of mailbox it is in.
package struct PlacedDelivery: Equatable, Sendable {
  package var place: DeliveryPlace
  package var mailboxKind: MailboxKind
  package var info: MessageInfo

  package var mailbox: Int64 { place.mailbox }
  package var seq: UInt64 { place.seq }
  package var slots: [Int] { place.slots }
}

package struct MailboxRow: Equatable, Sendable {
  package var id: Int64
  package var kind: MailboxKind
  package var owner: [UInt8]
  package init(id: Int64, kind: MailboxKind, owner: [UInt8]) {
    (self.id, self.kind, self.owner) = (id, kind, owner)
  }
}

/// What waits in a mailbox.
package struct QueueCounts: Equatable, Sendable {
  /// May be handed out, leased or not.
  package var ready: Int
  package var held: Int
  package init(ready: Int, held: Int) { (self.ready, self.held) = (ready, held) }
}

/// A receipt on its way to a device or a peer.
package struct NoticeRow: Equatable, Sendable {
  package var seq: UInt64
  /// `receipt` or `notice`.
  package var kind: MailboxItem.Kind
  package var bytes: [UInt8]
}

/// A client of this node or of a peer, as the directory knows it.
package struct ClientRow: Equatable, Sendable {
  package var address: Address
  package var identity: SigningPublicKey
  /// The newest signed device list, whole.
  package var list: [UInt8]
  package var listVersion: UInt64
  /// 0 for a local client, otherwise the envelope mailbox of its peer.
  package var home: Int64
  package var isDisabled: Bool
  package var createdMs: UInt64
  package var mode: QueueMode

  package init(
    address: Address, identity: SigningPublicKey, list: [UInt8], listVersion: UInt64, home: Int64,
    isDisabled: Bool, createdMs: UInt64, mode: QueueMode = .each
  ) {
    self.address = address
    self.identity = identity
    self.list = list
    self.listVersion = listVersion
    self.home = home
    self.isDisabled = isDisabled
    self.createdMs = createdMs
    self.mode = mode
  }
}

/// A device and its certificate.
package struct DeviceRow: Equatable, Sendable {
  package var kid: Kid
  package var address: Address
  package var certificate: [UInt8]
  /// Local devices only.
  package var mailbox: Int64?

  package init(kid: Kid, address: Address, certificate: [UInt8], mailbox: Int64?) {
    self.kid = kid
    self.address = address
    self.certificate = certificate
    self.mailbox = mailbox
  }
}

/// An invite that nobody has taken yet; the token itself is not stored.
package struct InviteRow: Equatable, Sendable {
  package var digest: Digest
  package var name: String
  package var expiresMs: UInt64

  package init(digest: Digest, name: String, expiresMs: UInt64) {
    self.digest = digest
    self.name = name
    self.expiresMs = expiresMs
  }
}

/// How far the two streams to and from one peer have come. A peer never seen has zeros.
package struct LinkRow: Equatable, Sendable {
  /// The peer's envelope mailbox.
  package var peer: Int64
  package var outEpoch: UInt64
  package var inEpoch: UInt64
  package var inThrough: UInt64
  package var receiptsInEpoch: UInt64
  package var receiptsInThrough: UInt64
  package var ackedThrough: UInt64

  package init(
    peer: Int64, outEpoch: UInt64 = 0, inEpoch: UInt64 = 0, inThrough: UInt64 = 0,
    receiptsInEpoch: UInt64 = 0, receiptsInThrough: UInt64 = 0, ackedThrough: UInt64 = 0
  ) {
    self.peer = peer
    self.outEpoch = outEpoch
    self.inEpoch = inEpoch
    self.inThrough = inThrough
    self.receiptsInEpoch = receiptsInEpoch
    self.receiptsInThrough = receiptsInThrough
    self.ackedThrough = ackedThrough
  }
}

/// What the store holds, for status and metrics.
package struct StoreCounts: Equatable, Sendable {
  package var messages: Int
  package var openDeliveries: Int
  package var notices: Int
  package var clients: Int
  package var devices: Int
  package var fileBytes: Int
  package var walBytes: Int
}
