internal import EngramCore
internal import EngramCrypto
internal import Synchronization

/// Verified certificates and device lists by their bytes, so that a hundred messages of one sender cost one
/// verification of its certificate.
final class CredentialCache: Sendable {
  /// Correspondents' devices with recent traffic; beyond that the cache starts anew.
  private static let entriesMax = 4_096

  private struct Entries {
    var certificates: [[UInt8]: DeviceCertificate] = [:]
    var lists: [[UInt8]: DeviceList] = [:]
    /// By their own bytes; the device is part of what they say.
    var prekeys: [[UInt8]: Prekey] = [:]
    var keys: [SigningPublicKey: VerifyingKey] = [:]
  }
  private let entries = Mutex(Entries())
  /// Batches of receipts, of nodes and of devices, that were verified.
  let roots = ReceiptRoots()

  func certificate(_ bytes: [UInt8]) throws(CredentialError) -> DeviceCertificate {
    if let known = entries.withLock({ $0.certificates[bytes] }) { return known }
    let certificate = try DeviceCertificate(verifying: bytes)
    entries.withLock {
      if $0.certificates.count >= Self.entriesMax { $0.certificates.removeAll() }
      $0.certificates[bytes] = certificate
    }
    return certificate
  }

  func list(_ bytes: [UInt8]) throws(CredentialError) -> DeviceList {
    if let known = entries.withLock({ $0.lists[bytes] }) { return known }
    let list = try DeviceList(verifying: bytes)
    entries.withLock {
      if $0.lists.count >= Self.entriesMax { $0.lists.removeAll() }
      $0.lists[bytes] = list
    }
    return list
  }

  func prekey(_ bytes: [UInt8], of device: DeviceCertificate) throws(CredentialError) -> Prekey {
    // A prekey names its device's kid, which is the hash of the key that it was verified with.
    if let known = entries.withLock({ $0.prekeys[bytes] }), known.body.kid == device.kid,
      known.body.address == device.body.address
    {
      return known
    }
    let prekey = try Prekey(verifying: bytes, by: device)
    entries.withLock {
      if $0.prekeys.count >= Self.entriesMax { $0.prekeys.removeAll() }
      $0.prekeys[bytes] = prekey
    }
    return prekey
  }

  /// The key as one that may verify; finding out costs as much as a signature.
  func key(_ key: SigningPublicKey) throws(SignatureError) -> VerifyingKey {
    if let known = entries.withLock({ $0.keys[key] }) { return known }
    let checked = try VerifyingKey(key)
    entries.withLock {
      if $0.keys.count >= Self.entriesMax { $0.keys.removeAll() }
      $0.keys[key] = checked
    }
    return checked
  }
}
