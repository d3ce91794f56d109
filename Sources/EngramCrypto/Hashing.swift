internal import CSodium
package import EngramCore

/// `T(label, x…; key)`: BLAKE2b-256 over `lp("engram/v1/" label) || lp(x)…`. Streams its input, so large
/// ciphertexts are not copied.
package struct Transcript: ~Copyable {
  // libsodium's state is a packed struct that Swift sees only as an opaque pointer; 64 is its alignment, made
  // by hand, because allocating with it takes malloc's slow path.
  private let memory: UnsafeMutableRawPointer
  private let state: UnsafeMutableRawPointer

  package static let digestBytes = 32

  package init(_ label: StaticString) {
    Sodium.start()
    (memory, state) = Self.allocate()
    crypto_generichash_init(OpaquePointer(state), nil, 0, Self.digestBytes)
    absorbLabel(label)
  }

  package init(_ label: StaticString, key: UnsafeRawBufferPointer) {
    Sodium.start()
    (memory, state) = Self.allocate()
    crypto_generichash_init(OpaquePointer(state), key.sodiumBytes, key.count, Self.digestBytes)
    absorbLabel(label)
  }

  deinit {
    sodium_memzero(state, crypto_generichash_statebytes())
    memory.deallocate()
  }

  private static func allocate() -> (memory: UnsafeMutableRawPointer, state: UnsafeMutableRawPointer) {
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: crypto_generichash_statebytes() + 64, alignment: MemoryLayout<UInt64>.alignment)
    return (memory, memory.alignedUp(toMultipleOf: 64))
  }

  package func absorb(_ bytes: ArraySlice<UInt8>) { bytes.withUnsafeBytes { absorb(unsafe: $0) } }
  package func absorb(_ bytes: [UInt8]) { bytes.withUnsafeBytes { absorb(unsafe: $0) } }
  package func absorb(_ text: String) {
    if text.utf8.withContiguousStorageIfAvailable({ absorb(unsafe: UnsafeRawBufferPointer($0)) }) == nil {
      absorb(Array(text.utf8))
    }
  }
  package func absorb<Tag>(_ id: Identifier16<Tag>) { id.withBytes { absorb(unsafe: $0) } }
  package func absorb<Tag>(_ id: Identifier32<Tag>) { id.withBytes { absorb(unsafe: $0) } }
  package func absorb(_ value: some FixedWidthInteger & UnsignedInteger) {
    withUnsafeBytes(of: value.bigEndian) { absorb(unsafe: $0) }
  }

  package func absorb(unsafe bytes: UnsafeRawBufferPointer) {
    withUnsafeBytes(of: UInt32(bytes.count).bigEndian) { update($0) }
    update(bytes)
  }

  /// Ends the transcript and hands out its 32 bytes.
  package consuming func finish() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Self.digestBytes) { buffer, count in
      crypto_generichash_final(
        OpaquePointer(state), UnsafeMutableRawBufferPointer(buffer).sodiumBytes, Self.digestBytes)
      count = Self.digestBytes
    }
  }

  /// Ends the transcript and hands out its 32 bytes as an identifier.
  package consuming func identifier<Tag>() -> Identifier32<Tag> {
    withUnsafeTemporaryAllocation(byteCount: Self.digestBytes, alignment: 8) { buffer in
      crypto_generichash_final(OpaquePointer(state), buffer.sodiumBytes, Self.digestBytes)
      guard let value = Identifier32<Tag>(UnsafeRawBufferPointer(buffer)) else {
        preconditionFailure("BLAKE2b-256 yields 32 bytes")
      }
      return value
    }
  }

  /// Ends the transcript into guarded memory: for derived keys.
  package consuming func finishSecret() -> SecretBytes {
    SecretBytes(count: Self.digestBytes) {
      crypto_generichash_final(OpaquePointer(state), $0.sodiumBytes, Self.digestBytes)
    }
  }

  /// The same for a key of one message.
  package consuming func finishBriefSecret() -> SecretBytes {
    SecretBytes(brief: Self.digestBytes) {
      crypto_generichash_final(OpaquePointer(state), $0.sodiumBytes, Self.digestBytes)
    }
  }

  private func update(_ bytes: UnsafeRawBufferPointer) {
    crypto_generichash_update(OpaquePointer(state), bytes.sodiumBytes, UInt64(bytes.count))
  }

  private func absorbLabel(_ label: StaticString) {
    let prefix: StaticString = "engram/v1/"
    let length = UInt32(prefix.utf8CodeUnitCount + label.utf8CodeUnitCount)
    withUnsafeBytes(of: length.bigEndian) { update($0) }
    update(UnsafeRawBufferPointer(start: prefix.utf8Start, count: prefix.utf8CodeUnitCount))
    update(UnsafeRawBufferPointer(start: label.utf8Start, count: label.utf8CodeUnitCount))
  }
}

/// `T(label, x…)` without a key.
package func tagged(_ label: StaticString, _ parts: ArraySlice<UInt8>...) -> Digest {
  let transcript = Transcript(label)
  for part in parts { transcript.absorb(part) }
  return transcript.identifier()
}

/// `kid = T("kid", signing key)[0..<16]`
package func kid(of signing: SigningPublicKey) -> Kid {
  guard let kid = Kid(tagged("kid", signing.bytes[...]).bytes.prefix(16)) else {
    preconditionFailure("16 of 32")
  }
  return kid
}

/// `prekey id = T("prekey-id", public key)[0..<16]`
package func prekeyID(of key: SealingPublicKey) -> PrekeyID {
  guard let id = PrekeyID(tagged("prekey-id", key.bytes[...]).bytes.prefix(16)) else {
    preconditionFailure("16 of 32")
  }
  return id
}

/// `T("wrap", Wi)`
package func wrapDigest(_ wrap: ArraySlice<UInt8>) -> Digest { tagged("wrap", wrap) }
