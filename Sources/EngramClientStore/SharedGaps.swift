package import EngramCore

// Gaps of a client whose devices share a queue: what is missing here may be with another one of them.

extension ClientTransaction {
  /// Marks what was found missing at one moment as possibly taken by another device, on the node's word that
  /// the devices share a queue, and takes the warning off the messages that came then.
  package func markGapsShared(foundMs: UInt64) throws {
    let found = "kind = \(AlarmKind.gap.rawValue) AND code = ?1 AND resolved_ms IS NULL AND at_ms = ?2"
    try execute(
      """
      UPDATE inbox SET after_gap = 0
      WHERE after_gap = 1 AND received_ms = ?2 AND sender_kid IN (SELECT kid FROM alarm WHERE \(found))
      """, [.code(.chainGap), .number(foundMs)])
    try execute(
      "UPDATE alarm SET code = ?3 WHERE \(found)",
      [.code(.chainGap), .number(foundMs), .code(.sharedQueue)])
  }

  /// A device of this client has signed that it processed a message of which only the stub is here.
  /// - Returns: false when no such stub is.
  @discardableResult
  package func noteTaken(_ id: EnvelopeID, from sender: Kid, by kid: Kid) throws -> Bool {
    try execute(
      """
      INSERT INTO taken (envelope_id, kid) SELECT ?1, ?2
      WHERE EXISTS (SELECT 1 FROM chain_in WHERE kid = ?3 AND envelope = ?1 AND stub = 1)
      ON CONFLICT (envelope_id) DO NOTHING
      """, [.bytes(id.bytes), .bytes(kid.bytes), .bytes(sender.bytes)]) > 0
  }
}
