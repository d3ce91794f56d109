/// The one registry of error codes: number on the wire, name in texts and logs, whose fault, worth retrying.
/// Numbers are never reused or changed.
package enum ErrorCode: UInt16, CaseIterable, Error, Sendable {
  case none = 0
  // 1xx: bytes that are not a well-formed structure.
  case malformed = 100
  case tooLarge = 101
  case unknownSuite = 102
  case unknownValue = 103
  case criticalExtension = 104
  case nonCanonical = 105
  case trailingBytes = 106
  case slotPattern = 107
  case stubRefused = 108
  case unsealedBody = 109
  // 2xx: who sent it cannot be established.
  case unknownDevice = 200
  case deviceInactive = 201
  case badSignature = 202
  case wrongHome = 203
  case badCertificate = 204
  case staleDeviceList = 205
  case badPrekey = 206
  case identityChanged = 207
  case weakKey = 208
  case tokenInvalid = 210
  case tokenReplayed = 211
  case sessionExpired = 212
  case inviteInvalid = 213
  case nameTaken = 214
  case clientDisabled = 215
  case deviceKnown = 216
  case deviceLimit = 217
  // 3xx: time and replay.
  case expired = 300
  case futureDated = 301
  case lifetimeTooLong = 302
  case notBeforeInvalid = 303
  case messageIDReused = 304
  case replayWindowClosed = 305
  // 4xx: policy and addressing.
  case notPermitted = 400
  case unknownRecipient = 401
  case noRoute = 402
  case notFound = 404
  case rateLimited = 405
  case quotaExceeded = 406
  case unsupportedMedia = 407
  case leaseLost = 410
  case notLeased = 411
  case wrongMode = 412
  case topicInvalid = 413
  case wildcardPublish = 414
  case parentInvalid = 415
  case templateInvalid = 416
  case notCancellable = 417
  case deadLettered = 418
  case rejected = 419
  case attemptsExhausted = 420
  // 5xx: federation.
  case helloInvalid = 500
  case helloSkew = 501
  case wrongPeer = 502
  case versionMismatch = 503
  case unknownFrame = 504
  case unexpectedFrame = 505
  case duplicateLink = 506
  case shuttingDown = 507
  case windowExceeded = 508
  case peerUnreachable = 509
  case peerRolledBack = 510
  case idleTimeout = 511
  case peerSuspended = 512
  case notSupported = 513
  // 6xx: this node.
  case storageFull = 600
  case storageFailed = 601
  case overloaded = 602
  case internalError = 603
  case damagedRow = 604
  // 7xx: the recipient's device.
  case prekeyGone = 700
  case unsealFailed = 701
  case commitmentMismatch = 702
  case chainFork = 703
  case chainGap = 704
  case notForThisDevice = 705
  case deviceRevoked = 706
  case sharedQueue = 707

  package enum Fault: String, Sendable { case sender, peer, node, `operator`, recipient, none }

  package var fault: Fault {
    switch rawValue {
    case 0: .none
    case 100..<400: .sender
    case 410, 418, 419, 420: .recipient
    case 400..<500: .sender
    case 500..<600: self == .peerUnreachable ? .node : .peer
    case 600..<700: self == .storageFull ? .operator : .node
    default: .recipient
    }
  }

  /// True when the same bytes may succeed later. Every failure of the node itself is of this kind: it says
  /// nothing about the bytes, so it must never end a message.
  package var isRetryable: Bool {
    switch self {
    case .storageFull, .storageFailed, .overloaded, .internalError, .damagedRow, .rateLimited, .shuttingDown,
      .peerUnreachable, .unknownDevice, .windowExceeded, .sessionExpired, .idleTimeout, .quotaExceeded:
      true
    default: false
    }
  }

  /// The node that says this could not do its work.
  package var isNodeFailure: Bool { fault == .node || fault == .operator }

  /// A message failed with this because it was sealed by a directory answer that is out of date.
  package var saysDeviceIsGone: Bool {
    self == .deviceRevoked || self == .prekeyGone || self == .unknownRecipient
  }

  /// What a node says about itself or its own configuration when a peer hands something in: what came was not
  /// judged and must come again.
  package var isOurs: Bool {
    switch self {
    case .noRoute, .peerSuspended, .shuttingDown: true
    default: isNodeFailure
    }
  }

  /// A code as another party sent it. One that a later version added stands for what is nearest to it here:
  /// the outcome or the frame around it says what to do, the code only why.
  package init(received number: UInt16) {
    self = ErrorCode(rawValue: number) ?? Self.generic(number)
  }

  private static func generic(_ number: UInt16) -> ErrorCode {
    switch number {
    case 0..<200: .malformed
    case 200..<300: .badCertificate
    case 300..<400: .replayWindowClosed
    case 400..<500: .notPermitted
    case 500..<600: .peerUnreachable
    case 700..<800: .unsealFailed
    default: .internalError
    }
  }

  /// `camelCase` case name as `kebab-case`: the name in problem documents, logs and the command line.
  package var name: String {
    var out = ""
    for character in "\(self)" {
      if character.isUppercase, out.last?.isUppercase != true, !out.hasSuffix("-") { out += "-" }
      out += character.lowercased()
    }
    return self == .messageIDReused ? "message-id-reused" : out
  }
}
