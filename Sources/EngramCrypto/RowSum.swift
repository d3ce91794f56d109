internal import CSodium
package import EngramCore

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein 2012; libsodium's `siphashx24`) over stored
/// bytes: finds every kind of damage at about a byte per cycle. A check sum while the key is public, a MAC
/// once it is secret.
/// - Parameter key: two words, so that sums of different things are told apart.
package func rowSum<Tag>(
  _ bytes: UnsafeRawBufferPointer, key: (UInt64, UInt64), as tag: Tag.Type = Tag.self
) -> Identifier16<Tag> {
  let key = (key.0.littleEndian, key.1.littleEndian)
  var out: (UInt64, UInt64) = (0, 0)
  withUnsafeMutableBytes(of: &out) { out in
    withUnsafeBytes(of: key) { key in
      _ = crypto_shorthash_siphashx24(
        out.sodiumBytes, bytes.sodiumBytes, UInt64(bytes.count), key.sodiumBytes)
    }
  }
  return withUnsafeBytes(of: out) { bytes in
    guard let sum = Identifier16<Tag>(bytes) else { preconditionFailure("two words are 16 bytes") }
    return sum
  }
}
