internal import EngramCore
internal import EngramStore
internal import Logging
import Synchronization

/// Deliveries that were handed out for the first time, under a lease or to a reader, and whose senders have
/// not been told yet. Most are settled before it is time, and then the device's own receipt says more.
final class DeliveredBatch: Sendable {
  struct Entry: Sendable {
    let mailbox: Int64
    let seq: UInt64
    let address: Address
    let kid: Kid
    /// Told only while the lease lasts; what was read stays read.
    let isLeased: Bool
    let dueMs: UInt64
  }
  /// A sender that is not told of a delivery learns of its end all the same.
  private static let entriesMax = 100_000
  /// Those that were settled meanwhile included: about 30 MB.
  private static let lineMax = 300_000

  private struct Key: Hashable {
    let mailbox: Int64
    let seq: UInt64
  }
  private struct State {
    /// In the order of `dueMs`; entries that were settled meanwhile are missing in `open`.
    var line: [Entry] = []
    var head = 0
    var open: Set<Key> = []
  }
  private let state = Mutex(State())

  func add(_ entries: [Entry]) {
    guard !entries.isEmpty else { return }
    state.withLock { state in
      for entry in entries
      where state.open.count < Self.entriesMax && state.line.count - state.head < Self.lineMax {
        if state.open.insert(Key(mailbox: entry.mailbox, seq: entry.seq)).inserted {
          state.line.append(entry)
        }
      }
    }
  }

  func settled(_ mailbox: Int64, seqs: some Sequence<UInt64>) {
    state.withLock { state in
      guard !state.open.isEmpty else { return }
      for seq in seqs { state.open.remove(Key(mailbox: mailbox, seq: seq)) }
    }
  }

  func due(nowMs: UInt64) -> [Entry] {
    state.withLock { state in
      var due: [Entry] = []
      while state.head < state.line.count, state.line[state.head].dueMs <= nowMs {
        let entry = state.line[state.head]
        state.head += 1
        if state.open.remove(Key(mailbox: entry.mailbox, seq: entry.seq)) != nil { due.append(entry) }
      }
      if state.head == state.line.count || state.head > 1_024 && state.head * 2 > state.line.count {
        state.line.removeFirst(state.head)
        state.head = 0
      }
      return due
    }
  }
}

extension Node {
  /// Statements in one command, so that other commits do not wait long.
  private static let deliveredPerCommand = 200

  /// Tells the senders of what devices have had in hand for a while that their messages have arrived.
  func tellDelivered() {
    var due = delivered.due(nowMs: clock.monotonicMs())[...]
    while !due.isEmpty {
      let part = Array(due.prefix(Self.deliveredPerCommand))
      due = due.dropFirst(part.count)
      commitLoop.submit(
        CommitCommand(weight: part.count) { [self] group in
          var statements = StatementBatch()
          for entry in part { try tellDelivered(entry, &statements, in: group) }
          try statements.write(by: self, in: group)
        } refused: { [log] code in
          log.warning("delivered receipts were not committed", metadata: ["code": "\(code.name)"])
        })
    }
  }

  private func tellDelivered(
    _ entry: DeliveredBatch.Entry, _ statements: inout StatementBatch, in group: CommitGroup
  ) throws {
    if entry.isLeased {
      // Settled, or returned, between its turn and this commit.
      guard dispatcher.holder(entry.mailbox, of: entry.seq)?.kid == entry.kid else { return }
    } else {
      guard let place = try group.transaction.place(entry.mailbox, seq: entry.seq), !place.isShown else {
        return
      }
    }
    guard let row = try group.transaction.delivery(entry.mailbox, seq: entry.seq),
      // Its end is what comes next.
      row.expiresMs > group.nowMs,
      let header = try? UnverifiedEnvelope(parsing: row.bytes).header
    else { return }
    if !entry.isLeased { try group.transaction.markShown(entry.mailbox, seq: entry.seq) }
    statements.add(
      ReceiptBody(
        // Only the recipient's node can know it, whether or not it is the sender's as well.
        role: .recipientNode, issuerName: identity.name.text, issuerKey: identity.id.key,
        envelope: row.envelopeID, sender: row.sender, senderKid: row.senderKid, messageID: header.messageID,
        recipient: entry.address, recipientKid: entry.kid, state: .delivered, attempt: row.place.attempt,
        atMs: group.nowMs))
    group.audit(
      AuditLeaf(
        .delivered, atMs: group.nowMs, actor: identity.name.text, envelope: row.envelopeID,
        recipient: entry.address.text))
  }
}

/// Our own statements about several messages, signed together and sent home together.
struct StatementBatch {
  private var bodies: [ReceiptBody] = []

  mutating func add(_ body: ReceiptBody) { bodies.append(body) }

  func write(by node: Node, in group: CommitGroup) throws {
    guard !bodies.isEmpty else { return }
    var notices = NoticeBatch(node)
    for (body, receipt) in zip(bodies, node.signed(bodies)) {
      guard let home = try node.homeMailbox(of: body.sender, kid: body.senderKid, in: group) else { continue }
      notices.add(receipt, to: home)
    }
    try notices.write(in: group)
  }
}
