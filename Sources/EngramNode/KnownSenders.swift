internal import EngramCore

/// Whose certificate a reader has been given, and with which version of the device list: one that was
/// replaced since has to come again, or the reader goes by what is no longer true.
package struct KnownSenders: Sendable {
  private var versions: [Kid: UInt64] = [:]

  package init() {}

  package var count: Int { versions.count }

  func isCurrent(_ kid: Kid, listVersion: UInt64) -> Bool { versions[kid].map { $0 >= listVersion } ?? false }

  /// - Returns: true when the certificate has to be given now.
  mutating func learn(_ kid: Kid, listVersion: UInt64) -> Bool {
    guard !isCurrent(kid, listVersion: listVersion) else { return false }
    versions[kid] = listVersion
    return true
  }

  /// What either of the two has been given, in the newer version.
  package func union(_ other: KnownSenders) -> KnownSenders {
    var both = self
    both.versions.merge(other.versions) { max($0, $1) }
    return both
  }
}

extension Node {
  /// The certificate of a sender that `known` does not have in its newest form. A blocking read.
  func certificate(_ kid: Kid, beyond known: inout KnownSenders) throws(ErrorCode) -> CertificateItem? {
    let version = try roster.device(kid)?.list.version ?? 0
    return known.learn(kid, listVersion: version) ? try certificate(kid) : nil
  }
}
