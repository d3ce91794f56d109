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
/// limits). The file's bytes are secret as well, and stay in guarded memory between disk and key.
///
/// ```
/// engram-key-v1 node-identity
/// argon2id 3 268435456 <salt hex>        or: clear
/// <payload hex>
/// ```
package enum KeyFile {
  private static let magic = "engram-key-v1"
  private static let nonceBytes = 24
  private static let tagBytes = 16

  /// The bytes of the file.
  package static func encode(
    _ secret: borrowing SecretBytes, kind: String, passphrase: [UInt8]?
  ) throws(KeyFileError) -> SecretBytes {
    guard let passphrase else {
      return secret.withUnsafeBytes { file("\(magic) \(kind)\nclear\n", payload: $0) }
    }
    let salt = randomBytes(Int(crypto_pwhash_saltbytes()))
    let (ops, memory) = (UInt64(crypto_pwhash_opslimit_moderate()), Int(crypto_pwhash_memlimit_moderate()))
    let head = "\(magic) \(kind)\nargon2id \(ops) \(memory) \(hex(salt))"
    let key = try derive(passphrase, salt: salt, ops: ops, memory: memory)
    let nonce = randomBytes(nonceBytes)
    let bound = Array(head.utf8)
    let sealed = [UInt8](unsafeUninitializedCapacity: secret.count + tagBytes) { buffer, count in
      secret.withUnsafeBytes { secret in
        key.withUnsafeBytes { key in
          _ = crypto_aead_xchacha20poly1305_ietf_encrypt(
            UnsafeMutableRawBufferPointer(buffer).sodiumBytes, nil, secret.sodiumBytes, UInt64(secret.count),
            bound, UInt64(bound.count), nil, nonce, key.sodiumBytes)
        }
      }
      count = secret.count + tagBytes
    }
    return file(head + "\n", payload: nonce + sealed)
  }

  /// True when `decode` will ask for a passphrase.
  package static func isEncrypted(_ file: borrowing SecretBytes) -> Bool {
    file.withUnsafeBytes { lines($0) }?.method.hasPrefix("argon2id ") ?? false
  }

  package static func decode(
    _ file: borrowing SecretBytes, kind: String, passphrase: [UInt8]?
  ) throws(KeyFileError) -> SecretBytes {
    guard let lines = file.withUnsafeBytes({ lines($0) }) else { throw .malformed }
    let payload = try bytes(hex: lines.payload, of: file)
    guard lines.title == "\(magic) \(kind)" else {
      throw lines.title.hasPrefix(magic) ? .wrongKind : .malformed
    }
    if lines.method == "clear" { return payload }
    return try open(payload, lines, passphrase)
  }

  private static func open(
    _ payload: borrowing SecretBytes, _ lines: Lines, _ passphrase: [UInt8]?
  ) throws(KeyFileError) -> SecretBytes {
    let words = lines.method.split(separator: " ")
    let overhead = nonceBytes + tagBytes
    guard words.count == 4, words[0] == "argon2id", let ops = UInt64(words[1]), let memory = Int(words[2]),
      (1...64).contains(ops), (8_192...(4 << 30)).contains(memory),
      let salt = EngramCore.bytes(hex: words[3]), salt.count == Int(crypto_pwhash_saltbytes()),
      payload.count > overhead
    else { throw .malformed }
    guard let passphrase else { throw .passphraseNeeded }
    let key = try derive(passphrase, salt: salt, ops: ops, memory: memory)
    let bound = Array("\(lines.title)\n\(lines.method)".utf8)
    var valid = false
    let secret = SecretBytes(count: payload.count - overhead) { target in
      key.withUnsafeBytes { key in
        payload.withUnsafeBytes { payload in
          valid =
            crypto_aead_xchacha20poly1305_ietf_decrypt(
              target.sodiumBytes, nil, nil, payload.sodiumBytes + nonceBytes,
              UInt64(payload.count - nonceBytes), bound, UInt64(bound.count), payload.sodiumBytes,
              key.sodiumBytes) == 0
        }
      }
    }
    guard valid else { throw .wrongPassphrase }
    return secret
  }

  // MARK: - Text

  /// The two lines that hold no secret, and where the third one is.
  private struct Lines {
    let title: String
    let method: String
    let payload: Range<Int>
  }

  private static func lines(_ file: UnsafeRawBufferPointer) -> Lines? {
    let ends = file.indices.filter { file[$0] == UInt8(ascii: "\n") }
    guard ends.count == 3, ends[2] == file.count - 1 else { return nil }
    return Lines(
      title: String(decoding: file[0..<ends[0]], as: UTF8.self),
      method: String(decoding: file[(ends[0] + 1)..<ends[1]], as: UTF8.self),
      payload: (ends[1] + 1)..<ends[2])
  }

  private static func file(_ head: String, payload: some Collection<UInt8>) -> SecretBytes {
    let digits = Array("0123456789abcdef".utf8)
    let head = Array(head.utf8)
    return SecretBytes(count: head.count + 2 * payload.count + 1) { target in
      target.copyBytes(from: head)
      for (index, byte) in payload.enumerated() {
        target[head.count + 2 * index] = digits[Int(byte >> 4)]
        target[head.count + 2 * index + 1] = digits[Int(byte & 15)]
      }
      target[target.count - 1] = UInt8(ascii: "\n")
    }
  }

  /// Decodes lower-case hexadecimal without a copy outside guarded memory.
  private static func bytes(
    hex digits: Range<Int>, of file: borrowing SecretBytes
  ) throws(KeyFileError) -> SecretBytes {
    let isHex = file.withUnsafeBytes { file in digits.allSatisfy { nibble(file[$0]) != nil } }
    guard !digits.isEmpty, digits.count.isMultiple(of: 2), isHex else { throw .malformed }
    return SecretBytes(count: digits.count / 2) { target in
      file.withUnsafeBytes { file in
        for index in target.indices {
          let digit = digits.lowerBound + 2 * index
          target[index] = (nibble(file[digit]) ?? 0) << 4 | (nibble(file[digit + 1]) ?? 0)
        }
      }
    }
  }

  private static func nibble(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    default: nil
    }
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
