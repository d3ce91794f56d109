package import EngramCore
internal import EngramStore
import Synchronization

/// What a poll asks for.
package struct LeaseRequest: Equatable, Sendable {
  package var maxCount: Int
  package var maxBytes: Int
  /// `Limits.visibilityMsMin` to `Limits.visibilityMsMax`.
  package var visibilityMs: UInt64

  package init(maxCount: Int, maxBytes: Int, visibilityMs: UInt64 = Limits.visibilityMsDefault) {
    (self.maxCount, self.maxBytes, self.visibilityMs) = (maxCount, maxBytes, visibilityMs)
  }
}

// Giving out work. A message that is given out is leased, and nothing is written: `MailboxQueue` remembers
// it. Everything here blocks on reads of the store, so it belongs on a thread that may.

extension Node {
  /// The mailbox that a device takes work from: its own, or the one that all devices of its client share.
  func workMailbox(_ session: ClientSession) throws(ErrorCode) -> Int64 {
    try roster.device(session.kid)?.workQueue ?? session.mailbox
  }

  /// Called after every commit that made work for this device, on the commit thread.
  package func watchWork(_ session: ClientSession, _ onWork: @escaping @Sendable () -> Void) -> Watch {
    mailboxWatches.add((try? workMailbox(session)) ?? session.mailbox, onWork)
  }

  /// Leases what is ready, in the order of work, for a poll. Empty when there is nothing. Senders'
  /// certificates come before the first envelope that needs them.
  package func lease(
    _ session: ClientSession, _ request: LeaseRequest, knownSenders: inout KnownSenders
  ) throws(ErrorCode) -> [MailboxItem] {
    guard (Limits.visibilityMsMin...Limits.visibilityMsMax).contains(request.visibilityMs),
      request.maxCount > 0
    else { throw .nonCanonical }
    let mailbox = try workMailbox(session)
    // What was in view may turn out to have run out; then the next is looked at.
    for _ in 0..<Self.roundsMax {
      var leases = dispatcher.lease(
        mailbox, kid: session.kid, maxCount: request.maxCount, visibilityMs: request.visibilityMs)
      if leases.isEmpty {
        guard try refill(mailbox, forPoll: true) else { return [] }
        leases = dispatcher.lease(
          mailbox, kid: session.kid, maxCount: request.maxCount, visibilityMs: request.visibilityMs)
      }
      let found = try handOut(leases, of: mailbox, session, maxBytes: request.maxBytes, &knownSenders) {
        dispatcher.putBack(mailbox, $0)
      }
      if !found.isEmpty { return found }
    }
    return []
  }

  /// Rounds of looking for work before a caller is told that there is none; each passes over what cannot be
  /// given out any more.
  private static let roundsMax = 64

  /// Makes a consumer of this connection. `onWork` is called on any thread when `Consumer.take` may have
  /// something; it must not block and must not call back.
  package func consume(
    _ session: ClientSession, _ request: ConsumeRequest, onWork: @escaping @Sendable () -> Void
  ) throws(ErrorCode) -> Consumer {
    let problem = request.problem
    guard problem == .none else { throw problem }
    let mailbox = try workMailbox(session)
    return Consumer(
      node: self, session: session, mailbox: mailbox,
      id: try dispatcher.join(mailbox, kid: session.kid, request, onWork: onWork).get())
  }

  /// Assigns what is in view and reads on until nobody with room is left, or nothing more is there.
  func pump(_ mailbox: Int64) throws(ErrorCode) {
    for _ in 0..<Self.roundsMax { guard try refill(mailbox, forPoll: false) else { return } }
  }

  /// - Returns: false when there was nothing to read.
  private func refill(_ mailbox: Int64, forPoll: Bool) throws(ErrorCode) -> Bool {
    guard let (from, ticket) = dispatcher.beginRefill(mailbox, forPoll: forPoll) else { return false }
    let limit = dispatcher.refillMax
    do throws(ErrorCode) {
      let rows = try reading {
        try $0.readyDeliveries(mailbox, fromRank: from.rank, seq: from.seq, limit: limit + 1)
      }
      let entries = rows.prefix(limit).map { row in
        ReadyEntry(key: ReadyKey(rank: row.rank, seq: row.seq), attempt: row.attempt, kids: row.kids)
      }
      dispatcher.finishRefill(mailbox, ticket: ticket, entries, isEnd: rows.count <= limit)
      return true
    } catch {
      dispatcher.finishRefill(mailbox, ticket: ticket, nil, isEnd: false)
      throw error
    }
  }

  /// Reads what was leased. Rows that are gone, held or expired by now are let go; those that do not fit into
  /// `maxBytes` are `returned`.
  fileprivate func handOut(
    _ leases: [Lease], of mailbox: Int64, _ session: ClientSession, maxBytes: Int,
    _ knownSenders: inout KnownSenders, returned: ([Lease]) -> Void
  ) throws(ErrorCode) -> [MailboxItem] {
    guard !leases.isEmpty else { return [] }
    let rows: [DeliveryRow]
    do throws(ErrorCode) {
      rows = try readingRows(mailbox) {
        try $0.deliveries(mailbox, seqs: leases.map(\.seq), maxBytes: maxBytes)
      }
    } catch {
      returned(leases)
      throw error
    }
    let now = clock.nowMs()
    var items: [MailboxItem] = []
    var told: [DeliveredBatch.Entry] = []
    var rest = rows[...]
    for (index, lease) in leases.enumerated() {
      guard let row = rest.first, row.seq == lease.seq else {
        // What follows the last row did not fit, unless nothing was found at all.
        if rest.isEmpty, !rows.isEmpty {
          returned(Array(leases[index...]))
          break
        }
        dispatcher.forget(mailbox, seq: lease.seq)
        continue
      }
      rest = rest.dropFirst()
      guard row.expiresMs > now, row.place.rank != nil else {
        dispatcher.forget(mailbox, seq: lease.seq)
        continue
      }
      if let item = try certificate(row.senderKid, beyond: &knownSenders) {
        items.append(MailboxItem(kind: .certificate, seq: 0, payload: item.encoded()))
      }
      items.append(MailboxItem(kind: .leased, seq: row.seq, payload: payload(of: lease, row)))
      if row.place.attempt == 0, !row.place.isShown {
        told.append(
          DeliveredBatch.Entry(
            mailbox: mailbox, seq: row.seq, address: session.address, kid: session.kid, isLeased: true,
            dueMs: clock.monotonicMs() + settings.deliveredAfterMs))
      }
    }
    delivered.add(told)
    return items
  }

  private func payload(of lease: Lease, _ row: DeliveryRow) -> [UInt8] {
    LeasedEnvelope(
      token: lease.token, attempt: row.place.attempt &+ 1, leaseMs: UInt32(clamping: lease.visibilityMs),
      envelope: row.bytes
    ).encoded()
  }
}

/// A connection that takes work. What it holds when it is cancelled, or forgotten, goes to the others.
package final class Consumer: Sendable {
  private let node: Node
  private let session: ClientSession
  private let mailbox: Int64
  let id: ConsumerID
  private let isGone = Flag()

  init(node: Node, session: ClientSession, mailbox: Int64, id: ConsumerID) {
    (self.node, self.session, self.mailbox, self.id) = (node, session, mailbox, id)
  }

  /// What was assigned to this consumer, as far as it fits, at least one if there is any; senders'
  /// certificates before the first envelope that needs them. A blocking read.
  package func take(
    maxCount: Int, maxBytes: Int, knownSenders: inout KnownSenders
  ) throws(ErrorCode) -> [MailboxItem] {
    while !isGone.isSet {
      try node.pump(mailbox)
      let leases = node.dispatcher.take(mailbox, id, maxCount: maxCount)
      guard !leases.isEmpty else { return [] }
      let items = try node.handOut(leases, of: mailbox, session, maxBytes: maxBytes, &knownSenders) {
        node.dispatcher.giveBack(mailbox, $0, to: id)
      }
      if !items.isEmpty { return items }
    }
    return []
  }

  /// - Parameter isOrderly: one side said goodbye; without that, what it holds may count as failed attempts.
  package func cancel(isOrderly: Bool = false) {
    guard !isGone.isSet else { return }
    isGone.isSet = true
    let ending = node.dispatcher.leave(mailbox, id, isOrderly: isOrderly)
    node.endLeases(ending, in: mailbox, code: .leaseLost)
    // Polls may be waiting for what this one gave up.
    node.mailboxWatches.call([mailbox])
  }

  deinit { cancel() }
}
