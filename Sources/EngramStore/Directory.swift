package import EngramCore

private let clientColumns = "address, identity, list, list_version, home, disabled, created_ms, mode"
private let deviceColumns = "kid, address, certificate, mailbox"

extension StoreSnapshot {
  package func client(_ address: Address) throws(StoreError) -> ClientRow? {
    try first(
      "SELECT \(clientColumns) FROM client WHERE address = ?", [.text(address.text)], .client, clientRow)
  }

  /// This node's clients, or those of its peers, by address.
  package func clients(local: Bool) throws(StoreError) -> [ClientRow] {
    try all(
      "SELECT \(clientColumns) FROM client WHERE (home = 0) = ? ORDER BY address", [.flag(local)], .client,
      clientRow)
  }

  /// Clients of this node (0), or of the peer with this envelope mailbox. Walks their part of an index.
  package func clientCount(home: Int64) throws(StoreError) -> Int {
    try first("SELECT count(*) FROM client WHERE home = ?", [.integer(home)], .client) { try $0.count(0) }
      ?? 0
  }

  package func device(_ kid: Kid) throws(StoreError) -> DeviceRow? {
    try first("SELECT \(deviceColumns) FROM device WHERE kid = ?", [.bytes(kid.bytes)], .device, deviceRow)
  }

  /// A client's devices by kid, active or not: the device list says which are.
  package func devices(of address: Address) throws(StoreError) -> [DeviceRow] {
    try all(
      "SELECT \(deviceColumns) FROM device WHERE address = ? ORDER BY kid", [.text(address.text)], .device,
      deviceRow)
  }

  /// The device's signed prekey, whole; whether it has run out is the caller's question.
  package func signedPrekey(of kid: Kid) throws(StoreError) -> [UInt8]? {
    try first(
      "SELECT bytes FROM prekey WHERE kid = ? AND kind = ?", [.bytes(kid.bytes), signedKind], .prekey
    ) { try $0.bytes(0) }
  }

  /// Whether an invite is there, run out or not: `takeInvite` decides.
  package func hasInvite(_ digest: Digest) throws(StoreError) -> Bool {
    try first("SELECT 1 FROM invite WHERE digest = ?", [.bytes(digest.bytes)], .invite) { _ in true } ?? false
  }

  /// Invites by name, those that have run out included until they are purged.
  package func invites() throws(StoreError) -> [InviteRow] {
    try all("SELECT digest, name, expires_ms FROM invite ORDER BY name, digest", [], .invite) {
      fields in
      InviteRow(
        digest: try fields.identifier(0, as: Digest.self), name: try fields.text(1),
        expiresMs: try fields.ordered(2))
    }
  }
}

extension StoreTransaction {
  /// - Throws: `conflict` when the address is there already.
  package func insertClient(_ row: ClientRow) throws(StoreError) {
    try execute(
      "INSERT INTO client (\(clientColumns)) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      [
        .text(row.address.text), .bytes(row.identity.bytes), .bytes(row.list), .bits(row.listVersion),
        .integer(row.home), .flag(row.isDisabled), .bits(row.createdMs), .integer(Int64(row.mode.rawValue)),
      ])
  }

  /// Replaces the device list; that the new one is newer was the caller's decision.
  package func updateDeviceList(_ address: Address, list: [UInt8], version: UInt64) throws(StoreError) {
    let changed = try execute(
      "UPDATE client SET list = ?, list_version = ? WHERE address = ?",
      [.bytes(list), .bits(version), .text(address.text)])
    guard changed == 1 else { throw .missing(.client) }
  }

  package func setDisabled(_ address: Address, _ isDisabled: Bool) throws(StoreError) {
    let changed = try execute(
      "UPDATE client SET disabled = ? WHERE address = ?", [.flag(isDisabled), .text(address.text)])
    guard changed == 1 else { throw .missing(.client) }
  }

  /// How the client's devices share what comes in; moving what waits is the caller's.
  package func setQueueMode(_ address: Address, _ mode: QueueMode) throws(StoreError) {
    let changed = try execute(
      "UPDATE client SET mode = ? WHERE address = ?", [.integer(Int64(mode.rawValue)), .text(address.text)])
    guard changed == 1 else { throw .missing(.client) }
  }

  /// - Throws: `conflict` when the kid is there already, or its client or mailbox is not.
  package func insertDevice(_ row: DeviceRow) throws(StoreError) {
    try execute(
      "INSERT INTO device (\(deviceColumns)) VALUES (?, ?, ?, ?)",
      [.bytes(row.kid.bytes), .text(row.address.text), .bytes(row.certificate), .integer(row.mailbox)])
  }

  /// Replaces the device's signed prekey.
  /// - Throws: `conflict` when the device does not exist.
  package func setSignedPrekey(
    of kid: Kid, id: PrekeyID, bytes: [UInt8], notAfterMs: UInt64
  ) throws(StoreError) {
    try execute("DELETE FROM prekey WHERE kid = ? AND kind = ?", [.bytes(kid.bytes), signedKind])
    try execute(
      "INSERT INTO prekey (kid, kind, id, bytes, not_after_ms) VALUES (?, ?, ?, ?, ?)",
      [.bytes(kid.bytes), signedKind, .bytes(id.bytes), .bytes(bytes), .bits(notAfterMs)])
  }

  /// - Throws: `conflict` when the digest is there already.
  package func insertInvite(_ row: InviteRow) throws(StoreError) {
    try execute(
      "INSERT INTO invite (digest, name, expires_ms) VALUES (?, ?, ?)",
      [.bytes(row.digest.bytes), .text(row.name), .ordered(row.expiresMs)])
  }

  /// Takes an invite, once: the name it stands for, or nil when it is unknown, used or has run out.
  package func takeInvite(_ digest: Digest, nowMs: UInt64) throws(StoreError) -> String? {
    let sql = "DELETE FROM invite WHERE digest = ? AND expires_ms > ? RETURNING name"
    return try first(sql, [.bytes(digest.bytes), .bound(nowMs)], .invite) { try $0.text(0) }
  }

  @discardableResult
  package func purgeInvites(nowMs: UInt64) throws(StoreError) -> Int {
    try execute("DELETE FROM invite WHERE expires_ms <= ?", [.bound(nowMs)])
  }

  /// Marks a token's id (16 bytes) as used.
  /// - Returns: false when it was used before. Ids are kept until `expiresMs`; later than that the token
  ///   itself is refused.
  package func useToken(_ id: [UInt8], expiresMs: UInt64) throws(StoreError) -> Bool {
    let sql = "INSERT INTO token_use (id, expires_ms) VALUES (?, ?) ON CONFLICT (id) DO NOTHING"
    return try execute(sql, [.bytes(id), .ordered(expiresMs)]) == 1
  }

  @discardableResult
  package func purgeTokens(nowMs: UInt64) throws(StoreError) -> Int {
    try execute("DELETE FROM token_use WHERE expires_ms <= ?", [.bound(nowMs)])
  }
}

private var signedKind: Argument { .integer(Int64(PrekeyKind.signed.rawValue)) }

private func clientRow(_ fields: Fields) throws(StoreError) -> ClientRow {
  ClientRow(
    address: try fields.address(0), identity: try fields.identifier(1, as: SigningPublicKey.self),
    list: try fields.bytes(2), listVersion: try fields.bits(3), home: try fields.integer(4),
    isDisabled: try fields.integer(5) != 0, createdMs: try fields.bits(6),
    mode: try fields.integer(7) == 0 ? .each : .one)
}

private func deviceRow(_ fields: Fields) throws(StoreError) -> DeviceRow {
  DeviceRow(
    kid: try fields.identifier(0, as: Kid.self), address: try fields.address(1),
    certificate: try fields.bytes(2), mailbox: try fields.optionalInteger(3))
}
