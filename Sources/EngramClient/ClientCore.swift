internal import Dispatch
internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
internal import EngramSealing
internal import Synchronization

/// Bounds of the client's behaviour, with their reasons.
enum ClientLimits {
  /// Envelopes sealed in one transaction: the home's lock is held for about 20 ms, and one fsync pays for
  /// all.
  static let sealedPerCommit = 200
  /// Bytes of one POST: a request that fails is sent again whole.
  static let postBytes = 8 << 20
  /// Items that one GET asks for, and the credit of a live connection: as many as a node gives at once, since
  /// each answer costs three fsyncs until all of it is settled.
  static let itemsPerFetch = 256
  static let liveCredit = 256
  /// Messages among which the most urgent are chosen unless the caller says otherwise: one answer of a node.
  static let chosenAmong = itemsPerFetch
  /// Bytes that are fetched, and bodies that are in memory, before the first of them is handed out.
  static let gatheredBytes = 16 << 20
  /// Longest poll the node holds.
  static let pollSecondsMax = 20
  /// First and longest wait before a live connection is tried again; drawn between zero and the current one.
  static let reconnectMs = 250
  static let reconnectMsMax = 30_000
  /// Between two looks at the reader's lock.
  static let receiverPollMs = 50
  /// How often a client looks after prekeys and the outbox.
  static let maintenanceSeconds = 600
  /// Members of a topic, or clients of a node, that one message is sealed for; each costs a look-up.
  static let addressesMax = 100_000
  /// Templates of one organisation, each of at most 320 KiB, that are listed at once.
  static let templatesMax = 10_000
  /// Between two looks at what is to be repeated: how late a schedule may be that was added a moment ago.
  static let scheduleLookMsMax: UInt64 = 5_000
  /// Entries of one page of a listing.
  static let pageMax = 200
  /// Messages of one thread that are put in order at once.
  static let threadMax = 10_000
  /// Candidates that one page of a search looks at before it answers with what it has.
  static let searchRowsMax = 5_000
}

/// What the parts of a client share: every member is immutable or guards itself.
final class ClientCore: Sendable {
  let store: ClientStore
  let account: AccountRow
  let device: SigningKey
  /// Signs this client's devices and their lists; nil in the homes of further devices.
  let identity: SigningKey?
  let api: NodeAPI
  let nowMs: @Sendable () -> UInt64
  let credentials = CredentialCache()
  private let live = Mutex<LiveLink?>(nil)
  private let lastMaintenanceMs = Mutex<UInt64?>(nil)
  /// One at a time looks after last values, so that nobody is sent one twice.
  let isServing = Atomic<Bool>(false)
  let servedRetained = Atomic<Bool>(false)
  /// Members of a topic with a last value have changed since it was last looked after.
  let hasNews = Atomic<Bool>(false)
  let stubTurns = Mutex(StubTurns())
  private let queue = DispatchQueue(label: "engram.client.store")

  init(
    store: ClientStore, account: AccountRow, keys: ClientKeys, transport: NodeTransport, clock: ClientClock
  ) {
    (self.store, self.account, nowMs) = (store, account, { clock.nowMs() })
    (device, identity) = (keys.device, keys.identity)
    api = NodeAPI(
      transport: transport, address: account.address, device: device, node: account.nodeID, clock: clock)
  }

  /// With a clock that is followed wherever it goes.
  convenience init(
    store: ClientStore, account: AccountRow, keys: ClientKeys, transport: NodeTransport,
    nowMs: @escaping @Sendable () -> UInt64
  ) {
    self.init(
      store: store, account: account, keys: keys, transport: transport,
      clock: ClientClock(wall: nowMs, monotonic: nowMs))
  }

  /// The open live connection, if there is one: requests go over it rather than over one of their own.
  var liveLink: LiveLink? { live.withLock { $0 } }

  func use(_ link: LiveLink) { live.withLock { $0 = link } }

  /// Forgets a link that ended, unless another one has taken its place.
  func drop(_ link: LiveLink) { live.withLock { if $0 === link { $0 = nil } } }

  /// One durable transaction, off the threads that run Swift tasks: it waits for the disk and for other
  /// commands.
  func commit<T: Sendable>(_ body: @escaping @Sendable (ClientTransaction) throws -> T) async throws -> T {
    try await offThread { [store] in try store.write(body) }
  }

  func read<T: Sendable>(_ body: @escaping @Sendable (ClientSnapshot) throws -> T) async throws -> T {
    try await offThread { [store] in try store.read(body) }
  }

  func offThread<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Result { try work() }) }
    }
  }

  /// `maintain`, unless that was done a short while ago: it costs an fsync. What fails is tried again next
  /// time.
  func maintainIfDue() async {
    let now = nowMs()
    let isDue = lastMaintenanceMs.withLock { last in
      last.map { now >= $0 + UInt64(ClientLimits.maintenanceSeconds) * 1_000 } ?? true
    }
    guard isDue else { return }
    do { try await maintain() } catch { lastMaintenanceMs.withLock { $0 = nil } }
  }

  /// Keeps what others need to believe and reach this device from running out: its prekey and the device
  /// list. Nothing is made, forgotten or erased by a clock that the node has not taken for right: one command
  /// under a clock that is a year ahead would erase what everybody seals to.
  func maintain() async throws {
    lastMaintenanceMs.withLock { $0 = nowMs() }
    try await api.confirmClock()
    var failure: (any Error)?
    for step in [renewPrekey, renewDeviceList] {
      // What goes wrong with one must not let the other run out.
      do { try await step() } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
  }

  /// Replaces the signed prekey when it is a day old, publishes one that is not, and erases what has run out.
  /// The secret is on the disk before the node hears of the key.
  private func renewPrekey() async throws {
    let (now, account, device) = (nowMs(), account, device)
    let current = try await commit { rows -> PrekeyRow? in
      try rows.purgeIfDue(nowMs: now)
      if let newest = try rows.newestSignedPrekey(startedBy: now + Limits.clockSkewMs),
        now < newest.notBeforeMs + ClientStoreLimits.prekeyRotationMs
      {
        return newest
      }
      _ = try rows.makeSignedPrekey(
        account.address, device: device, acceptedTTLMs: account.acceptedTTLMs, nowMs: now)
      return try rows.newestSignedPrekey(startedBy: now)
    }
    guard let current, !current.isPublished else { return }
    try await api.putPrekey(current.certified)
    try await commit { try $0.markPrekeyPublished(current.id) }
  }

  // MARK: Directory

  /// The devices of an address that can be sealed for, from an answer at most an hour old; when the node
  /// cannot give a newer one, from the last known answer while its prekeys last.
  func sealableDevices(of address: Address, fresh: Bool = false) async throws -> [SealableDevice] {
    let now = nowMs()
    let cached = try await read { rows in
      try rows.directoryAnswer(address).map { (answer: $0, pins: try rows.directoryPins(for: address)) }
    }
    func cachedDevices() -> [SealableDevice] {
      guard let cached else { return [] }
      let judged = try? judgeDirectoryAnswer(
        cached.answer.bytes, about: address, pins: cached.pins, credentials: credentials, nowMs: now)
      return judged?.devices ?? []
    }
    if !fresh, let cached, now < cached.answer.fetchedMs + ClientStoreLimits.directoryFreshMs {
      let devices = cachedDevices()
      if !devices.isEmpty { return devices }
    }
    do {
      let devices = try await lookup(address).devices
      guard devices.isEmpty else { return devices }
      throw EngramError(
        .unreachable, name: "no-usable-key", "no device of the recipient offers a key that is valid now",
        hint: "the recipient has been away for more than a week; the message waits until it is back")
    } catch let error as EngramError where error.kind == .unreachable {
      let devices = cachedDevices()
      guard devices.isEmpty else { return devices }
      throw error
    }
  }

  /// Asks the directory and judges the answer. What contradicts a pin is noted, and refused.
  func lookup(_ address: Address) async throws -> JudgedAnswer {
    try await take(try await api.directory(address), about: address)
  }

  /// The same for an answer that came on the side of something else.
  func take(_ bytes: [UInt8], about address: Address) async throws -> JudgedAnswer {
    let now = nowMs()
    let judged = try await commit { [credentials] rows -> Result<JudgedAnswer, DirectoryRefusal> in
      let pins = try rows.directoryPins(for: address)
      do throws(DirectoryRefusal) {
        let answer = try judgeDirectoryAnswer(
          bytes, about: address, pins: pins, credentials: credentials, nowMs: now)
        return .success(answer)
      } catch {
        return .failure(error)
      }
    }
    switch judged {
    case .success(let answer):
      try await commit { try $0.adopt(answer, bytes: bytes, nowMs: now) }
      return answer
    case .failure(let refusal):
      try await commit { try $0.note(refusal, about: address, nowMs: now) }
      if refusal == .refused(.unknownRecipient) { throw EngramError(.refused, .unknownRecipient) }
      throw EngramError(.untrusted, refusal.code, hint: Self.hint(refusal, address))
    }
  }

  private static func hint(_ refusal: DirectoryRefusal, _ address: Address) -> String? {
    switch refusal {
    case .identityChanged, .nodeChanged:
      "compare safety numbers over another channel, then `engram trust \(address.text) --approve`"
    case .refused: nil
    }
  }
}

extension ClientTransaction {
  /// Makes and keeps a signed prekey.
  /// - Returns: its signed form for the directory.
  func makeSignedPrekey(
    _ address: Address, device: SigningKey, acceptedTTLMs: UInt64, nowMs: UInt64
  ) throws -> [UInt8] {
    let secret = PrekeySecret()
    let notAfter = nowMs + ClientStoreLimits.prekeyValidityMs
    let certified = secret.certified(
      kind: .signed, address: address, device: device, notBeforeMs: nowMs, notAfterMs: notAfter)
    try insertPrekey(
      secret, kind: .signed, certified: certified, notBeforeMs: nowMs, notAfterMs: notAfter,
      eraseMs: notAfter + acceptedTTLMs)
    return certified
  }
}
