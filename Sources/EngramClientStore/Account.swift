package import EngramCore
internal import EngramCrypto

/// Who this home belongs to and which node serves it.
package struct AccountRow: Sendable {
  package var address: Address
  package var identity: SigningPublicKey
  package var kid: Kid
  package var nodeID: NodeID
  /// `host:port` as given.
  package var endpoint: String
  /// The name that the node's TLS certificate has to cover.
  package var serverName: String
  package var certificate: [UInt8]
  package var deviceList: [UInt8]
  /// The registration request until the node has answered it; it holds the invite, so the column is sealed.
  package var pendingRegistration: [UInt8]?
  package var acceptedTTLMs: UInt64
  /// Received messages that expired up to here are forgotten, so what claims to be older is refused.
  package var purgedThroughMs: UInt64 = 0

  package init(
    address: Address, identity: SigningPublicKey, kid: Kid, nodeID: NodeID, endpoint: String,
    serverName: String,
    certificate: [UInt8], deviceList: [UInt8], pendingRegistration: [UInt8]?,
    acceptedTTLMs: UInt64 = ClientStoreLimits.acceptedTTLMs
  ) {
    (self.address, self.identity, self.kid, self.nodeID) = (address, identity, kid, nodeID)
    (self.endpoint, self.serverName) = (endpoint, serverName)
    (self.certificate, self.deviceList) = (certificate, deviceList)
    (self.pendingRegistration, self.acceptedTTLMs) = (pendingRegistration, acceptedTTLMs)
  }
}

private let accountColumns = """
  address, identity, kid, node_id, endpoint, server_name, certificate, device_list, registration, \
  accepted_ttl_ms, purged_through_ms
  """

extension ClientSnapshot {
  /// - Throws: `notInitialised` when there is none.
  package func account() throws -> AccountRow {
    let row = try first("SELECT \(accountColumns) FROM account") { c in
      var row = AccountRow(
        address: try c.address(0), identity: try c.id32(1), kid: try c.id16(2), nodeID: NodeID(try c.id32(3)),
        endpoint: try c.text(4), serverName: try c.text(5), certificate: try c.bytes(6),
        deviceList: try c.bytes(7),
        pendingRegistration: try c.optionalBytes(8).map { try opened($0, at: registrationPlace) },
        acceptedTTLMs: try c.number(9))
      row.purgedThroughMs = try c.number(10)
      return row
    }
    guard let row else { throw ClientStoreError.notInitialised }
    return row
  }

  fileprivate var registrationPlace: StoragePlace { place("account", "registration", [1]) }
}

extension ClientTransaction {
  /// Writes the one account row. Fails when there is one.
  package func insertAccount(_ row: AccountRow) throws {
    try execute(
      "INSERT INTO account (id, \(accountColumns)) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      [
        .text(row.address.text), .bytes(row.identity.bytes), .bytes(row.kid.bytes), .bytes(row.nodeID.bytes),
        .text(row.endpoint), .text(row.serverName), .bytes(row.certificate),
        .bytes(row.deviceList),
        .bytes(row.pendingRegistration.map { sealed($0, at: registrationPlace) }),
        .number(row.acceptedTTLMs), .number(row.purgedThroughMs),
      ])
  }

  /// The node has the registration: the invite is forgotten.
  package func completeRegistration() throws { try execute("UPDATE account SET registration = NULL") }

  /// Keeps this client's own newer device list, as the account's and as one that directory answers have to
  /// match.
  package func replaceDeviceList(of address: Address, version: UInt64, list: [UInt8]) throws {
    try execute("UPDATE account SET device_list = ?", [.bytes(list)])
    try execute(
      "UPDATE device_list SET version = ?, list = ? WHERE address = ? AND version <= ?",
      [.number(version), .bytes(list), .text(address.text), .number(version)])
  }

  /// Forgets a registration that the node refused for good, with its prekeys.
  package func abandonRegistration() throws {
    try execute("DELETE FROM account")
    try execute("DELETE FROM prekey")
    try execute("DELETE FROM node_pin")
  }
}
