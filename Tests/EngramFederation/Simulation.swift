import EngramCore
import EngramFederation
import EngramNode
import TestSupport
import Testing

/// Two nodes and the link between them, with everything that can go wrong on the way, driven by one seed:
/// work is done late and in different orders, connections are cut with frames in flight, nodes crash and come
/// back with only what they had committed.
final class Simulation {
  private struct Task {
    let side: Int
    let connection: Int
    /// Commits keep their order; reads do not.
    let isCommit: Bool
    let run: () -> [LinkEvent]
  }

  let nodes: [SimulatedNode]
  private var random: SeededGenerator
  private var nowMs = TestTime.startMs
  private var machines: [LinkStateMachine?] = [nil, nil]
  /// `wire[side]` travels away from that side.
  private var wire: [[LinkFrame]] = [[], []]
  private var hasClosed = [false, false]
  private var connection = 0
  private var tasks: [Task] = []
  private var nextMessage: UInt64 = 1
  private(set) var sent: [UInt64: Int] = [:]
  private(set) var withdrawn: Set<UInt64> = []
  private(set) var ends: [ErrorCode] = []
  private(set) var cuts = 0
  private(set) var rollbackReports = 0
  private var isCalm = false

  init(seed: UInt64, deduplicates: Bool = true) throws {
    random = SeededGenerator(seed: seed)
    let pair = try TwoNodes()
    nodes = [
      SimulatedNode(pair.acme, epoch: 100, deduplicates: deduplicates),
      SimulatedNode(pair.globex, epoch: 200, deduplicates: deduplicates),
    ]
  }

  // MARK: - Running

  /// A stormy phase, then a calm one that lets everything arrive.
  func run(steps: Int) {
    for _ in 0..<steps { storm() }
    isCalm = true
    for _ in 0..<200_000 where !isDone { step() }
  }

  var isDone: Bool {
    nodes.allSatisfy { $0.outbox.isEmpty && $0.receiptsOutbox.isEmpty } && tasks.isEmpty
      && wire.allSatisfy(\.isEmpty)
  }

  private func storm() {
    switch random.next() % 100 {
    case 0..<12: enqueue()
    case 12: cut()
    case 13: if chance(4) { crash() }
    case 14: withdraw()
    default: step()
    }
  }

  private func step() {
    if machines[0] == nil || machines[1] == nil { return connect() }
    nowMs += random.next() % 20
    switch random.next() % 10 {
    case 0..<5: deliverFrame()
    case 5..<9: runTask()
    default: for side in 0...1 { tell(side, .ticked) }
    }
    if wire.allSatisfy(\.isEmpty), tasks.isEmpty {
      nowMs += 250
      for side in 0...1 { tell(side, .ticked) }
    }
  }

  private func chance(_ one: UInt64) -> Bool { random.next() % one == 0 }

  private func enqueue() {
    let side = Int(random.next() % 2)
    for _ in 0...(random.next() % 5) {
      let size = chance(60) ? 1_100_000 + Int(random.next() % 300_000) : Int(random.next() % 2_000)
      nodes[side].enqueue(nextMessage, bytes: size)
      sent[nextMessage] = side
      nextMessage += 1
    }
    tell(side, .envelopesAvailable)
  }

  private func withdraw() {
    let side = Int(random.next() % 2)
    let waiting = nodes[side].outbox.count
    guard waiting > 0 else { return }
    withdrawn.insert(nodes[side].withdraw(Int(random.next() % UInt64(waiting))))
  }

  // MARK: - Connections

  private func connect() {
    connection += 1
    (wire, hasClosed) = ([[], []], [false, false])
    let dialler = Int(random.next() % 2)
    let exporter = random.bytes(32)
    var settings = LinkSettings()
    settings.windowMessages = 1 + Int(random.next() % 12)
    settings.windowBytes = 100_000
    for side in 0...1 {
      let peer = nodes[1 - side].identity
      machines[side] = LinkStateMachine(
        LinkConfiguration(
          role: side == dialler ? .dialler : .listener, identity: nodes[side].identity,
          peer: Peer(name: peer.name, id: peer.id), exporter: exporter, settings: settings), nowMs: nowMs)
    }
    for side in 0...1 { tell(side, .opened) }
  }

  private func cut() {
    cuts += 1
    wire = [[], []]
    for side in 0...1 { tell(side, .transportLost) }
    machines = [nil, nil]
  }

  /// Everything that was not committed is gone, commits that were queued included.
  private func crash() {
    let side = Int(random.next() % 2)
    tasks.removeAll { $0.side == side }
    cut()
  }

  private func deliverFrame() {
    let side = Int(random.next() % 2)
    guard !wire[side].isEmpty else {
      if hasClosed[side] { lose(1 - side) }
      return
    }
    tell(1 - side, .received(wire[side].removeFirst()))
  }

  /// The other side closed, and everything it had sent has arrived.
  private func lose(_ side: Int) {
    tell(side, .transportLost)
    machines = [nil, nil]
  }

  private func runTask() {
    guard !tasks.isEmpty else { return }
    var index = Int(random.next() % UInt64(tasks.count))
    if tasks[index].isCommit {
      let side = tasks[index].side
      index = tasks.firstIndex { $0.isCommit && $0.side == side } ?? index
    }
    let task = tasks.remove(at: index)
    let events = task.run()
    guard task.connection == connection else { return }
    for event in events { tell(task.side, event) }
  }

  // MARK: - Actions

  private func tell(_ side: Int, _ event: LinkEvent) {
    guard var machine = machines[side] else { return }
    machines[side] = nil
    var actions = machine.handle(event, nowMs: nowMs)
    while machine.wantsToWrite { actions += machine.handle(.writabilityChanged(true), nowMs: nowMs) }
    machines[side] = machine
    for action in actions { perform(action, side) }
  }

  private func later(
    _ side: Int, isCommit: Bool = false, on link: Int? = nil, _ run: @escaping () -> [LinkEvent]
  ) {
    tasks.append(Task(side: side, connection: link ?? connection, isCommit: isCommit, run: run))
  }

  private func perform(_ action: LinkAction, _ side: Int) {
    let node = nodes[side]
    switch action {
    case .acceptEnvelopes(let batch): accept(batch, side)
    case .acceptReceipts(let ticket, let receipts):
      later(side, isCommit: true) {
        node.acceptReceipts(ticket, receipts)
        return [.receiptsCommitted(ticket, .none)]
      }
    case .answerDirectory, .answerRequest, .resolveLookup, .resolveRequest, .established: break
    case .claim: tell(side, .claimed(.granted(replacedOther: false)))
    case .close(let end):
      hasClosed[side] = true
      if case .closedByUs(let code) = end { ends.append(code) }
    case .learn: later(side, isCommit: true) { [.certificateLearned(.none)] }
    case .loadNumbers: later(side) { [.numbersLoaded(node.linkNumbers)] }
    case .readEnvelopes(let after, let maxCount, let maxBytes): read(side, after, maxCount, maxBytes)
    case .readLarge(let seq): later(side) { [.largeRead(node.bytes(of: seq))] }
    case .readReceipts(let after, let maxCount):
      later(side) { [.receiptsRead(node.receiptsRows(after: after, maxCount: maxCount))] }
    case .redrawEpoch:
      later(side, isCommit: true) {
        node.redrawEpoch()
        return [.epochRedrawn]
      }
    case .reportPeerRollback: rollbackReports += 1
    case .send(let type, let payload):
      wire[side].append(LinkFrame(type: type.rawValue, payload: payload[...]))
    case .settle(let through, let items): settle(through, items, side)
    case .settleReceipts(let through):
      later(side, isCommit: true) {
        node.settleReceipts(through: through); return []
      }
    }
  }

  private func read(_ side: Int, _ after: OutboxCursor, _ maxCount: Int, _ maxBytes: Int) {
    let sent = machines[side]?.certificatesSent ?? [:]
    later(side) { [nodes] in
      let (rows, reached) = nodes[side].rows(after: after, maxCount: maxCount, maxBytes: maxBytes)
      var known = sent
      let fresh = rows.map(\.senderKid).filter { known.updateValue(1, forKey: $0) == nil }
      return [
        .envelopesRead(
          rows, through: reached,
          certificates: fresh.map {
            SenderCertificate(
              kid: $0, listVersion: 1, item: CertificateItem(certificate: [1], deviceList: [2]))
          })
      ]
    }
  }

  private func accept(_ batch: InboundBatch, _ side: Int) {
    let late = isCalm ? 1 << 40 : 1 + random.next() % 50
    later(side) { [weak self, nodes, connection] in
      // The commit answers the link that asked for it, though others may have come since.
      self?.later(side, isCommit: true, on: connection) {
        let items = nodes[side].accept(batch) { $0 % late == late - 1 }
        // Receipts for the sender are new work for this side's link.
        return [.batchCommitted(batch, items), .receiptsAvailable]
      }
      return [.batchVerified]
    }
  }

  private func settle(_ through: UInt64, _ items: [AckFrame.Item], _ side: Int) {
    let receiver = nodes[1 - side]
    let settled = items.filter { $0.outcome != .later }.compactMap { item in
      nodes[side].outbox.first { $0.seq == item.seq }?.message
    }
    // Acknowledged means durable: it must be there at this very moment, whatever happens next.
    for message in settled {
      #expect(receiver.effects[message] != nil, "message \(message) was acknowledged and lost")
    }
    later(side, isCommit: true) { [nodes] in
      nodes[side].settle(through: through, items)
      return [.settled(items.count), .envelopesAvailable]
    }
  }

  // MARK: - Judgement

  /// Messages that did not take effect exactly once, where they were not withdrawn.
  var violations: [UInt64] {
    sent.keys.sorted().filter { message in
      let effects = nodes[1 - (sent[message] ?? 0)].effects[message] ?? 0
      return withdrawn.contains(message) ? effects > 1 : effects != 1
    }
  }

  /// Receipts that did not come home exactly once.
  var receiptViolations: [UInt64] {
    sent.keys.sorted().filter { message in
      let side = sent[message] ?? 0
      return nodes[side].receiptEffects[message] ?? 0 != nodes[1 - side].effects[message] ?? 0
    }
  }
}
