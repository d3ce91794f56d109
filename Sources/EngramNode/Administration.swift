package import EngramCore
internal import EngramCrypto
internal import EngramStore

// What `engram-node admin` asks of the running node.

extension Node {
  /// An invite's lifetime when nobody says otherwise: a working week.
  package static let inviteTTLMsDefault: UInt64 = 7 * 24 * 3_600 * 1_000
  private static let inviteSecretBytes = 24

  /// A one-time invite for a local name; the text is shown once and only its digest is kept.
  package func invite(
    name: String, ttlMs: UInt64, completion: @escaping @Sendable (Result<String, ErrorCode>) -> Void
  ) {
    guard let address = try? Address(name: name, node: identity.name) else {
      return completion(.failure(.nonCanonical))
    }
    let token = InviteToken.make(name: name, secret: random.bytes(Self.inviteSecretBytes))
    commitLoop.submit(
      CommitCommand(weight: 1) { group in
        guard try group.transaction.client(address) == nil else { throw ErrorCode.nameTaken }
        try group.transaction.insertInvite(
          InviteRow(digest: inviteDigest(token), name: name, expiresMs: group.nowMs + ttlMs))
        group.afterCommit { _ in completion(.success(base64URLEncode(token))) }
      } refused: {
        completion(.failure($0))
      })
  }

  package func invites() throws(ErrorCode) -> [InviteSummary] {
    try reading { try $0.invites().map { InviteSummary(name: $0.name, expiresMs: $0.expiresMs) } }
  }

  package func clients() throws(ErrorCode) -> [ClientSummary] {
    try reading { snapshot in
      try snapshot.clients(local: true).map { client in
        let devices = try snapshot.devices(of: client.address)
        return ClientSummary(
          address: client.address, identity: client.identity, devices: devices.map(\.kid),
          isDisabled: client.isDisabled, createdMs: client.createdMs,
          waiting: try devices.reduce(0) { try $0 + ($1.mailbox.map { try snapshot.pendingCount($0) } ?? 0) })
      }
    }
  }

  /// Disables a client: its sessions end at once, and nothing of it is accepted or delivered any more.
  package func disable(_ name: String, completion: @escaping @Sendable (ErrorCode) -> Void) {
    guard let address = try? Address(name: name, node: identity.name) else { return completion(.notFound) }
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        guard try group.transaction.client(address) != nil else { throw ErrorCode.notFound }
        try group.transaction.setDisabled(address, true)
        let kids = try group.transaction.devices(of: address).map(\.kid)
        group.afterCommit { [self] _ in
          roster.forget(kids)
          endSessions(of: kids)
          presence.forget(address)
          completion(.none)
        }
      } refused: {
        completion($0)
      })
  }

  package func status() throws(ErrorCode) -> NodeStatus {
    let counts = try reading { try $0.counts() }
    return NodeStatus(
      name: identity.name, id: identity.id, startedMs: startedMs, messages: counts.messages,
      openDeliveries: counts.openDeliveries, notices: counts.notices, clients: counts.clients,
      devices: counts.devices, sessions: sessions.count, storeBytes: counts.fileBytes + counts.walBytes,
      isReady: isReady)
  }

  /// Which organisations we federate with, and under which keys. Mailboxes are created where they are
  /// missing.
  package func setPeers(_ peers: [Peer]) throws(ErrorCode) {
    let (known, highest) = try writing { group in
      var highest: [Int64: UInt64] = [:]
      let known = try peers.map { peer in
        let owner = Array(peer.name.text.utf8)
        let known = KnownPeer(
          peer: peer, envelopes: try group.transaction.createMailbox(.peerEnvelopes, owner: owner),
          receipts: try group.transaction.createMailbox(.peerReceipts, owner: owner))
        var link = try group.transaction.link(peer: known.envelopes)
        if link.outEpoch == 0 {
          link.outEpoch = self.drawEpoch()
          try group.transaction.setLink(link)
        }
        highest[known.envelopes] = try group.transaction.highestSeq(known.envelopes)
        return known
      }
      return (known, highest)
    }
    for peer in known { outboxGate.open(peer.envelopes, highest: highest[peer.envelopes] ?? 0) }
    roster.set(peers: known)
  }
}
