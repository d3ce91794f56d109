internal import EngramCore

extension StoreSnapshot {
  /// The state of the link to a peer, named by its envelope mailbox; zeros for a peer never seen.
  package func link(peer: Int64) throws(StoreError) -> LinkRow {
    let sql = """
      SELECT peer, out_epoch, in_epoch, in_through, receipts_in_epoch, receipts_in_through, acked_through
      FROM link WHERE peer = ?
      """
    let row = try first(sql, [.integer(peer)], .link, key: 0) { fields in
      LinkRow(
        peer: peer, outEpoch: try fields.bits(1), inEpoch: try fields.bits(2), inThrough: try fields.bits(3),
        receiptsInEpoch: try fields.bits(4), receiptsInThrough: try fields.bits(5),
        ackedThrough: try fields.bits(6))
    }
    return row ?? LinkRow(peer: peer)
  }

  /// A named value of the node, such as its own name; nil when never set.
  package func value(_ key: String) throws(StoreError) -> [UInt8]? {
    try first("SELECT value FROM meta WHERE key = ?", [.text(key)], .meta) { try $0.bytes(0) }
  }
}

extension StoreTransaction {
  /// - Throws: `conflict` when the peer's mailbox does not exist.
  package func setLink(_ row: LinkRow) throws(StoreError) {
    let sql = """
      INSERT INTO link
        (peer, out_epoch, in_epoch, in_through, receipts_in_epoch, receipts_in_through, acked_through)
      VALUES (?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (peer) DO UPDATE SET
        out_epoch = excluded.out_epoch, in_epoch = excluded.in_epoch, in_through = excluded.in_through,
        receipts_in_epoch = excluded.receipts_in_epoch, receipts_in_through = excluded.receipts_in_through,
        acked_through = excluded.acked_through
      """
    try execute(
      sql,
      [
        .integer(row.peer), .bits(row.outEpoch), .bits(row.inEpoch), .bits(row.inThrough),
        .bits(row.receiptsInEpoch), .bits(row.receiptsInThrough), .bits(row.ackedThrough),
      ])
  }

  package func setValue(_ value: [UInt8], for key: String) throws(StoreError) {
    let sql =
      "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    try execute(sql, [.text(key), .bytes(value)])
  }
}
