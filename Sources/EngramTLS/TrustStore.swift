internal import Synchronization

/// Named peers, each with certificate authorities of its own; they come and go at run time.
///
/// A peer's authority is trusted for that peer's name alone: the name in the certificate chooses the anchors,
/// so no authority can speak for another peer. A change counts from the next handshake; open connections
/// stay, and whoever removes a peer closes them.
public final class TrustStore: Sendable {
  private let peers = Mutex<[String: TrustAnchors]>([:])

  /// An empty store, which refuses everybody.
  public init() {}

  /// Adds a peer or replaces its authorities. The name is the DNS name that its certificates must carry.
  public func set(name: String, caPEM: String) throws(TLSSetupError) {
    guard CertificateName.isDNSName(name) else { throw .invalidName }
    let anchors = try TrustAnchors(pem: caPEM)
    peers.withLock { $0[name.lowercased()] = anchors }
  }

  /// Forgets a peer: its next handshake is refused.
  public func remove(name: String) {
    peers.withLock { _ = $0.removeValue(forKey: name.lowercased()) }
  }

  /// Names of the peers now known, ascending.
  public var names: [String] {
    peers.withLock { $0.keys.sorted() }
  }

  /// A verifier over the store as it is at the moment of each handshake.
  public var verifier: PeerVerifier {
    { self.verify($0) }
  }

  private func verify(_ chain: PeerChain) -> PeerVerdict {
    switch candidate(chain) {
    case .failure(let refusal): return .refused(refusal)
    case .success(let (name, anchors)):
      switch anchors.verify(chain) {
      case .refused(let refusal): return .refused(refusal)
      case .trusted: return .trusted(name: name)
      }
    }
  }

  /// The one configured peer that the certificate can stand for.
  private func candidate(_ chain: PeerChain) -> Result<(String, TrustAnchors), PeerRefusal> {
    let claimed = Set(chain.leaf.dnsNames)
    guard !claimed.isEmpty else { return .failure(.nameMissing) }
    let eligible: Set<String>
    switch chain.relation {
    case .client: eligible = claimed
    case .server(nil): return .failure(.nameMissing)
    case .server(let expected?):
      guard claimed.contains(expected.lowercased()) else { return .failure(.nameMismatch) }
      eligible = [expected.lowercased()]
    }
    let known = peers.withLock { peers in
      eligible.compactMap { name in peers[name].map { (name, $0) } }
    }
    guard let first = known.first else { return .failure(.unknownPeer) }
    return known.count == 1 ? .success(first) : .failure(.ambiguousName)
  }
}

extension PeerRefusal: Error {}
