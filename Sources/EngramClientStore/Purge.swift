internal import EngramCore

extension ClientSnapshot {
  /// The schema as the database holds it, in the order of `schema.sql`.
  package func schemaText() throws -> String {
    let statements = try all(
      """
      SELECT sql FROM sqlite_master
      WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'grdb_%' AND name NOT LIKE 'sqlite_%'
        AND substr(tbl_name, 1, 13) <> 'history_text_'
      ORDER BY tbl_name, type DESC, name
      """
    ) { try $0.text(0) }
    return statements.map { $0 + ";\n" }.joined()
  }
}

extension ClientTransaction {
  /// Erases prekeys whose time has come, and purges when that was last done long enough ago: it reads whole
  /// tables, and short commands come one after the other.
  package func purgeIfDue(nowMs: UInt64) throws {
    try erasePrekeys(nowMs: nowMs)
    let last = try first("SELECT last_purge_ms FROM account") { try $0.number(0) } ?? 0
    guard nowMs < last || nowMs >= last + ClientStoreLimits.purgeIntervalMs else { return }
    try purge(nowMs: nowMs)
    try execute("UPDATE account SET last_purge_ms = ?", [.number(nowMs)])
  }

  /// Forgets what no rule needs any more: received messages and chain places that expired (each chain keeps
  /// its newest place), sent messages with their receipts a month after they expired, bodies past their
  /// retention, secrets of old prekeys, and all but the newest alarms.
  package func purge(nowMs: UInt64) throws {
    let horizon = nowMs > Limits.dedupeGraceMs ? nowMs - Limits.dedupeGraceMs : 0
    let expired = try first(
      "SELECT ifnull(max(expires_ms), 0) FROM inbox WHERE settled = 1 AND expires_ms <= ?", [.number(horizon)]
    ) { try $0.number(0) }
    try execute("DELETE FROM inbox WHERE settled = 1 AND expires_ms <= ?", [.number(horizon)])
    try execute(
      "UPDATE account SET purged_through_ms = max(purged_through_ms, ?)", [.number(expired ?? 0)])
    try execute(
      """
      DELETE FROM chain_in WHERE expires_ms <= ?
        AND seq < (SELECT max(c.seq) FROM chain_in AS c WHERE c.kid = chain_in.kid)
      """, [.number(horizon)])
    try execute("DELETE FROM taken WHERE envelope_id NOT IN (SELECT envelope FROM chain_in)")
    let month = Limits.ttlMsMax
    let sentHorizon = nowMs > month ? nowMs - month : 0
    try execute(
      """
      DELETE FROM receipt WHERE envelope_id IN (
        SELECT envelope_id FROM outbox WHERE state <> 1 AND expires_ms <= ?)
      """, [.number(sentHorizon)])
    try execute("DELETE FROM queued WHERE expires_ms <= ?", [.number(sentHorizon)])
    try execute("DELETE FROM outbox WHERE state <> 1 AND expires_ms <= ?", [.number(sentHorizon)])
    try execute(
      "DELETE FROM alarm WHERE id <= (SELECT max(id) FROM alarm) - ?", [.number(alarmsKept)])
    try execute("DELETE FROM chain_sent WHERE expires_ms <= ?", [.number(sentHorizon)])
    try purgeHistory(nowMs: nowMs)
    try erasePrekeys(nowMs: nowMs)
  }
}

/// Whoever can send us messages can raise alarms; this many say everything.
private let alarmsKept = 10_000
