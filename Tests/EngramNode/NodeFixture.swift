import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import EngramStore
import Foundation
import Logging
import Synchronization
import TestSupport

extension ManualClock: Clock {}
extension SeededRandom: RandomSource {}

/// A running node on a temporary store, with a clock that tests turn and blocking versions of its calls.
final class NodeFixture: Sendable {
  let directory: TemporaryDirectory
  let store: Store
  let node: Node
  let clock: ManualClock

  init(
    _ name: String, clock: ManualClock = ManualClock(), directory: TemporaryDirectory? = nil,
    settings: NodeSettings = NodeSettings(), nodeClock: (any Clock)? = nil, fault: CommitFault? = nil,
    onFatal: (@Sendable (ErrorCode) -> Void)? = nil
  ) throws {
    self.clock = clock
    self.directory = try directory ?? TemporaryDirectory()
    var options = StoreOptions()
    if let fault { options.beforeCommit = { () throws(StoreError) in try fault.strike() } }
    store = try Store(path: self.directory.file("node.db"), options: options)
    let identity = try TestNode(name)
    node = try Node(
      identity: NodeIdentity(name: identity.name, key: identity.key), store: store,
      settings: settings, clock: nodeClock ?? clock, random: SystemRandom(),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, onFatal: onFatal)
    node.start()
  }

  /// Two organisations that have pinned each other, under one clock.
  /// - Parameter settings: of the second one.
  static func federation(
    settings: NodeSettings = NodeSettings()
  ) throws -> (acme: NodeFixture, globex: NodeFixture) {
    let clock = ManualClock()
    let acme = try NodeFixture("acme.example", clock: clock)
    let globex = try NodeFixture("globex.example", clock: clock, settings: settings)
    try acme.peer(with: globex)
    return (acme, globex)
  }

  func stop() throws {
    node.stop()
    try store.close()
  }

  /// Waits for a completion that comes on the commit thread.
  func wait<T: Sendable>(_ body: (@escaping @Sendable (T) -> Void) -> Void) -> T {
    let done = DispatchSemaphore(value: 0)
    let box = Mutex<T?>(nil)
    body { value in
      box.withLock { $0 = value }
      done.signal()
    }
    done.wait()
    guard let value = box.withLock({ $0 }) else { preconditionFailure("signalled without a value") }
    return value
  }

  func invite(_ name: String) throws -> [UInt8] {
    let text = try wait { node.invite(name: name, ttlMs: TestTime.hourMs, completion: $0) }.get()
    guard let token = base64URLDecode(text) else { throw CodecError.nonCanonical }
    return token
  }

  /// Invites and registers a device, and opens a session for it.
  func join(_ device: TestDevice) throws -> ClientSession {
    let request = device.registration(node: node.identity.id, invite: try invite(device.address.name))
    _ = try wait { node.register(request.encoded(), completion: $0) }.get()
    return try login(device)
  }

  func login(_ device: TestDevice) throws -> ClientSession {
    let token = device.token(node: node.identity.id, nowMs: clock.nowMs())
    return try wait { node.openSession(token: token, completion: $0) }.get().session
  }

  /// Verifies and accepts one envelope of a client.
  func send(_ bytes: [UInt8], _ session: ClientSession) -> ItemOutcome {
    send([bytes], session)[0]
  }

  func send(_ batch: [[UInt8]], _ session: ClientSession) -> [ItemOutcome] {
    let verified = batch.map { node.verify($0, from: .client(session)) }
    return wait { node.accept(verified, from: session, completion: $0) }
  }

  func items(_ session: ClientSession, after: UInt64 = 0) throws -> [MailboxItem] {
    var known = KnownSenders()
    return try node.items(session, after: after, maxCount: 1_000, maxBytes: 1 << 20, knownSenders: &known)
  }

  func acknowledge(_ acks: [MailboxAck], _ session: ClientSession) -> [ItemOutcome] {
    wait { node.acknowledge(acks, session, completion: $0) }
  }

  /// All receipts that wait in a mailbox, parsed.
  func receipts(_ session: ClientSession) throws -> [UnverifiedReceipt] {
    try items(session).filter { $0.kind == .receipt }.flatMap { item in
      try splitBatch(item.payload[...]).map { try UnverifiedReceipt(parsing: $0) }
    }
  }

  /// Housekeeping, and everything it queued committed.
  func sweep() throws {
    node.sweep()
    _ = wait { (done: @escaping @Sendable (Result<String, ErrorCode>) -> Void) in
      node.invite(name: "flush-\(UInt64.random(in: 0 ... .max))", ttlMs: 1, completion: done)
    }
  }

  /// Carries everything that waits for `other` over, as a link would, once: certificates, envelopes,
  /// acknowledgements. `refusing` is the one reason for which a certificate may be refused.
  func carry(to other: NodeFixture, refusing: ErrorCode? = nil) throws -> [AckFrame.Item] {
    let (here, there) = (node.identity.name, other.node.identity.name)
    let state = try node.linkState(there)
    let rows = try node.outbound(there, after: .start, maxCount: 1_000, maxBytes: 1 << 24).rows
    guard !rows.isEmpty else { return [] }
    for kid in Set(rows.map(\.senderKid)) {
      guard let item = try node.certificate(kid) else { throw ErrorCode.unknownDevice }
      let code = other.wait { other.node.learn(item, from: here, completion: $0) }
      guard code == .none || code == refusing else { throw code }
    }
    let batch = try rows.map { row in
      let bytes = try row.bytes ?? node.outboundBytes(there, seq: row.seq) ?? []
      return other.node.verify(bytes, from: .peer(here))
    }
    let answer: Result<[AckFrame.Item], ErrorCode> = other.wait {
      other.node.acceptFromPeer(
        here, epoch: state.outEpoch, seqs: rows.map(\.seq), batch: batch, completion: $0)
    }
    let items = try answer.get()
    _ =
      wait { (done: @escaping @Sendable (Bool) -> Void) in
        node.settle(there, through: rows.map(\.seq).max() ?? 0, items: items) { done(true) }
      } as Bool
    return items
  }

  /// Carries receipt rows over.
  func carryReceipts(to other: NodeFixture) throws {
    let (here, there) = (node.identity.name, other.node.identity.name)
    let state = try node.linkState(there)
    for row in try node.outboundReceipts(there, after: 0, maxCount: 100) {
      let code = other.wait {
        other.node.acceptReceipts(
          here, epoch: state.outEpoch, seq: row.seq, receipts: row.receipts, completion: $0)
      }
      guard code == .none else { throw code }
      _ =
        wait { (done: @escaping @Sendable (Bool) -> Void) in
          node.settleReceipts(there, through: row.seq) { done(true) }
        } as Bool
    }
  }

  func peer(with other: NodeFixture) throws {
    try node.setPeers([Peer(name: other.node.identity.name, id: other.node.identity.id)])
    try other.node.setPeers([Peer(name: node.identity.name, id: node.identity.id)])
  }
}
