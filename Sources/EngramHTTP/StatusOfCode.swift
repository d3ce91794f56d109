package import EngramCore
package import HTTPTypes

extension ErrorCode {
  /// The HTTP status of a request that failed as a whole with this code. Total: a new code does not compile
  /// without one.
  package var httpStatus: HTTPResponse.Status {
    switch self {
    case .none: .ok
    case .malformed, .unknownSuite, .unknownValue, .criticalExtension, .nonCanonical, .trailingBytes,
      .slotPattern, .stubRefused, .templateInvalid, .topicInvalid, .unsealedBody, .wildcardPublish:
      .badRequest
    case .tooLarge: .contentTooLarge
    case .unsupportedMedia: .unsupportedMediaType
    case .unknownDevice, .deviceInactive, .tokenInvalid, .tokenReplayed, .sessionExpired: .unauthorized
    case .clientDisabled, .inviteInvalid, .notPermitted, .wrongHome: .forbidden
    case .attemptsExhausted, .deadLettered, .deviceKnown, .deviceLimit, .identityChanged, .leaseLost,
      .messageIDReused, .nameTaken,
      .notCancellable, .notLeased, .rejected, .wrongMode:
      .conflict
    case .badCertificate, .badPrekey, .badSignature, .staleDeviceList, .weakKey: .unprocessableContent
    case .expired, .futureDated, .lifetimeTooLong, .notBeforeInvalid, .parentInvalid, .replayWindowClosed:
      .unprocessableContent
    case .noRoute, .notFound, .unknownRecipient: .notFound
    case .quotaExceeded, .rateLimited: .tooManyRequests
    case .duplicateLink, .helloInvalid, .helloSkew, .notSupported, .peerRolledBack, .peerSuspended,
      .unexpectedFrame, .unknownFrame,
      .versionMismatch, .windowExceeded, .wrongPeer:
      .badGateway
    case .peerUnreachable: .gatewayTimeout
    case .idleTimeout: .requestTimeout
    case .overloaded, .shuttingDown, .storageFailed: .serviceUnavailable
    case .storageFull: HTTPResponse.Status(code: 507, reasonPhrase: "Insufficient Storage")
    case .damagedRow, .internalError: .internalServerError
    case .chainFork, .chainGap, .commitmentMismatch, .deviceRevoked, .notForThisDevice, .prekeyGone,
      .sharedQueue,
      .unsealFailed:
      .unprocessableContent
    }
  }
}
