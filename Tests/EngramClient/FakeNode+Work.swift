import EngramCore
import EngramCrypto
import Synchronization

@testable import EngramClient

/// Leases of a node in memory: no clock, no order but that of arrival.
struct FakeWork {
  struct Key: Hashable {
    let kid: Kid
    let seq: UInt64
  }

  struct Lease {
    let token: UInt64
    let byConnection: Bool
  }

  var mode = QueueMode.each
  /// When the mode was last changed.
  var changedMs: UInt64 = 0
  var lastToken: UInt64 = 0
  var leases: [Key: Lease] = [:]
  var failures: [Key: UInt32] = [:]
  var deadLetters: [MailboxItem] = []
  /// Every settlement that was heard, in order.
  var heard: [Settlement] = []
  /// How many settlements each frame or request had.
  var frames: [Int] = []
  /// Frames wait, unheard, until they are released.
  var holdsFrames = false
  var heldFrames: [(request: UInt32, settlements: [Settlement], kid: Kid)] = []
  /// Settlements to be lost together with their connection.
  var settlementsToLose = 0

  func isLeased(_ kid: Kid, _ seq: UInt64) -> Bool { leases[Key(kid: kid, seq: seq)] != nil }

  /// Gives out what nobody holds, certificates before it.
  mutating func lease(
    _ box: [MailboxItem], _ kid: Kid, inHandMax: Int, byConnection: Bool
  ) -> [MailboxItem] {
    var items: [MailboxItem] = []
    var count = leases.count { $0.key.kid == kid && $0.value.byConnection == byConnection }
    for item in box {
      if item.kind == .certificate { items.append(item) }
      guard item.kind == .envelope, !isLeased(kid, item.seq), count < inHandMax else { continue }
      lastToken += 1
      count += 1
      let key = Key(kid: kid, seq: item.seq)
      leases[key] = Lease(token: lastToken, byConnection: byConnection)
      let leased = LeasedEnvelope(
        token: lastToken, attempt: (failures[key] ?? 0) + 1, leaseMs: byConnection ? 0 : 30_000,
        envelope: item.payload)
      items.append(MailboxItem(kind: .leased, seq: item.seq, payload: leased.encoded()))
    }
    return items
  }

  mutating func endConnections(of kid: Kid? = nil) {
    leases = leases.filter { !$0.value.byConnection || kid != nil && $0.key.kid != kid }
  }
}

extension FakeNode {
  /// The client has closed a connection, which may not be its newest.
  func end(_ number: Int, of kid: Kid) {
    state.withLock { state in
      guard state.live[kid]?.number == number else { return }
      state.live[kid] = nil
      state.work.endConnections(of: kid)
    }
  }

  /// Ends every lease, as when their time is up.
  func endLeases() {
    state.withLock { state in
      for key in state.work.leases.keys { state.work.failures[key, default: 0] += 1 }
      state.work.leases = [:]
      for kid in state.live.keys { Self.push(kid, &state) }
    }
  }

  func lease(_ request: NodeRequest) -> NodeReply {
    guard let kid = kid(of: request) else { return problem(401, .sessionExpired) }
    let max = request.path.split(separator: "&").first { $0.hasPrefix("max=") }.flatMap {
      Int($0.dropFirst(4))
    }
    let items = state.withLock { state in
      let inHand = state.work.leases.count { $0.key.kid == kid && !$0.value.byConnection }
      return state.work.lease(
        state.boxes[kid] ?? [], kid, inHandMax: inHand + (max ?? 1), byConnection: false)
    }
    guard items.contains(where: { $0.kind == .leased }) else { return NodeReply(status: 204, body: []) }
    return NodeReply(status: 200, body: MailboxItem.encode(items))
  }

  func settle(_ request: NodeRequest) -> NodeReply {
    guard let kid = kid(of: request), let settlements = try? Settlement.decode(request.body[...]),
      let outcomes = settle(settlements, kid)
    else { return problem(400, .malformed) }
    return NodeReply(status: 200, body: ItemOutcome.encode(outcomes))
  }

  func queue(_ method: String, _ request: NodeRequest) -> NodeReply {
    let (mode, changedMs) = state.withLock { state in
      if method == "PUT" {
        state.work.mode = String(decoding: request.body, as: UTF8.self).contains("one") ? .one : .each
      }
      return (state.work.mode, state.work.changedMs)
    }
    return json(
      200,
      """
      {"mode":"\(mode.name)","changed_ms":\(changedMs),"waiting":1,"held":2,"leased":3,"consumers":4}
      """)
  }

  /// A frame of settlements came over a connection.
  func settle(_ request: UInt32, _ settlements: [Settlement], _ kid: Kid) {
    let isHeld = state.withLock { state in
      if state.work.holdsFrames { state.work.heldFrames.append((request, settlements, kid)) }
      return state.work.holdsFrames
    }
    guard !isHeld, let outcomes = settle(settlements, kid) else { return }
    let reply = RealtimeFrame.outcomes(request: request, outcomes).encoded()
    state.withLock { state in _ = state.live[kid]?.continuation.yield(reply) }
  }

  func releaseFrames() {
    let held = state.withLock { state in
      state.work.holdsFrames = false
      defer { state.work.heldFrames = [] }
      return state.work.heldFrames
    }
    for frame in held { settle(frame.request, frame.settlements, frame.kid) }
  }

  /// - Returns: nil when the connection ended before anything was heard.
  func settle(_ settlements: [Settlement], _ kid: Kid) -> [ItemOutcome]? {
    state.withLock { $0.work.frames.append(settlements.count) }
    let isLost = state.withLock { state in
      defer { state.work.settlementsToLose = max(0, state.work.settlementsToLose - 1) }
      return state.work.settlementsToLose > 0
    }
    if isLost {
      dropConnections()
      return nil
    }
    return settlements.map { settle($0, kid) }
  }

  private func settle(_ settlement: Settlement, _ kid: Kid) -> ItemOutcome {
    let key = FakeWork.Key(kid: kid, seq: settlement.seq)
    let isLive = state.withLock { state in
      state.work.heard.append(settlement)
      return state.work.leases[key]?.token == settlement.token
    }
    guard isLive else { return ItemOutcome(.refused, code: .leaseLost) }
    if case .ack(let receipt) = settlement.verb {
      let outcome = acknowledge(MailboxAck(seq: settlement.seq, receipt: receipt), kid, underLease: true)
      state.withLock { $0.work.leases[key] = nil }
      return outcome
    }
    state.withLock { state in
      switch settlement.verb {
      case .ack, .renew: return
      case .nack: state.work.failures[key, default: 0] += 1
      case .reject:
        let index = state.boxes[kid]?.firstIndex { $0.seq == settlement.seq && $0.kind == .envelope }
        if let item = index.flatMap({ state.boxes[kid]?.remove(at: $0) }) {
          state.work.deadLetters.append(item)
        }
      }
      state.work.leases[key] = nil
      Self.push(kid, &state)
    }
    return ItemOutcome(.accepted)
  }
}
