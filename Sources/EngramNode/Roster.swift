internal import EngramCore
internal import EngramCrypto
internal import EngramStore
import Synchronization

/// A device that we know, with everything that intake asks about it, verified once when it was loaded.
final class KnownDevice: Sendable {
  let certificate: DeviceCertificate
  let list: DeviceListBody
  /// 0 for our own clients, otherwise the envelope mailbox of the peer.
  let home: Int64
  let isDisabled: Bool
  /// Our own clients' devices only.
  let mailbox: Int64?
  /// The mailbox that all devices of the client share, when they do.
  let workQueue: Int64?

  init(
    certificate: DeviceCertificate, list: DeviceListBody, home: Int64, isDisabled: Bool, mailbox: Int64?,
    workQueue: Int64?
  ) {
    (self.certificate, self.list, self.home) = (certificate, list, home)
    (self.isDisabled, self.mailbox, self.workQueue) = (isDisabled, mailbox, workQueue)
  }

  /// `none`, or why this device may not send now.
  func standing(nowMs: UInt64) -> ErrorCode {
    let login = loginStanding(nowMs: nowMs)
    return login == .none && nowMs >= list.validUntilMs ? .staleDeviceList : login
  }

  /// The same for opening a session: a device whose list has run out may still come in and bring a new one.
  func loginStanding(nowMs: UInt64) -> ErrorCode {
    if isDisabled { return .clientDisabled }
    if !certificate.isValid(atMs: nowMs) { return .badCertificate }
    return list.isActive(certificate.kid) ? .none : .deviceInactive
  }
}

/// A peer with its two mailboxes.
struct KnownPeer: Sendable {
  let peer: Peer
  let envelopes: Int64
  let receipts: Int64
}

/// What verification and routing need at hand: devices (a cache of the store) and peers.
final class Roster: Sendable {
  private struct State {
    var devices: [Kid: KnownDevice] = [:]
    /// Raised by every change, so that a load that began before it is not cached after it.
    var generation: UInt64 = 0
    var peers: [NodeName: KnownPeer] = [:]
  }

  /// Devices kept in memory, about 2 KiB each; past it the cache starts over.
  private static let devicesMax = 65_536
  private let state = Mutex(State())
  private let store: Store

  init(store: Store) { self.store = store }

  /// From the cache, or loaded and verified (three signatures).
  func device(_ kid: Kid) throws(ErrorCode) -> KnownDevice? {
    let (cached, generation) = state.withLock { ($0.devices[kid], $0.generation) }
    if let cached { return cached }
    do {
      return try remember(store.read { try Self.load(kid, from: $0) }, generation: generation)
    } catch { throw error as? ErrorCode ?? (error as? StoreError)?.code ?? .internalError }
  }

  /// Only from the cache: never blocks.
  func cachedDevice(_ kid: Kid) -> KnownDevice? { state.withLock { $0.devices[kid] } }

  /// Like `device`, inside the commit thread's transaction. What was read there may never come to be, so it
  /// is kept for others after the commit.
  func device(_ kid: Kid, in group: CommitGroup) throws -> KnownDevice? {
    let (cached, generation) = state.withLock { ($0.devices[kid], $0.generation) }
    if let known = cached ?? group.loadedDevices[kid] { return known }
    guard let device = try Self.load(kid, from: group.transaction) else { return nil }
    group.loadedDevices[kid] = device
    group.afterCommit { [self] _ in _ = remember(device, generation: generation) }
    return device
  }

  /// Must follow every change of a client or device, after its commit.
  func forget(_ kids: some Sequence<Kid>) {
    state.withLock { state in
      state.generation += 1
      for kid in kids { state.devices[kid] = nil }
    }
  }

  func peer(_ name: NodeName) -> KnownPeer? { state.withLock { $0.peers[name] } }
  var peers: [KnownPeer] { state.withLock { Array($0.peers.values) } }

  func set(peers: [KnownPeer]) {
    state.withLock { $0.peers = Dictionary(uniqueKeysWithValues: peers.map { ($0.peer.name, $0) }) }
  }

  private func remember(_ device: KnownDevice?, generation: UInt64) -> KnownDevice? {
    guard let device else { return nil }
    state.withLock { state in
      guard state.generation == generation else { return }
      if state.devices.count >= Self.devicesMax { state.devices.removeAll() }
      state.devices[device.certificate.kid] = device
    }
    return device
  }

  private static func load(_ kid: Kid, from snapshot: StoreSnapshot) throws -> KnownDevice? {
    guard let row = try snapshot.device(kid), let client = try snapshot.client(row.address) else {
      return nil
    }
    do {
      let certificate = try DeviceCertificate(verifying: row.certificate)
      let list = try DeviceList(verifying: client.list)
      guard certificate.body.identity == client.identity, list.body.identity == client.identity else {
        throw ErrorCode.damagedRow
      }
      return try KnownDevice(
        certificate: certificate, list: list.body, home: client.home, isDisabled: client.isDisabled,
        mailbox: row.mailbox,
        workQueue: client.mode == .one && client.home == 0
          ? snapshot.mailbox(.workQueue, owner: Array(client.address.text.utf8)) : nil)
    } catch is CredentialError { throw ErrorCode.damagedRow }
  }
}
