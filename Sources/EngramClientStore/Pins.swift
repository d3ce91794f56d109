package import EngramCore

/// What we hold a correspondent to.
package struct PeerPin: Sendable, Equatable {
  package let address: Address
  package let identity: SigningPublicKey
  package let firstSeenMs: UInt64
  /// When a person compared safety numbers; nil while it is only "trusted on first use".
  package let approvedMs: UInt64?
  /// Another identity that was offered since and is refused until approved.
  package let pending: SigningPublicKey?
}

package struct NodePin: Sendable, Equatable {
  package let name: NodeName
  package let id: NodeID
  package let firstSeenMs: UInt64
  package let pending: NodeID?
}

package struct StoredDeviceList: Sendable {
  package let identity: SigningPublicKey
  package let version: UInt64
  package let bytes: [UInt8]
}

extension ClientSnapshot {
  package func peer(_ address: Address) throws -> PeerPin? {
    try first(
      "SELECT address, identity, first_seen_ms, approved_ms, pending FROM peer WHERE address = ?",
      [.text(address.text)], peerPin)
  }

  package func peers() throws -> [PeerPin] {
    try all(
      "SELECT address, identity, first_seen_ms, approved_ms, pending FROM peer ORDER BY address", [], peerPin)
  }

  private func peerPin(_ c: Columns) throws -> PeerPin {
    PeerPin(
      address: try c.address(0), identity: try c.id32(1), firstSeenMs: try c.number(2),
      approvedMs: try c.optionalNumber(3), pending: try c.optionalID32(4))
  }

  package func nodePin(_ name: NodeName) throws -> NodePin? {
    try first("SELECT node_id, first_seen_ms, pending FROM node_pin WHERE name = ?", [.text(name.text)]) {
      c in
      NodePin(
        name: name, id: NodeID(try c.id32(0)), firstSeenMs: try c.number(1),
        pending: try c.optionalID32(2).map { NodeID($0) })
    }
  }

  package func deviceList(of address: Address) throws -> StoredDeviceList? {
    try first("SELECT identity, version, list FROM device_list WHERE address = ?", [.text(address.text)]) {
      c in
      StoredDeviceList(identity: try c.id32(0), version: try c.number(1), bytes: try c.bytes(2))
    }
  }

  /// The certificate of a correspondent's device, as it came: verified before it was stored.
  package func certificate(of kid: Kid) throws -> [UInt8]? {
    try first("SELECT certificate FROM device WHERE kid = ?", [.bytes(kid.bytes)]) { try $0.bytes(0) }
  }

  package func directoryAnswer(_ address: Address) throws -> (
    bytes: [UInt8], issuedMs: UInt64, fetchedMs: UInt64
  )? {
    try first("SELECT answer, issued_ms, fetched_ms FROM directory WHERE address = ?", [.text(address.text)])
    { c in
      (try c.bytes(0), try c.number(1), try c.number(2))
    }
  }
}

extension ClientTransaction {
  /// Pins an identity on first use. One that is pinned already stays.
  package func pinPeer(_ address: Address, identity: SigningPublicKey, nowMs: UInt64) throws {
    try execute(
      "INSERT INTO peer (address, identity, first_seen_ms) VALUES (?, ?, ?) ON CONFLICT (address) DO NOTHING",
      [.text(address.text), .bytes(identity.bytes), .number(nowMs)])
  }

  /// Notes another identity that was offered, for a person to judge.
  package func setPendingIdentity(_ address: Address, _ identity: SigningPublicKey) throws {
    try execute(
      "UPDATE peer SET pending = ?2 WHERE address = ?1 AND identity <> ?2",
      [.text(address.text), .bytes(identity.bytes)])
  }

  /// A person compared safety numbers: `identity` is the correspondent's from now on. Device list, directory
  /// answer and anything else that the old identity signed are dropped with it.
  package func approvePeer(_ address: Address, identity: SigningPublicKey, nowMs: UInt64) throws {
    let changed = try peer(address)?.identity != identity
    try execute(
      """
      INSERT INTO peer (address, identity, first_seen_ms, approved_ms) VALUES (?1, ?2, ?3, ?3)
      ON CONFLICT (address) DO UPDATE SET identity = ?2, approved_ms = ?3, pending = NULL
      """,
      [.text(address.text), .bytes(identity.bytes), .number(nowMs)])
    guard changed else { return }
    try execute(
      "DELETE FROM device_list WHERE address = ? AND identity <> ?",
      [.text(address.text), .bytes(identity.bytes)])
    try execute("DELETE FROM directory WHERE address = ?", [.text(address.text)])
  }

  package func pinNode(_ name: NodeName, _ id: NodeID, nowMs: UInt64) throws {
    try execute(
      "INSERT INTO node_pin (name, node_id, first_seen_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
      [.text(name.text), .bytes(id.bytes), .number(nowMs)])
  }

  package func setPendingNode(_ name: NodeName, _ id: NodeID) throws {
    try execute(
      "UPDATE node_pin SET pending = ?2 WHERE name = ?1 AND node_id <> ?2",
      [.text(name.text), .bytes(id.bytes)])
  }

  /// Adopts the node id that was offered and is pending, if there is one.
  package func approvePendingNode(_ name: NodeName) throws {
    try execute(
      "UPDATE node_pin SET node_id = pending, pending = NULL WHERE name = ? AND pending IS NOT NULL",
      [.text(name.text)])
  }

  /// Keeps a verified device list; that it is not older than the known one was the caller's decision.
  package func setDeviceList(_ address: Address, identity: SigningPublicKey, version: UInt64, list: [UInt8])
    throws
  {
    try execute(
      """
      INSERT INTO device_list (address, identity, version, list) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT (address) DO UPDATE SET identity = ?2, version = ?3, list = ?4
      """,
      [.text(address.text), .bytes(identity.bytes), .number(version), .bytes(list)])
  }

  /// Keeps a verified certificate, replacing an earlier one of the same device.
  package func setDevice(_ kid: Kid, address: Address, certificate: [UInt8]) throws {
    try execute(
      """
      INSERT INTO device (kid, address, certificate) VALUES (?1, ?2, ?3)
      ON CONFLICT (kid) DO UPDATE SET address = ?2, certificate = ?3
      """,
      [.bytes(kid.bytes), .text(address.text), .bytes(certificate)])
  }

  package func setDirectoryAnswer(_ address: Address, _ answer: [UInt8], issuedMs: UInt64, fetchedMs: UInt64)
    throws
  {
    try execute(
      """
      INSERT INTO directory (address, answer, issued_ms, fetched_ms) VALUES (?1, ?2, ?3, ?4)
      ON CONFLICT (address) DO UPDATE SET answer = ?2, issued_ms = ?3, fetched_ms = ?4
      """,
      [.text(address.text), .bytes(answer), .number(issuedMs), .number(fetchedMs)])
  }

  /// Has the directory asked again before the address is written to, as long as it can be asked.
  package func expireDirectoryAnswer(_ address: Address) throws {
    try execute("UPDATE directory SET fetched_ms = 0 WHERE address = ?", [.text(address.text)])
  }
}
