extension ErrorCode {
  /// One clear sentence for people. Lower case, no final stop, no data of anyone.
  package var sentence: String {
    guard let sentence = Self.sentences[self] else { preconditionFailure("a test looks every case up") }
    return sentence
  }

  private static let sentences: [ErrorCode: String] = [
    .none: "no error",
    .malformed: "the bytes are not a well-formed structure",
    .tooLarge: "something is larger than its limit",
    .unknownSuite: "the cipher suite is not known here",
    .unknownValue: "a number is not in its table",
    .criticalExtension: "a critical extension is present, and none is defined",
    .nonCanonical: "a value is not in its one canonical encoding",
    .trailingBytes: "bytes follow the last field",
    .slotPattern: "the pattern of full and pruned wraps is not the one this hop must see",
    .stubRefused: "a stub is accepted only when it was asked for",
    .unsealedBody: "the body is not sealed",
    .unknownDevice: "the sending device is not known here",
    .deviceInactive: "the sending device is not active in its newest device list",
    .badSignature: "a signature does not verify",
    .wrongHome: "the sender does not belong to the node that delivers",
    .badCertificate: "a device certificate is not valid",
    .staleDeviceList: "the device list is older than the one already known, or has run out",
    .badPrekey: "a prekey is not valid",
    .identityChanged: "the identity key is not the one that was pinned",
    .weakKey: "a public key is of low order or not canonical",
    .tokenInvalid: "the token is not valid",
    .tokenReplayed: "the token was used before",
    .sessionExpired: "the session has ended",
    .inviteInvalid: "the invite is unknown, used or has run out",
    .nameTaken: "the name is registered already",
    .clientDisabled: "the client is disabled",
    .deviceKnown: "the device is registered already, or was once",
    .deviceLimit: "the client has as many devices as it may have",
    .expired: "the message has expired",
    .futureDated: "the message is dated in the future",
    .lifetimeTooLong: "the message asks to live longer than allowed",
    .notBeforeInvalid: "the earliest delivery time is not between creation and expiry",
    .messageIDReused: "the message id was used before with other bytes",
    .replayWindowClosed: "the message is too old to be told from a replay",
    .notPermitted: "not permitted",
    .unknownRecipient: "no recipient of this message is known here",
    .noRoute: "no peer is configured for a recipient's node",
    .notFound: "not found",
    .rateLimited: "too many requests",
    .quotaExceeded: "a quota is used up",
    .unsupportedMedia: "the content type is not one this path takes",
    .leaseLost: "the lease has ended, or another consumer holds the message",
    .notLeased: "the message is not leased",
    .wrongMode: "the mailbox is not in a state in which this can be asked",
    .topicInvalid: "a topic is words of a-z 0-9 _ - joined by dots, at most 255 bytes",
    .wildcardPublish: "a message is published under one topic, not under a pattern",
    .parentInvalid: "the message that this answers belongs to another conversation, or is not known",
    .templateInvalid: "the template is not one, or the values are not what it asks for",
    .notCancellable: "the message was handed out already, or is done",
    .deadLettered: "the message is a dead letter",
    .rejected: "the recipient's application rejected the message",
    .attemptsExhausted: "the message failed as often as it may be tried",
    .helloInvalid: "the hello does not verify",
    .helloSkew: "the clocks of the two nodes differ by more than five minutes",
    .wrongPeer: "the node on the other side is not the pinned one",
    .versionMismatch: "the protocol versions do not match",
    .unknownFrame: "the frame type is not known",
    .unexpectedFrame: "the frame does not belong in this state",
    .duplicateLink: "another link to this peer stays",
    .shuttingDown: "the node is shutting down",
    .windowExceeded: "more is in flight than the window allows",
    .peerUnreachable: "the recipient's node cannot be reached",
    .peerRolledBack: "the peer has forgotten what it had committed",
    .idleTimeout: "nothing was heard for too long",
    .peerSuspended: "the peer is not enabled here",
    .notSupported: "the other node does not know this request",
    .storageFull: "the disk is full",
    .storageFailed: "the store failed",
    .overloaded: "too much work is waiting",
    .internalError: "an internal error",
    .damagedRow: "a stored row does not match its hash",
    .prekeyGone: "the prekey that sealed this message is gone",
    .unsealFailed: "the message could not be opened",
    .commitmentMismatch: "the content key is not the committed one",
    .chainFork: "two messages claim the same place in a chain",
    .chainGap: "a message of this chain is missing",
    .notForThisDevice: "the message is not for this device",
    .sharedQueue: "another device of this client may have taken the message",
    .deviceRevoked: "the recipient has revoked the device that the message was sealed for",
  ]

  /// What to do about it, where there is something to do.
  package var hint: String? {
    switch self {
    case .noRoute:
      "ask the administrator of your node to add that organisation: `engram-node admin peer add CARD`"
    case .inviteInvalid: "ask your administrator for a new invite: `engram-node admin client invite NAME`"
    case .helloSkew: "check that both machines keep time (NTP)"
    case .storageFull: "free space on the disk of the data directory; nothing acknowledged was lost"
    case .identityChanged: "compare safety numbers over another channel before you trust the new key"
    case .unknownRecipient: "check the address; the recipient may not be registered yet"
    case .peerUnreachable: "the message stays queued and is tried again"
    case .notSupported: "the other organisation's software is older; ask its administrator to upgrade"
    case .wildcardPublish: "wildcards are for subscriptions: `engram topic subscribe 'orders.*'`"
    case .sessionExpired: "open a new session with a fresh token"
    case .wrongMode: "stop every consumer of this mailbox first"
    case .deviceKnown: "a device that was revoked does not come back: make a new home for it"
    case .deadLettered: "an operator can give it another round: `engram-node admin queue requeue`"
    default: nil
    }
  }
}
