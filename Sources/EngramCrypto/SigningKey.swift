internal import CSodium
package import EngramCore

/// A public key that failed the checks of `VerifyingKey`, or a signature that does not verify.
package enum SignatureError: Error, Equatable, Sendable {
  case badSignature
  case weakKey

  package var code: ErrorCode { self == .weakKey ? .weakKey : .badSignature }
}

/// An Ed25519 public key that libsodium accepts as a point of the prime-order group: canonical, not of low
/// order (`crypto_core_ed25519_is_valid_point`). Made nowhere else.
package struct VerifyingKey: Hashable, Sendable {
  package let bytes: SigningPublicKey

  package init(_ key: SigningPublicKey) throws(SignatureError) {
    Sodium.start()
    guard crypto_core_ed25519_is_valid_point(key.bytes) == 1 else { throw .weakKey }
    bytes = key
  }

  /// `Sig(key, label, x…)`: Ed25519 (RFC 8032, libsodium's strict verification) over `lp("engram/v1/" label)
  /// || lp(x)…`.
  package func verify(
    _ signature: ArraySlice<UInt8>, _ label: StaticString, _ parts: ArraySlice<UInt8>...
  ) throws(SignatureError) {
    try verify(signature, over: signedMessage(label, parts))
  }

  /// Over bytes as they are: only for formats that fix their own signing input (JWT, RFC 7515).
  package func verify(_ signature: ArraySlice<UInt8>, over message: [UInt8]) throws(SignatureError) {
    guard signature.count == Limits.signatureBytes else { throw .badSignature }
    let valid = signature.withUnsafeBytes { signature in
      bytes.withBytes {
        crypto_sign_verify_detached(
          signature.sodiumBytes, message, UInt64(message.count), $0.sodiumBytes) == 0
      }
    }
    guard valid else { throw .badSignature }
  }
}

/// An Ed25519 secret key in guarded memory.
package final class SigningKey: Sendable {
  private let secret: SecretBytes
  package let publicKey: SigningPublicKey

  /// A fresh key.
  package convenience init() { self.init(seed: SecretBytes.random(Int(crypto_sign_seedbytes()))) }

  /// From the 32-byte seed of RFC 8032 section 5.1.5.
  package init(seed: borrowing SecretBytes) {
    precondition(seed.count == crypto_sign_seedbytes(), "an Ed25519 seed has 32 bytes")
    var publicBytes = [UInt8](repeating: 0, count: Int(crypto_sign_publickeybytes()))
    secret = seed.withUnsafeBytes { seed in
      SecretBytes(count: Int(crypto_sign_secretkeybytes())) { target in
        crypto_sign_seed_keypair(
          &publicBytes, target.sodiumBytes,
          seed.sodiumBytes)
      }
    }
    guard let publicKey = SigningPublicKey(publicBytes) else { preconditionFailure("sized above") }
    self.publicKey = publicKey
  }

  /// The seed, for writing a key file.
  package func seed() -> SecretBytes {
    secret.withUnsafeBytes { source in
      SecretBytes(count: 32) { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: source.prefix(32))) }
    }
  }

  package var kid: Kid { EngramCrypto.kid(of: publicKey) }

  package func sign(_ label: StaticString, _ parts: ArraySlice<UInt8>...) -> [UInt8] {
    sign(over: signedMessage(label, parts))
  }

  /// Over bytes as they are: only for formats that fix their own signing input (JWT, RFC 7515).
  package func sign(over message: [UInt8]) -> [UInt8] {
    secret.withUnsafeBytes { secret in
      [UInt8](unsafeUninitializedCapacity: Limits.signatureBytes) { buffer, count in
        crypto_sign_detached(
          UnsafeMutableRawBufferPointer(buffer).sodiumBytes, nil, message, UInt64(message.count),
          secret.sodiumBytes)
        count = Limits.signatureBytes
      }
    }
  }
}

/// `lp("engram/v1/" label) || lp(x)…`
private func signedMessage(_ label: StaticString, _ parts: [ArraySlice<UInt8>]) -> [UInt8] {
  fields(capacity: 64 + parts.reduce(0) { $0 + $1.count + 4 }) { w in
    w.field("engram/v1/\(label)")
    for part in parts { w.field(part) }
  }
}

/// Big-endian bytes of an integer, for signing and hashing.
package func bigEndianBytes(_ value: some FixedWidthInteger & UnsignedInteger) -> [UInt8] {
  withUnsafeBytes(of: value.bigEndian) { Array($0) }
}
