/// What is not the body, on the way out.
public struct SendOptions: Sendable {
  /// `DIRECT`, `TASK_REQUEST`, … as in the protocol's table.
  public var type = "DIRECT"
  /// `LOW`, `NORMAL`, `HIGH`, `URGENT` or `CRITICAL`.
  public var priority = "NORMAL"
  /// How long it may wait for its recipient, in seconds, at most 30 days. Devices refuse more than they are
  /// set to accept, seven days unless changed.
  public var ttlSeconds: UInt64 = 7 * 24 * 3_600
  /// The conversation, 32 hexadecimal digits; nil starts a new one.
  public var thread: String?
  /// The envelope that this answers, 64 hexadecimal digits. Its thread is used when none is given; one that
  /// is not kept here needs `thread` beside it.
  public var replyTo: String?
  /// Passages of other messages that this refers to.
  public var quotes: [Quote] = []
  /// At most 16, visible to every node on the way. Keys as `[a-z0-9][a-z0-9._-]*`, values of at most 256
  /// bytes.
  public var labels: [String: String] = [:]
  /// Not to be delivered before this time, in milliseconds since 1970.
  public var notBeforeMs: UInt64?
  /// Compress the body before sealing. Only for bodies of one origin: beside text that somebody else chose,
  /// the length of the compressed body tells about the rest.
  public var compress = false

  /// Names the message, 32 hexadecimal digits; nil draws one. The same id again sends nothing and returns
  /// what became of it, so a program that does not know whether it came that far may ask again. Only where
  /// there is one message: `publish` and `broadcast` seal several and refuse it.
  public var messageID: String?

  public init() {}
}

/// A message for `sendBatch`.
public struct OutgoingMessage: Sendable {
  public var to: [String]
  public var body: [UInt8]
  public var contentType: String
  public var options: SendOptions

  public init(
    to: [String], body: [UInt8], contentType: String = "text/plain; charset=utf-8",
    options: SendOptions = .init()
  ) {
    (self.to, self.body, self.contentType, self.options) = (to, body, contentType, options)
  }
}

/// What became of a message that was given to `send`.
public struct SentMessage: Sendable {
  public enum State: Sendable, Equatable {
    /// The home node holds it and has signed for it.
    case accepted
    /// It cannot be sealed yet, because a recipient's keys cannot be had now. Kept here, encrypted.
    case queued(EngramError)
    /// Refused for good.
    case refused(EngramError)
    /// Sealed and kept here; the home node has not confirmed it yet.
    case waiting(EngramError)
  }

  /// 32 hexadecimal digits.
  public let messageID: String
  /// 64 hexadecimal digits, nil while queued.
  public let envelopeID: String?
  public let state: State
  public let receipts: [DeliveryReceipt]
}

/// A message as it was opened and verified on this device.
public struct ReceivedMessage: Sendable {
  /// 64 hexadecimal digits: acknowledges it, and answers refer to it.
  public let envelopeID: String
  public let messageID: String
  public let from: String
  /// The sending device.
  public let fromDevice: String
  public let thread: String
  public let replyTo: String?
  public let type: String
  public let priority: String
  public let createdMs: UInt64
  public let receivedMs: UInt64
  public let expiresMs: UInt64
  /// True when an earlier message of this sender is missing: somebody on the way dropped or delays it.
  public let isAfterGap: Bool
  /// The addresses that it was sealed for.
  public let to: [String]
  public let labels: [String: String]
  public let topic: String?
  public let contentType: String
  /// Passages of other messages that it refers to; `passage` looks them up here.
  public let quotes: [Quote]
  public let body: [UInt8]
}

/// A signed statement about a message of ours, checked against the issuer's pinned key.
public struct DeliveryReceipt: Sendable, Equatable {
  /// `accepted`, `admitted`, `delivered`, `processed`, `failed`, `expired`, `dead-lettered` or `cancelled`.
  public let state: String
  /// `home-node`, `recipient-node` or `device`.
  public let role: String
  public let issuer: String
  /// nil where the statement is about the message as a whole.
  public let recipient: String?
  public let recipientDevice: String?
  /// 0 unless the state is `failed`.
  public let code: UInt16
  public let codeName: String
  public let atMs: UInt64
}

/// Something that this device sent or has yet to send.
public struct OutboxEntry: Sendable {
  public enum State: String, Sendable { case accepted, cancelled, queued, refused, waiting }
  public let messageID: String
  public let envelopeID: String?
  public let recipients: [String]
  public let state: State
  /// Why it waits or was refused, nil otherwise.
  public let reason: EngramError?
  public let createdMs: UInt64
  public let expiresMs: UInt64
  public let attempts: Int
}

/// Who this device is.
public struct Account: Sendable {
  public let address: String
  public let identityKey: String
  public let device: String
  public let node: String
  public let nodeID: String
  public let endpoint: String
  public let home: String
}

/// What is known about a correspondent's identity.
public struct TrustReport: Sendable {
  public enum State: String, Sendable {
    /// A person compared safety numbers and said so.
    case approved
    /// Another key is offered than the one that was pinned; nothing is sent until a person decides.
    case changed
    /// Pinned when it was first seen; nobody has compared it yet.
    case firstUse = "first-use"
  }
  public let address: String
  public let state: State
  public let identityKey: String
  public let firstSeenMs: UInt64
  /// Twelve groups of five digits, the same on both sides.
  public let safetyNumber: String
  /// Of the key that is offered now, when it is another one.
  public let offeredSafetyNumber: String?
  public let offeredIdentityKey: String?
}

/// What the directory says about an address, after every check.
public struct DirectoryEntry: Sendable {
  public struct Device: Sendable {
    public let kid: String
    public let certificateNotAfterMs: UInt64
    public let prekeyNotAfterMs: UInt64
  }
  public let address: String
  public let node: String
  public let nodeID: String
  public let identityKey: String
  public let deviceListVersion: UInt64
  public let issuedMs: UInt64
  public let devices: [Device]
}

/// Something a person should know about.
public struct Alarm: Sendable {
  /// `gap`, `fork`, `identity-changed`, `unopened` or `receipt-refused`.
  public let kind: String
  public let atMs: UInt64
  public let address: String
  public let device: String?
  public let envelopeID: String?
  public let code: UInt16
  public let codeName: String
  /// Missing places of a chain.
  public let missing: ClosedRange<UInt64>?
  public let isResolved: Bool
}
