internal import CSodium
internal import EngramCore
internal import EngramCrypto

/// `K`: 32 random bytes, used for one envelope. Derives the commitment and the body key.
struct ContentKey: ~Copyable {
  private let bytes: SecretBytes

  init() { bytes = SecretBytes(brief: 32) { randombytes_buf($0.bytePointer, 32) } }
  init(_ bytes: consuming SecretBytes) { self.bytes = bytes }

  /// `kcommit = T("commit", message id; key = K)`. XChaCha20-Poly1305 does not commit to its key; this does,
  /// so a sender cannot show two recipients two texts under one signature.
  func commitment(to message: MessageID) -> Digest {
    let transcript = bytes.withUnsafeBytes { Transcript("commit", key: $0) }
    transcript.absorb(message.bytes)
    guard let value = Digest(transcript.finish()) else { preconditionFailure("32 bytes") }
    return value
  }

  /// `Ke = T("body", hH; key = K)`
  private func bodyKey(header: Digest) -> SecretBytes {
    let transcript = bytes.withUnsafeBytes { Transcript("body", key: $0) }
    transcript.absorb(header.bytes)
    return transcript.finishBriefSecret()
  }

  /// `C = nonce24 || XChaCha20-Poly1305-IETF(P, aad = hH, nonce, Ke)`
  func seal(_ padded: [UInt8], header: Digest) -> [UInt8] {
    let nonce = randomBytes(24)
    let key = bodyKey(header: header)
    return [UInt8](unsafeUninitializedCapacity: padded.count + Limits.ciphertextOverhead) { buffer, count in
      let target = UnsafeMutableRawBufferPointer(buffer)
      target.copyBytes(from: nonce)
      key.withUnsafeBytes { key in
        _ = crypto_aead_xchacha20poly1305_ietf_encrypt(
          target.bytePointer + 24, nil, padded, UInt64(padded.count), header.bytes, 32, nil, nonce,
          key.bytePointer)
      }
      count = padded.count + Limits.ciphertextOverhead
    }
  }

  /// `P`, or nil when the tag does not hold.
  func open(_ ciphertext: ArraySlice<UInt8>, header: Digest) -> [UInt8]? {
    guard ciphertext.count >= Limits.ciphertextOverhead else { return nil }
    let key = bodyKey(header: header)
    var valid = false
    let plain = [UInt8](
      unsafeUninitializedCapacity: ciphertext.count - Limits.ciphertextOverhead
    ) { buffer, count in
      let target = UnsafeMutableRawBufferPointer(buffer)
      ciphertext.withUnsafeBytes { source in
        key.withUnsafeBytes { key in
          valid =
            crypto_aead_xchacha20poly1305_ietf_decrypt(
              target.bytePointer, nil, nil, source.bytePointer + 24, UInt64(source.count - 24), header.bytes,
              32,
              source.bytePointer, key.bytePointer) == 0
        }
      }
      count = ciphertext.count - Limits.ciphertextOverhead
    }
    return valid ? plain : nil
  }

  /// `Wi = crypto_box_seal(lp(K) || lp(hH[0..<16]) || lp(seq) || lp(prev), prekey)`
  func wrap(header: Digest, chain: ChainPosition, for prekey: SealingPublicKey) -> [UInt8] {
    let tail = fields(capacity: 80) {
      $0.field(header.bytes.prefix(16))
      $0.field(chain.seq)
      $0.field(chain.previous.bytes)
    }
    let plain = SecretBytes(brief: 36 + tail.count) { target in
      target.copyBytes(from: [0, 0, 0, 32])
      bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: target[4..<36]).copyMemory(from: $0) }
      UnsafeMutableRawBufferPointer(rebasing: target[36...]).copyBytes(from: tail)
    }
    return [UInt8](unsafeUninitializedCapacity: Limits.wrapBytes) { buffer, count in
      plain.withUnsafeBytes { plain in
        _ = crypto_box_seal(
          UnsafeMutableRawBufferPointer(buffer).bytePointer, plain.bytePointer, UInt64(plain.count),
          prekey.bytes)
      }
      count = Limits.wrapBytes
    }
  }

  /// What a wrap holds, parsed strictly.
  struct Unwrapped: ~Copyable {
    let key: ContentKey
    let headerPrefix: [UInt8]
    let chain: ChainPosition
  }

  static func unwrap(_ wrap: ArraySlice<UInt8>, with prekey: PrekeySecret) throws(CodecError) -> Unwrapped? {
    guard let plain = prekey.unwrap(wrap) else { return nil }
    // K stays in guarded memory; what follows it is not secret from its recipient.
    let (lengthIsRight, tail) = plain.withUnsafeBytes {
      ($0.prefix(4).elementsEqual([0, 0, 0, 32]), Array($0[36...]))
    }
    guard lengthIsRight else { throw .wrongLength }
    let key = plain.withUnsafeBytes { source in
      SecretBytes(brief: 32) { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[4..<36])) }
    }
    let (prefix, chain) = try parse(tail[...]) { (r) throws(CodecError) in
      let prefix = try r.field(max: 16)
      guard prefix.count == 16 else { throw CodecError.wrongLength }
      return (
        Array(prefix),
        ChainPosition(seq: try r.integer(), previous: try EnvelopeID(field: try r.field(max: 32)))
      )
    }
    return Unwrapped(key: ContentKey(key), headerPrefix: prefix, chain: chain)
  }
}
