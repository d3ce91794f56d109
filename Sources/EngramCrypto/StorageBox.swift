internal import CSodium
internal import EngramCore

/// The place of a sealed column. It is bound into the ciphertext, so that a value cannot be moved to another
/// row, column or generation of the schema without being noticed.
package struct StoragePlace: Sendable {
  let bound: [UInt8]

  /// - Parameters:
  ///   - row: the row's key, in the table's own encoding.
  ///   - schemaVersion: raised when the meaning of a sealed column changes.
  package init(table: StaticString, column: StaticString, row: [UInt8], schemaVersion: UInt32) {
    bound = fields(capacity: 64 + row.count) {
      $0.field("\(table)")
      $0.field("\(column)")
      $0.field(row)
      $0.field(schemaVersion)
    }
  }
}

/// Seals columns of a local database: `nonce24 || XChaCha20-Poly1305-IETF(plain, aad = place)` under
/// `T("storage/column"; key = storage key)`. Nonces are random; with 192 bits they do not repeat.
package final class StorageBox: Sendable {
  private let key: SecretBytes

  package static let keyBytes = 32
  /// 24 bytes of nonce and 16 of tag.
  package static let overheadBytes = 40

  package init(storageKey: borrowing SecretBytes) {
    precondition(storageKey.count == Self.keyBytes, "a storage key has 32 bytes")
    let transcript = storageKey.withUnsafeBytes { Transcript("storage/column", key: $0) }
    key = transcript.finishSecret()
  }

  package func seal(_ plain: [UInt8], at place: StoragePlace) -> [UInt8] {
    plain.withUnsafeBytes { seal(unsafe: $0, at: place) }
  }

  package func seal(_ secret: borrowing SecretBytes, at place: StoragePlace) -> [UInt8] {
    secret.withUnsafeBytes { seal(unsafe: $0, at: place) }
  }

  /// The plain bytes, or nil when they were not sealed under this key for this place.
  package func open(_ sealed: [UInt8], at place: StoragePlace) -> [UInt8]? {
    guard sealed.count >= Self.overheadBytes else { return nil }
    var valid = false
    let plain = [UInt8](unsafeUninitializedCapacity: sealed.count - Self.overheadBytes) { buffer, count in
      valid = decrypt(sealed, place, into: UnsafeMutableRawBufferPointer(buffer))
      count = sealed.count - Self.overheadBytes
    }
    return valid ? plain : nil
  }

  /// Like `open`, into guarded memory: for keys.
  package func openSecret(_ sealed: [UInt8], at place: StoragePlace) -> SecretBytes? {
    guard sealed.count >= Self.overheadBytes else { return nil }
    var valid = false
    let secret = SecretBytes(count: sealed.count - Self.overheadBytes) {
      valid = decrypt(sealed, place, into: $0)
    }
    guard valid else { return nil }
    return secret
  }

  private func seal(unsafe plain: UnsafeRawBufferPointer, at place: StoragePlace) -> [UInt8] {
    let nonce = randomBytes(24)
    return [UInt8](unsafeUninitializedCapacity: plain.count + Self.overheadBytes) { buffer, count in
      let target = UnsafeMutableRawBufferPointer(buffer)
      target.copyBytes(from: nonce)
      key.withUnsafeBytes { key in
        _ = crypto_aead_xchacha20poly1305_ietf_encrypt(
          target.sodiumBytes + 24, nil, plain.sodiumBytes, UInt64(plain.count), place.bound,
          UInt64(place.bound.count), nil, nonce, key.sodiumBytes)
      }
      count = plain.count + Self.overheadBytes
    }
  }

  private func decrypt(
    _ sealed: [UInt8], _ place: StoragePlace, into target: UnsafeMutableRawBufferPointer
  ) -> Bool {
    key.withUnsafeBytes { key in
      sealed.withUnsafeBytes { source in
        crypto_aead_xchacha20poly1305_ietf_decrypt(
          target.sodiumBytes, nil, nil, source.sodiumBytes + 24, UInt64(source.count - 24), place.bound,
          UInt64(place.bound.count), source.sodiumBytes, key.sodiumBytes) == 0
      }
    }
  }
}
