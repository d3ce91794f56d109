public import NIOCore

/// Bounds of one TLS connection; every one of them can be lowered or raised per handler.
public struct TLSLimits: Sendable {
  /// From TCP connection to the end of the handshake. A mutual handshake costs a few milliseconds of work and
  /// three network round trips, so 10 s fits a bad mobile link and still frees the slots of silent peers.
  public var handshakeTimeout: TimeAmount = .seconds(10)

  /// From our `close_notify` (or fatal alert) to the peer's answer. Two seconds cover a round trip; a peer
  /// that stays silent loses nothing that it had not already received.
  public var shutdownTimeout: TimeAmount = .seconds(2)

  /// Bytes that may be written before the handshake completes. One MiB is more than a first request or a
  /// first batch; a writer that is so far ahead of an unproven peer is a mistake.
  public var pendingBytesMax: Int = 1 << 20

  /// The limits as documented on each property.
  public init() {}
}

/// Sizes that follow from the protocol or from how it is used here, not from deployment.
enum TLSSizes {
  /// Plaintext bytes of one record, RFC 8446 section 5.1. Larger writes are cut, smaller ones packed.
  static let recordPayloadMax = 16_384

  /// Header, content type and AEAD tag of a record: 5 + 1 + 16 bytes, RFC 8446 section 5.2.
  static let recordOverhead = 22

  /// Ciphertext bytes handed to the channel in one buffer, so that one huge write does not need a second
  /// buffer of its own size.
  static let ciphertextChunk = 256 << 10

  /// DER bytes of a peer's certificate chain. Four P-256 certificates take about 4 KiB and RSA ones 8 KiB;
  /// OpenSSL's default of 100 KiB would let unknown peers make us parse far more.
  static let certificateListBytesMax = 32 << 10

  /// Intermediate certificates between leaf and trust anchor.
  static let chainDepthMax: Int32 = 4

  /// OpenSSL authentication level 2: 112 bits, so no RSA below 2048 bits and no SHA-1 signatures.
  static let authenticationLevel: Int32 = 2
}
