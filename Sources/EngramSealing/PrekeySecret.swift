internal import CSodium
package import EngramCore
package import EngramCrypto

/// An X25519 key pair that others seal to. Signed prekeys live for days, one-time prekeys for one message.
package final class PrekeySecret: Sendable {
  private let secret: SecretBytes
  package let publicKey: SealingPublicKey
  package var id: PrekeyID { prekeyID(of: publicKey) }

  package static let seedBytes = 32

  /// A fresh key.
  package convenience init() { self.init(seed: SecretBytes.random(Self.seedBytes)) }

  /// From the 32 secret bytes that the client's store keeps.
  package init(seed: borrowing SecretBytes) {
    precondition(seed.count == Self.seedBytes, "an X25519 secret has 32 bytes")
    var publicBytes = [UInt8](repeating: 0, count: 32)
    secret = seed.withUnsafeBytes { seed in
      SecretBytes(count: Self.seedBytes) { target in
        target.copyMemory(from: seed)
        crypto_scalarmult_base(&publicBytes, target.bytePointer)
      }
    }
    guard let key = SealingPublicKey(publicBytes) else { preconditionFailure("X25519 yields 32 bytes") }
    publicKey = key
  }

  package func seed() -> SecretBytes { secret.copy() }

  /// Signed by the device, for the directory.
  package func certified(
    kind: PrekeyKind, address: Address, device: SigningKey, notBeforeMs: UInt64, notAfterMs: UInt64
  ) -> [UInt8] {
    Prekey.issue(
      PrekeyBody(
        kind: kind, address: address, kid: device.kid, id: id, key: publicKey, notBeforeMs: notBeforeMs,
        notAfterMs: notAfterMs),
      device: device)
  }

  /// Opens `crypto_box_seal` of known length into guarded memory; nil when it was not sealed to this key.
  func unwrap(_ wrap: ArraySlice<UInt8>) -> SecretBytes? {
    var opened = false
    let plain = SecretBytes(brief: Limits.wrapBytes - Int(crypto_box_sealbytes())) { target in
      secret.withUnsafeBytes { secret in
        wrap.withUnsafeBytes { wrap in
          opened =
            crypto_box_seal_open(
              target.bytePointer, wrap.bytePointer, UInt64(wrap.count), publicKey.bytes, secret.bytePointer)
            == 0
        }
      }
    }
    guard opened else { return nil }
    return plain
  }
}

extension UnsafeRawBufferPointer {
  /// For buffers that are never empty here; libsodium's headers forbid null.
  var bytePointer: UnsafePointer<UInt8> {
    guard let base = bindMemory(to: UInt8.self).baseAddress else { preconditionFailure("empty buffer") }
    return base
  }
}

extension UnsafeMutableRawBufferPointer {
  var bytePointer: UnsafeMutablePointer<UInt8> {
    guard let base = bindMemory(to: UInt8.self).baseAddress else { preconditionFailure("empty buffer") }
    return base
  }
}
