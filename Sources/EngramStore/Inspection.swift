internal import EngramCore

extension StoreSnapshot {
  /// Counts rows by walking an index of each table: for status, not for every message.
  package func counts() throws(StoreError) -> StoreCounts {
    let sql = """
      SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM delivery), (SELECT count(*) FROM notice),
        (SELECT count(*) FROM client), (SELECT count(*) FROM device)
      """
    let path =
      try first("SELECT file FROM pragma_database_list WHERE name = 'main'", [], .meta) { try $0.text(0) }
      ?? ""
    let counts = try first(sql, [], .meta) { fields in
      StoreCounts(
        messages: try fields.count(0), openDeliveries: try fields.count(1), notices: try fields.count(2),
        clients: try fields.count(3), devices: try fields.count(4), fileBytes: fileBytes(path),
        walBytes: fileBytes(path + "-wal"))
    }
    guard let counts else { throw .missing(.meta) }
    return counts
  }

  /// Everything that can be found wrong without a key, one line each: the file's structure, references, check
  /// sums, counters. Reads the whole file. Empty when all is well.
  package func check() throws(StoreError) -> [String] {
    var problems = try all("PRAGMA integrity_check", [], .meta) { try $0.text(0) }.filter { $0 != "ok" }
    problems += try all("PRAGMA foreign_key_check", [], .meta) { fields in
      "\(try fields.text(0)) row \(try fields.optionalInteger(1) ?? 0): what it refers to is gone"
    }
    problems += try damagedMessages()
    problems += try damagedNotices()
    problems += try all(
      """
      SELECT m.seq FROM message AS m
      WHERE m.open <> (SELECT count(*) FROM delivery AS d WHERE d.message = m.seq)
      """, [], .message
    ) { "message row \(try $0.integer(0)): its open deliveries are miscounted" }
    return problems
  }

  private func damagedMessages() throws(StoreError) -> [String] {
    var problems: [String] = []
    let sql = "SELECT \(infoColumns), b.bytes FROM message LEFT JOIN body AS b ON b.message = seq"
    try each(sql, [], .message, key: 0) { fields in
      do throws(StoreError) {
        let message = try messageInfo(fields)
        guard message.info.open > 0 else { return true }
        guard try checkSum(fields.lentBytes(infoColumnCount)) == message.checkSum else {
          throw fields.damaged
        }
      } catch { problems.append(line(error)) }
      return true
    }
    return problems
  }

  private func damagedNotices() throws(StoreError) -> [String] {
    var problems: [String] = []
    try each("SELECT seq, bytes, check_sum FROM notice", [], .notice, key: 0) { fields in
      do throws(StoreError) {
        guard try checkSum(fields.lentBytes(1)) == fields.identifier(2, as: CheckSum.self) else {
          throw fields.damaged
        }
      } catch { problems.append(line(error)) }
      return true
    }
    return problems
  }
}

private func line(_ error: StoreError) -> String {
  if case .damaged(let table, let row) = error {
    return "\(table.rawValue) row \(row): does not match its check sum"
  }
  return "\(error)"
}
