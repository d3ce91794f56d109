/// Why a connection could not be made or did not end well. Alert numbers are those of RFC 8446 section 6.
public enum TLSError: Error, Sendable, Hashable {
  /// The peer sent a fatal alert after the handshake. A TLS 1.3 client learns here, not during the
  /// handshake, that the server refused its certificate.
  case alertReceived(alert: UInt8)
  /// The connection ended before the handshake did.
  case closedDuringHandshake
  /// We refused the peer's handshake for a reason that has no case of its own. `nil` when what came was so
  /// far from TLS that not even an alert was sent.
  case handshakeFailed(alert: UInt8?)
  /// The peer refused our handshake with this alert.
  case handshakeRefused(alert: UInt8)
  /// The handshake did not finish within `TLSLimits.handshakeTimeout`.
  case handshakeTimedOut
  /// OpenSSL failed in a way that the peer did not cause.
  case internalFailure
  /// The server name given for a connection is neither a DNS name nor an IP address.
  case invalidServerName
  /// Both sides speak TLS, but no application protocol in common (alert 120).
  case noApplicationProtocol
  /// The application protocol needs a client certificate and the client sent none (alert 116).
  case peerCertificateMissing
  /// The peer's certificate was shown and refused.
  case peerNotTrusted(PeerRefusal)
  /// More than `TLSLimits.pendingBytesMax` bytes were written before the handshake completed.
  case pendingWritesTooLarge(limitBytes: Int)
  /// The peer broke the protocol after the handshake, for instance with a record that does not
  /// authenticate. `nil` when no alert was sent.
  case protocolViolation(alert: UInt8?)
  /// The transport ended without `close_notify`: what was received may have been cut (RFC 8446 section 6.1).
  case truncated
}

/// Why a context, a trust anchor or a certificate could not be set up: always the caller's input.
public enum TLSSetupError: Error, Sendable, Hashable {
  /// A protocol name is empty or longer than 255 bytes (RFC 7301 section 3.1), or none is given where one is
  /// needed.
  case applicationProtocols
  /// The certificate chain file is missing or is not PEM.
  case certificateUnreadable
  /// The certificate to be renewed was issued by another authority.
  case certificateOfOtherAuthority
  /// No cipher suite of the list is known to OpenSSL.
  case cipherSuites
  /// A file exists that is never overwritten: a certificate authority's key.
  case fileExists
  /// A file could not be written; `errno` of the call that failed.
  case fileUnwritable(errno: Int32)
  /// No group of the list is known to OpenSSL.
  case groups
  /// A server needs a certificate and a key.
  case identityMissing
  /// A name is not a DNS name, an IP address or a common name of at most 64 bytes.
  case invalidName
  /// OpenSSL refused an operation that does not depend on the input.
  case internalFailure
  /// Certificate and private key do not belong together; while files are being replaced this may be
  /// momentary, so a reload may be repeated.
  case keyMismatch
  /// The private key file can be read by others than its owner; `chmod 600` mends it.
  case privateKeyExposed
  /// The private key file is missing, is not PEM, or is encrypted.
  case privateKeyUnreadable
  /// The PEM text holds no certificate authority.
  case trustAnchorUnreadable
}
