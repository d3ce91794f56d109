package import EngramCore

// Messages under a lease. Their rows are those of the inbox; what differs is who may see them, and that the
// word about them is taken back when the node did not take it.

extension ClientSnapshot {
  /// A received message that nobody has signed for yet, leased or not.
  package func unfinished(_ id: EnvelopeID) throws -> InboxRow? {
    try received("WHERE i.envelope_id = ? AND i.receipt IS NULL", [.bytes(id.bytes)]).first
  }
}

extension ClientTransaction {
  /// Takes a message away from readers: it is a consumer's.
  /// - Returns: false when it was one's already, in this process or another.
  package func markLeased(_ id: EnvelopeID) throws -> Bool {
    try execute("INSERT OR IGNORE INTO leased (envelope_id) VALUES (?)", [.bytes(id.bytes)]) == 1
  }

  /// Gives a message back to readers, as the newest one: they may be past its place.
  package func unmarkLeased(_ id: EnvelopeID) throws {
    let isLeased = try first("SELECT 1 FROM leased WHERE envelope_id = ?", [.bytes(id.bytes)]) { _ in true }
    guard isLeased != nil else { return }
    try execute("DELETE FROM leased WHERE envelope_id = ?", [.bytes(id.bytes)])
    try execute(
      "UPDATE inbox SET row = (SELECT max(row) + 1 FROM inbox) WHERE envelope_id = ?", [.bytes(id.bytes)])
  }

  /// Keeps the device's word about a leased message, unless there is one already. The body stays until the
  /// node has the word: it may refuse it.
  package func completeLeased(_ id: EnvelopeID, receipt: [UInt8]) throws {
    try execute(
      "UPDATE inbox SET receipt = ? WHERE envelope_id = ? AND receipt IS NULL",
      [.bytes(receipt), .bytes(id.bytes)])
  }

  /// The node did not take the word: whoever is given the message next has it anew.
  package func revokeLeased(_ id: EnvelopeID, receipt: [UInt8]) throws {
    try execute(
      "UPDATE inbox SET receipt = NULL WHERE envelope_id = ? AND receipt = ? AND settled = 0",
      [.bytes(id.bytes), .bytes(receipt)])
  }

  /// The node has the word.
  package func settleLeased(_ id: EnvelopeID, receipt: [UInt8]) throws {
    try execute(
      "UPDATE inbox SET settled = 1, receipt = ifnull(receipt, ?) WHERE envelope_id = ?",
      [.bytes(receipt), .bytes(id.bytes)])
    try execute("DELETE FROM leased WHERE envelope_id = ?", [.bytes(id.bytes)])
    if try historyRetentionMs() == 0 { try eraseBody(of: id) }
  }
}
