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
  }
  private let entries = Mutex(Entries())

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
}
