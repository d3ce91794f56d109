internal import CSodium
internal import EngramCore

/// Why a key file could not be read.
package enum KeyFileError: Error, Equatable, Sendable {
  case malformed
  case wrongKind
  case passphraseNeeded
  case wrongPassphrase
  /// Argon2id could not get its memory.
  case outOfMemory
}

/// A secret as a small text file: in the clear (the file's mode 0600 is all that protects it, and the caller
/// says so aloud) or sealed with XChaCha20-Poly1305 under an Argon2id key (RFC 9106; libsodium's "moderate"
/// limits).
///
/// ```
/// engram-key-v1 node-identity
/// argon2id 3 268435456 <salt hex>        or: clear
/// <payload hex>
/// ```
package enum KeyFile {
  private static let magic = "engram-key-v1"

  package static func encode(
    _ secret: borrowing SecretBytes, kind: String, passphrase: [UInt8]?
  ) throws(KeyFileError) -> String {
    guard let passphrase else {
      return "\(magic) \(kind)\nclear\n\(secret.withUnsafeBytes { hex($0) })\n"
    }
    let salt = randomBytes(Int(crypto_pwhash_saltbytes()))
    let (ops, memory) = (UInt64(crypto_pwhash_opslimit_moderate()), Int(crypto_pwhash_memlimit_moderate()))
    let parameters = "argon2id \(ops) \(memory) \(hex(salt))"
    let key = try derive(passphrase, salt: salt, ops: ops, memory: memory)
    let nonce = randomBytes(24)
    let bound = Array("\(magic) \(kind)\n\(parameters)".utf8)
    let sealed = [UInt8](unsafeUninitializedCapacity: secret.count + 16) { buffer, count in
      secret.withUnsafeBytes { secret in
        key.withUnsafeBytes { key in
          _ = crypto_aead_xchacha20poly1305_ietf_encrypt(
            UnsafeMutableRawBufferPointer(buffer).sodiumBytes, nil, secret.sodiumBytes, UInt64(secret.count),
            bound,
            UInt64(bound.count), nil, nonce, key.sodiumBytes)
        }
      }
      count = secret.count + 16
    }
    return "\(magic) \(kind)\n\(parameters)\n\(hex(nonce + sealed))\n"
  }

  /// True when `decode` will ask for a passphrase.
  package static func isEncrypted(_ text: String) -> Bool {
    text.split(separator: "\n").dropFirst().first?.hasPrefix("argon2id ") ?? false
  }

  package static func decode(
    _ text: String, kind: String, passphrase: [UInt8]?
  ) throws(KeyFileError) -> SecretBytes {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count == 4, lines[3].isEmpty, var payload = bytes(hex: lines[2]), !payload.isEmpty else {
      throw .malformed
    }
    guard lines[0] == "\(magic) \(kind)" else { throw lines[0].hasPrefix(magic) ? .wrongKind : .malformed }
    if lines[1] == "clear" { return SecretBytes(consuming: &payload) }
    let words = lines[1].split(separator: " ")
    guard words.count == 4, words[0] == "argon2id", let ops = UInt64(words[1]), let memory = Int(words[2]),
      (1...64).contains(ops), (8_192...(4 << 30)).contains(memory), let salt = bytes(hex: words[3]),
      salt.count == Int(crypto_pwhash_saltbytes()), payload.count > 40
    else { throw .malformed }
    guard let passphrase else { throw .passphraseNeeded }
    let key = try derive(passphrase, salt: salt, ops: ops, memory: memory)
    let bound = Array("\(lines[0])\n\(lines[1])".utf8)
    var valid = false
    let secret = SecretBytes(count: payload.count - 40) { target in
      key.withUnsafeBytes { key in
        payload.withUnsafeBytes { payload in
          valid =
            crypto_aead_xchacha20poly1305_ietf_decrypt(
              target.sodiumBytes, nil, nil, payload.sodiumBytes + 24, UInt64(payload.count - 24), bound,
              UInt64(bound.count), payload.sodiumBytes, key.sodiumBytes) == 0
        }
      }
    }
    guard valid else { throw .wrongPassphrase }
    return secret
  }

  private static func derive(
    _ passphrase: [UInt8], salt: [UInt8], ops: UInt64, memory: Int
  ) throws(KeyFileError) -> SecretBytes {
    Sodium.start()
    var derived = false
    let key = SecretBytes(count: 32) { target in
      passphrase.withUnsafeBytes { passphrase in
        derived =
          crypto_pwhash(
            target.sodiumBytes, 32,
            UnsafeRawPointer(passphrase.sodiumBytes).assumingMemoryBound(to: CChar.self),
            UInt64(passphrase.count), salt, ops, memory, crypto_pwhash_alg_argon2id13()) == 0
      }
    }
    guard derived else { throw .outOfMemory }
    return key
  }
}
