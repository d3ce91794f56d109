import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport

/// Ways to spoil an envelope. What comes before the signature in a node's order of checks is refused whatever
/// the signature says; the rest is signed again by its sender's own device, so that nothing else is wrong
/// with it.
struct Tampering: Sendable, CustomStringConvertible {
  let description: String
  /// Every one of these may come; a parser that meets the damage at another place may call it by another
  /// name.
  let codes: [ErrorCode]
  let apply: @Sendable ([UInt8], TestDevice) throws -> [UInt8]

  init(
    _ description: String, _ codes: ErrorCode...,
    apply: @escaping @Sendable ([UInt8], TestDevice) throws -> [UInt8]
  ) {
    (self.description, self.codes, self.apply) = (description, codes, apply)
  }

  /// Spoils that are the same from a client and from a peer.
  static let ofBytes: [Tampering] = [
    Tampering("an unknown suite", .unknownSuite) { bytes, _ in bytes.replacing(19, with: 2) },
    Tampering("an unknown kind", .unknownValue) { bytes, _ in bytes.replacing(24, with: 9) },
    Tampering("a foreign magic", .unknownValue) { bytes, _ in bytes.replacing(8, with: 0x58) },
    Tampering("a critical extension", .criticalExtension) { bytes, _ in
      try withHeader(of: bytes) { $0.dropLast(4) + [0, 0, 0, 1, 7] }
    },
    Tampering("a byte after the last field of the header", .trailingBytes) { bytes, _ in
      try withHeader(of: bytes) { $0 + [0] }
    },
    Tampering("a byte after the last field", .trailingBytes) { bytes, _ in bytes + [0] },
    Tampering("an end that is cut off", .malformed) { bytes, _ in bytes.dropLast() },
    Tampering("a header alone", .malformed) { bytes, _ in Array(bytes.prefix(120)) },
    Tampering("a field longer than the whole", .malformed, .tooLarge) { bytes, _ in
      bytes.replacing(1, with: 5)
    },
    Tampering("an upper-case sender", .nonCanonical) { bytes, _ in
      let parsed = try UnverifiedEnvelope(parsing: bytes)
      let name = Array(parsed.header.sender.text.utf8)
      guard let start = bytes.firstRange(of: name)?.lowerBound else { throw Unexpected("no sender") }
      return bytes.replacing(start, with: name[0] - 32)
    },
    Tampering("the same recipient twice", .nonCanonical) { bytes, sender in
      try resigned(bytes, by: sender) { $0.recipients += $0.recipients }
    },
    Tampering("a padded length that padding never has", .nonCanonical) { bytes, sender in
      try resigned(bytes, by: sender) { $0.paddedLength = 257 }
    },
    Tampering("a ciphertext of another length than the header says", .malformed) { bytes, sender in
      try resigned(bytes, by: sender) { $0.paddedLength = 512 }
    },
    Tampering("a flipped bit in the ciphertext", .badSignature) { bytes, _ in
      bytes.replacing(bytes.count - 80, with: bytes[bytes.count - 80] ^ 1)
    },
    Tampering("a flipped bit in the signature", .badSignature) { bytes, _ in
      bytes.replacing(bytes.count - 1, with: bytes[bytes.count - 1] ^ 1)
    },
    Tampering("the signature of another device", .badSignature) { bytes, sender in
      try resigned(bytes, by: sender, with: signingKey(named: "somebody else")) { _ in }
    },
    Tampering("an expiry that has passed", .expired) { bytes, sender in
      try resigned(bytes, by: sender) { ($0.createdMs, $0.expiresMs) = (nowMs() - 60_000, nowMs() - 1) }
    },
    Tampering("a date in the future", .futureDated) { bytes, sender in
      try resigned(bytes, by: sender) { $0.createdMs = nowMs() + 6 * 60_000 }
    },
    Tampering("a life of 31 days", .lifetimeTooLong) { bytes, sender in
      try resigned(bytes, by: sender) { $0.expiresMs = $0.createdMs + 31 * TestTime.dayMs }
    },
    Tampering("a delivery time after the expiry", .notBeforeInvalid) { bytes, sender in
      try resigned(bytes, by: sender) { $0.notBeforeMs = $0.expiresMs + 1 }
    },
    Tampering("a stub instead of the body", .stubRefused) { bytes, _ in
      let parsed = try UnverifiedEnvelope(parsing: bytes)
      return assembleEnvelope(
        header: parsed.headerBytes, slots: parsed.slots, body: .stub(EnvelopeDigests(of: parsed).ciphertext),
        signature: parsed.signature)
    },
    Tampering("a pruned wrap where this hop needs it whole", .slotPattern) { bytes, _ in
      pruneEnvelope(try UnverifiedEnvelope(parsing: bytes)) { _ in false }
    },
  ]

  private static func withHeader(of bytes: [UInt8], _ change: ([UInt8]) -> [UInt8]) throws -> [UInt8] {
    let parsed = try UnverifiedEnvelope(parsing: bytes)
    let rest = bytes[(4 + parsed.headerBytes.count)...]
    return fields { w in
      w.field(change(Array(parsed.headerBytes)))
      w.raw(rest)
    }
  }
}

/// The envelope with another header, signed by its sender's device (or `key`) as if it had been sealed so.
func resigned(
  _ bytes: [UInt8], by sender: TestDevice, with key: SigningKey? = nil, change: (inout EnvelopeHeader) -> Void
) throws -> [UInt8] {
  let parsed = try UnverifiedEnvelope(parsing: bytes)
  var header = parsed.header
  change(&header)
  let encoded = header.encoded()
  let digests = EnvelopeDigests(of: parsed)
  let signature = (key ?? sender.key).sign(
    "envelope-sig", tagged("header", encoded[...]).bytes[...], digests.wraps.bytes[...],
    digests.ciphertext.bytes[...])
  return assembleEnvelope(header: encoded, slots: parsed.slots, body: parsed.body, signature: signature)
}

extension [UInt8] {
  func replacing(_ index: Int, with byte: UInt8) -> [UInt8] {
    var copy = self
    copy[index] = byte
    return copy
  }
}
