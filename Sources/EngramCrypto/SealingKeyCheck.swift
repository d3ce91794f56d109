internal import CSodium
package import EngramCore

/// Refuses X25519 keys that are not canonical (RFC 7748 section 5 masks them, so each point would have
/// several encodings) and those of low order, with which every shared secret is zero (RFC 7748 section 6.1).
package func isUsableSealingKey(_ key: SealingPublicKey) -> Bool {
  Sodium.start()
  let bytes = key.bytes
  guard isCanonicalCoordinate(bytes) else { return false }
  // libsodium refuses low-order points by the all-zero check; any clamped scalar shows them.
  var shared = [UInt8](repeating: 0, count: 32)
  let scalar = [UInt8](repeating: 1, count: 32)
  return crypto_scalarmult(&shared, scalar, bytes) == 0
}

/// Little-endian value below 2^255 - 19, top bit clear.
private func isCanonicalCoordinate(_ bytes: [UInt8]) -> Bool {
  guard bytes[31] & 0x80 == 0 else { return false }
  guard bytes[31] == 0x7f, bytes[1..<31].allSatisfy({ $0 == 0xff }) else { return true }
  return bytes[0] < 0xed
}
