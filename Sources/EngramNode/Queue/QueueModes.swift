package import EngramCore
internal import EngramCrypto
internal import EngramStore
internal import Logging

/// A device's view of its queue.
package struct QueueState: Equatable, Sendable {
  package let mode: QueueMode
  /// Ready, and in nobody's hands.
  package let waiting: Int
  package let held: Int
  package let leased: Int
  package let consumers: Int
  /// When the mode was last changed; 0 when it never was.
  package var changedMs: UInt64 = 0
}

// How the devices of a client share what comes in. The mode changes at once for what comes; what waits
// already is moved over in small steps, and a restart in between goes on with them.

extension Node {
  package func queueState(_ session: ClientSession) throws(ErrorCode) -> QueueState {
    let mailbox = try workMailbox(session)
    let (counts, changed) = try reading {
      (try $0.queueCounts(mailbox), try $0.value(Self.modeChangedKey(session.address)))
    }
    let load = dispatcher.load(mailbox)
    return QueueState(
      mode: mailbox == session.mailbox ? .each : .one, waiting: max(0, counts.ready - load.leased),
      held: counts.held, leased: load.leased, consumers: load.consumers,
      changedMs: (changed ?? []).reduce(0) { $0 << 8 | UInt64($1) })
  }

  private static func modeChangedKey(_ address: Address) -> String { "mode-changed/\(address.text)" }

  /// Refused with `wrong-mode` while anybody takes work from, or holds anything of, this client's mailboxes.
  /// The completion comes when everything that waited has been moved.
  package func setQueueMode(
    _ mode: QueueMode, _ session: ClientSession, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let address = session.address
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        guard let client = try group.transaction.client(address) else { throw ErrorCode.notFound }
        let devices = try group.transaction.devices(of: address)
        let queue = try group.transaction.createMailbox(.workQueue, owner: Array(address.text.utf8))
        guard ([queue] + devices.compactMap(\.mailbox)).allSatisfy({ !dispatcher.isBusy($0) }) else {
          throw ErrorCode.wrongMode
        }
        if client.mode != mode {
          try group.transaction.setQueueMode(address, mode)
          try group.transaction.setValue(bigEndianBytes(group.nowMs), for: Self.modeChangedKey(address))
          group.audit(AuditLeaf(.modeChanged, atMs: group.nowMs, actor: address.text, recipient: mode.name))
        }
        group.afterCommit { [self] _ in
          roster.forget(devices.map(\.kid))
          moveWaiting(of: address, completion: completion)
        }
      } refused: {
        completion($0)
      })
  }

  /// Moves that a stop may have cut short.
  func resumeModeChanges() {
    guard let queues = try? reading({ try $0.mailboxes(.workQueue) }) else { return }
    for queue in queues {
      guard let address = try? Address(queue.owner[...]) else { continue }
      moveWaiting(of: address) { [log] code in
        if code != .none { log.warning("a queue was not moved", metadata: ["code": "\(code.name)"]) }
      }
    }
  }

  /// Rows moved in one command.
  private static let movedPerCommand = 200

  private func moveWaiting(of address: Address, completion: @escaping @Sendable (ErrorCode) -> Void) {
    commitLoop.submit(
      CommitCommand(weight: Self.movedPerCommand) { [self] group in
        let owner = Array(address.text.utf8)
        guard let client = try group.transaction.client(address),
          let queue = try group.transaction.mailbox(.workQueue, owner: owner)
        else {
          group.afterCommit { _ in completion(.none) }
          return
        }
        let devices = try group.transaction.devices(of: address)
        let moved =
          switch client.mode {
          case .one: try gather(devices, into: queue, group)
          case .each: try spread(queue, over: devices, group)
          }
        group.afterCommit { [self] _ in
          if moved < Self.movedPerCommand {
            completion(.none)
          } else {
            moveWaiting(of: address, completion: completion)
          }
        }
      } refused: {
        completion($0)
      })
  }

  /// Copies of one message that wait for several devices become one row for all of them.
  private func gather(_ devices: [DeviceRow], into queue: Int64, _ group: CommitGroup) throws -> Int {
    var moved = 0
    for device in devices {
      guard let mailbox = device.mailbox, moved < Self.movedPerCommand else { continue }
      let limit = Self.movedPerCommand - moved
      for row in try group.transaction.listDeliveries(mailbox, after: 0, limit: limit) {
        moved += 1
        let same = try group.transaction.places(of: row.info).first { $0.mailbox == queue }
        guard let same else {
          try move(row.place, to: queue, slots: row.place.slots, kids: [device.kid], row.info, group)
          continue
        }
        _ = try group.transaction.removeDelivery(mailbox, seq: row.place.seq)
        group.note(.gone(mailbox: mailbox, seq: row.place.seq))
        // Whoever has it in hand already does it for both.
        guard dispatcher.withdraw(queue, seq: same.seq) else { continue }
        group.onUndo { [dispatcher] in dispatcher.restore(queue, seq: same.seq) }
        var both = same.place
        // Slots and devices stand in the same order.
        let slots = both.slots + row.place.slots
        let kids = (both.kids ?? []) + [device.kid]
        let order = slots.indices.sorted { slots[$0] < slots[$1] }
        (both.slots, both.kids) = (order.map { slots[$0] }, order.map { kids[$0] })
        _ = try group.transaction.moveDelivery(queue, seq: both.seq, to: both)
        group.note(.gone(mailbox: queue, seq: both.seq))
        if let entry = readyEntry(both) { group.note(.ready(mailbox: queue, entry)) }
      }
      freshRows.forget(mailbox)
    }
    return moved
  }

  /// Each device that can open a message gets a copy of its own.
  private func spread(_ queue: Int64, over devices: [DeviceRow], _ group: CommitGroup) throws -> Int {
    let mailboxes = Dictionary(
      devices.compactMap { device in device.mailbox.map { (device.kid, $0) } },
      uniquingKeysWith: { a, _ in a })
    let rows = try group.transaction.listDeliveries(queue, after: 0, limit: Self.movedPerCommand)
    for row in rows {
      let targets = zip(row.place.slots, row.place.kids ?? []).compactMap { slot, kid in
        mailboxes[kid].map { (slot: slot, mailbox: $0) }
      }
      for target in targets.dropFirst() {
        var copy = row.place
        (copy.mailbox, copy.slots, copy.kids) = (target.mailbox, [target.slot], nil)
        copy.seq = try group.nextSeq(target.mailbox)
        try group.transaction.addDelivery(copy)
        group.putUnseen(in: target.mailbox)
        if let entry = readyEntry(copy) { group.note(.ready(mailbox: target.mailbox, entry)) }
      }
      if let first = targets.first {
        try move(row.place, to: first.mailbox, slots: [first.slot], kids: nil, row.info, group)
      } else {
        _ = try group.transaction.removeDelivery(queue, seq: row.place.seq)
        group.note(.gone(mailbox: queue, seq: row.place.seq))
      }
    }
    return rows.count
  }

  private func move(
    _ place: DeliveryPlace, to mailbox: Int64, slots: [Int], kids: [Kid]?, _ info: MessageInfo,
    _ group: CommitGroup
  ) throws {
    var next = place
    (next.mailbox, next.slots, next.kids) = (mailbox, slots, kids)
    next.seq = try group.nextSeq(mailbox)
    _ = try group.transaction.moveDelivery(place.mailbox, seq: place.seq, to: next)
    group.putUnseen(in: mailbox)
    group.note(.gone(mailbox: place.mailbox, seq: place.seq))
    if let entry = readyEntry(next) { group.note(.ready(mailbox: mailbox, entry)) }
  }

  private func readyEntry(_ place: DeliveryPlace) -> ReadyEntry? {
    place.rank.map {
      ReadyEntry(key: ReadyKey(rank: $0, seq: place.seq), attempt: place.attempt, kids: place.kids)
    }
  }
}
