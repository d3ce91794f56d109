package import EngramCore
internal import EngramCrypto
internal import EngramStore
import Synchronization

/// Peers' directory answers, verified against the pinned node id. Signed prekeys only: one-time prekeys are
/// never cached (and not handed out yet).
final class DirectoryCache: Sendable {
  private struct Entry {
    let answer: [UInt8]
    let fetchedMs: UInt64
  }
  /// About 1 KiB each.
  private static let entriesMax = 16_384
  private let entries = Mutex<[Address: Entry]>([:])

  func answer(_ address: Address, notBefore: UInt64) -> [UInt8]? {
    entries.withLock { entries in
      guard let entry = entries[address], entry.fetchedMs >= notBefore else { return nil }
      return entry.answer
    }
  }

  func forget(_ address: Address) { entries.withLock { $0[address] = nil } }

  func store(_ answer: [UInt8], for address: Address, nowMs: UInt64) {
    entries.withLock { entries in
      if entries.count >= Self.entriesMax { entries.removeAll() }
      entries[address] = Entry(answer: answer, fetchedMs: nowMs)
    }
  }
}

extension Node {
  /// The countersigned entry of one of our own clients: what peers and clients may ask. "Not here",
  /// "disabled" and "no usable device" are one answer.
  package func localDirectoryAnswer(_ address: Address) -> Result<[UInt8], ErrorCode> {
    do throws(ErrorCode) {
      guard address.node == identity.name else { return .failure(.notFound) }
      let bundles = try reading { snapshot in try Self.bundles(of: address, in: snapshot) }
      guard !bundles.isEmpty else { return .failure(.notFound) }
      return .success(
        signDirectoryAnswer(
          DirectoryAnswerBody(
            node: identity.name, nodeID: identity.id, address: address, issuedMs: clock.nowMs(),
            bundles: bundles),
          key: identity.key))
    } catch { return .failure(error) }
  }

  private static func bundles(of address: Address, in snapshot: StoreSnapshot) throws -> [PrekeyBundle] {
    guard let client = try snapshot.client(address), !client.isDisabled, client.home == 0 else { return [] }
    let list = try DeviceList(verifying: client.list).body
    return try snapshot.devices(of: address).compactMap { device in
      guard list.isActive(device.kid), let prekey = try snapshot.signedPrekey(of: device.kid) else {
        return nil
      }
      return PrekeyBundle(deviceList: client.list, certificate: device.certificate, signedPrekey: prekey)
    }
  }

  /// The entry of any client: our own at once, a peer's from the cache or over the federation. When the
  /// peer cannot be reached the last answer serves: its prekey says itself how long it may be used.
  package func directoryAnswer(
    _ address: Address, completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    if address.node == identity.name { return completion(localDirectoryAnswer(address)) }
    let now = clock.nowMs()
    if let fresh = directoryCache.answer(address, notBefore: now - min(now, settings.directoryFreshMs)) {
      return completion(.success(fresh))
    }
    guard let known = roster.peer(address.node), known.peer.isEnabled else {
      return completion(.failure(.noRoute))
    }
    guard let port = directoryPort.withLock({ $0 }) else { return completion(.failure(.peerUnreachable)) }
    port.lookup(address, at: address.node) { [self] result in
      switch result {
      case .success(let answer): completion(keep(answer, about: address, from: known.peer))
      case .failure(let code):
        let stale = code.isRetryable ? directoryCache.answer(address, notBefore: 0) : nil
        completion(stale.map { .success($0) } ?? .failure(code))
      }
    }
  }

  private func keep(_ answer: [UInt8], about address: Address, from peer: Peer) -> Result<[UInt8], ErrorCode>
  {
    guard let body = try? verifyDirectoryAnswer(answer[...], pinned: peer.id), body.node == peer.name,
      body.address == address
    else { return .failure(.badSignature) }
    directoryCache.store(answer, for: address, nowMs: clock.nowMs())
    return .success(answer)
  }

  /// Set by the federation; without it only local clients can be looked up.
  package func setDirectoryPort(_ port: (any DirectoryPort)?) { directoryPort.withLock { $0 = port } }
}
