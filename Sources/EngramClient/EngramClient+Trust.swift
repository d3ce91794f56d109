internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto

extension EngramClient {
  /// What is known about a correspondent's identity, after asking the directory once more.
  ///
  /// Two people compare the safety number over another channel (by voice, on paper). If it is the same on
  /// both sides, nobody stands between them, their own nodes included.
  public func trust(_ address: String) async throws -> TrustReport {
    try await publicly {
      let address = try Address(checking: address)
      do {
        _ = try await core.lookup(address)
      } catch let error as EngramError where error.kind == .unreachable || error.kind == .untrusted {
        // What was pinned can be shown without the directory; a changed identity is what the report is for.
        guard try await core.read({ try $0.peer(address) }) != nil else { throw error }
      }
      return try await report(address)
    }
  }

  /// A person has compared the safety number that `trust` showed: the key that is offered now is the right
  /// one, or the pinned one if no other is offered.
  /// - Parameter safetyNumber: the number that was compared; refused when it is no longer the one on offer.
  public func approve(_ address: String, safetyNumber: String? = nil) async throws -> TrustReport {
    try await publicly {
      let address = try Address(checking: address)
      let (own, now) = ((address: core.account.address, identity: core.account.identity), core.nowMs())
      try await core.commit { rows in
        guard let pin = try rows.peer(address) else { throw EngramError.unknownCorrespondent }
        let identity = pin.pending ?? pin.identity
        if let safetyNumber, safetyNumber != EngramCrypto.safetyNumber(own, (address, identity)) {
          throw EngramError(
            .untrusted, name: "safety-number-changed",
            "this is not the safety number of the key that is offered now",
            hint: "run `engram trust` again and compare the new number")
        }
        try rows.approvePeer(address, identity: identity, nowMs: now)
        try rows.approvePendingNode(address.node)
        try rows.resolveIdentityAlarms(address, nowMs: now)
      }
      return try await report(address)
    }
  }

  /// Everybody whose identity is pinned, by address.
  public func correspondents() async throws -> [TrustReport] {
    try await publicly {
      let own = (address: core.account.address, identity: core.account.identity)
      return try await core.read { try $0.peers().map { TrustReport($0, own: own) } }
    }
  }

  /// What the directory says about an address now, after every check.
  public func directory(_ address: String) async throws -> DirectoryEntry {
    try await publicly {
      let answer = try await core.lookup(try Address(checking: address))
      return DirectoryEntry(
        address: answer.body.address.text, node: answer.body.node.text,
        nodeID: answer.body.nodeID.description,
        identityKey: hex(answer.identity.bytes), deviceListVersion: answer.list.body.version,
        issuedMs: answer.body.issuedMs,
        devices: answer.devices.map {
          DirectoryEntry.Device(
            kid: $0.certificate.kid.description, certificateNotAfterMs: $0.certificate.body.notAfterMs,
            prekeyNotAfterMs: $0.prekey.body.notAfterMs)
        })
    }
  }

  private func report(_ address: Address) async throws -> TrustReport {
    let own = (address: core.account.address, identity: core.account.identity)
    guard let pin = try await core.read({ try $0.peer(address) }) else {
      throw EngramError.unknownCorrespondent
    }
    return TrustReport(pin, own: own)
  }
}

extension EngramError {
  static var unknownCorrespondent: EngramError {
    EngramError(
      .refused, name: "unknown-correspondent", "nothing is known about this address yet",
      hint: "run `engram trust ADDRESS` first, which asks the directory")
  }
}

extension Address {
  init(checking text: String) throws {
    guard let address = try? Address(text) else {
      throw EngramError(
        .badInput, name: "bad-address", "an address has the form name@node, in lower case",
        hint: "for instance worker@globex.example")
    }
    self = address
  }
}

extension TrustReport {
  init(_ pin: PeerPin, own: (address: Address, identity: SigningPublicKey)) {
    self.init(
      address: pin.address.text,
      state: pin.pending != nil ? .changed : pin.approvedMs != nil ? .approved : .firstUse,
      identityKey: hex(pin.identity.bytes), firstSeenMs: pin.firstSeenMs,
      safetyNumber: EngramCrypto.safetyNumber(own, (pin.address, pin.identity)),
      offeredSafetyNumber: pin.pending.map { EngramCrypto.safetyNumber(own, (pin.address, $0)) },
      offeredIdentityKey: pin.pending.map { hex($0.bytes) })
  }
}
