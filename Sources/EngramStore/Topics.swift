package import EngramCore

/// A client's place among the members of every topic that a pattern matches. `node` keeps the members: where
/// it is this node the row counts, where it is a peer it only remembers what was asked for there.
package struct SubscriptionRow: Equatable, Sendable {
  package var node: NodeName
  package var pattern: TopicPattern
  package var address: Address
  /// The device that asked for it.
  package var kid: Kid
  package var sinceMs: UInt64

  package init(node: NodeName, pattern: TopicPattern, address: Address, kid: Kid, sinceMs: UInt64) {
    (self.node, self.pattern, self.address) = (node, pattern, address)
    (self.kid, self.sinceMs) = (kid, sinceMs)
  }
}

/// A publisher that keeps the last value of a topic and wants to hear of new members. `node` as above.
package struct RetainRow: Equatable, Sendable {
  package var node: NodeName
  package var topic: Topic
  package var address: Address

  package init(node: NodeName, topic: Topic, address: Address) {
    (self.node, self.topic, self.address) = (node, topic, address)
  }
}

/// How many rows there are, for the bounds.
package struct TopicCounts: Equatable, Sendable {
  package var ofClient: Int
  /// Rows whose client is of the same node.
  package var ofClientsNode: Int
  package var all: Int
}

extension StoreSnapshot {
  /// Members of a topic kept at `node`, ascending, each once however many of its patterns match. Disabled
  /// clients are left out. Looks at every subscription whose first token fits.
  /// - Parameter after: only addresses above this one.
  package func members(
    of topic: Topic, at node: NodeName, after: Address?, maxCount: Int
  ) throws(StoreError) -> [Address] {
    guard maxCount > 0 else { return [] }
    var members: [Address] = []
    let sql = """
      SELECT s.address, s.pattern FROM subscription AS s LEFT JOIN client AS c ON c.address = s.address
      WHERE s.node = ?1 AND s.head IN (?2, '*', '>') AND s.address > ?3 AND c.disabled IS NOT 1
      ORDER BY s.address
      """
    let arguments: [Argument] = [.text(node.text), .text(topic.head), .text(after?.text ?? "")]
    try each(sql, arguments, .subscription) { fields in
      let address = try fields.address(0)
      guard members.last != address, try fields.pattern(1).matches(topic) else { return true }
      members.append(address)
      return members.count < maxCount
    }
    return members
  }

  /// A client's own subscriptions at every node, by node and pattern.
  package func subscriptions(of address: Address) throws(StoreError) -> [SubscriptionRow] {
    let sql = """
      SELECT node, pattern, kid, since_ms FROM subscription WHERE address = ? ORDER BY node, pattern
      """
    return try all(sql, [.text(address.text)], .subscription) { fields in
      SubscriptionRow(
        node: try fields.nodeName(0), pattern: try fields.pattern(1), address: address,
        kid: try fields.identifier(2, as: Kid.self), sinceMs: try fields.ordered(3))
    }
  }

  package func subscriptionCounts(for address: Address) throws(StoreError) -> TopicCounts {
    try topicCounts("subscription", address)
  }

  package func retainCounts(for address: Address) throws(StoreError) -> TopicCounts {
    try topicCounts("retain", address)
  }

  private func topicCounts(_ table: StaticString, _ address: Address) throws(StoreError) -> TopicCounts {
    let sql = """
      SELECT (SELECT count(*) FROM \(table) WHERE address = ?1),
        (SELECT count(*) FROM \(table) WHERE client_node = ?2), (SELECT count(*) FROM \(table))
      """
    let counts = try first(sql, [.text(address.text), .text(address.node.text)], .subscription) { fields in
      TopicCounts(
        ofClient: try fields.count(0), ofClientsNode: try fields.count(1), all: try fields.count(2))
    }
    return counts ?? TopicCounts(ofClient: 0, ofClientsNode: 0, all: 0)
  }

  /// Publishers that keep the last value of a topic that the pattern matches, by address and topic.
  package func retained(
    matching pattern: TopicPattern, at node: NodeName, maxCount: Int
  ) throws(StoreError) -> [RetainRow] {
    var rows: [RetainRow] = []
    let isAny = pattern.head == TopicPattern.anyToken || pattern.head == TopicPattern.anyRest
    let sql = """
      SELECT topic, address FROM retain WHERE node = ?1 AND (?3 OR head = ?2) ORDER BY address, topic
      """
    let arguments: [Argument] = [.text(node.text), .text(pattern.head), .flag(isAny)]
    try each(sql, arguments, .retain) { fields in
      let topic = try fields.topic(0)
      guard pattern.matches(topic) else { return true }
      rows.append(RetainRow(node: node, topic: topic, address: try fields.address(1)))
      return rows.count < maxCount
    }
    return rows
  }

  package func isRetained(_ row: RetainRow) throws(StoreError) -> Bool {
    let sql = "SELECT 1 FROM retain WHERE node = ? AND topic = ? AND address = ?"
    return try first(sql, row.key, .retain) { _ in true } ?? false
  }

  /// Addresses of this node's clients that are not disabled, ascending.
  package func localAddresses(after: Address?, maxCount: Int) throws(StoreError) -> [Address] {
    let sql = """
      SELECT address FROM client WHERE home = 0 AND disabled = 0 AND address > ? ORDER BY address LIMIT ?
      """
    return try all(sql, [.text(after?.text ?? ""), .integer(maxCount)], .client) { try $0.address(0) }
  }
}

extension StoreTransaction {
  /// - Returns: false when the client had this subscription already; it keeps its age.
  package func insertSubscription(_ row: SubscriptionRow) throws(StoreError) -> Bool {
    try execute(
      """
      INSERT INTO subscription (node, pattern, address, head, client_node, kid, since_ms)
      VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
      """,
      [
        .text(row.node.text), .text(row.pattern.text), .text(row.address.text), .text(row.pattern.head),
        .text(row.address.node.text), .bytes(row.kid.bytes), .ordered(row.sinceMs),
      ]) == 1
  }

  /// - Returns: false when there was none.
  package func removeSubscription(
    _ pattern: TopicPattern, at node: NodeName, of address: Address
  ) throws(StoreError) -> Bool {
    let sql = "DELETE FROM subscription WHERE node = ? AND pattern = ? AND address = ?"
    return try execute(sql, [.text(node.text), .text(pattern.text), .text(address.text)]) == 1
  }

  package func insertRetain(_ row: RetainRow) throws(StoreError) {
    try execute(
      """
      INSERT INTO retain (node, topic, address, head, client_node) VALUES (?, ?, ?, ?, ?)
      ON CONFLICT DO NOTHING
      """,
      row.key + [.text(row.topic.head), .text(row.address.node.text)])
  }

  package func removeRetain(_ row: RetainRow) throws(StoreError) {
    try execute("DELETE FROM retain WHERE node = ? AND topic = ? AND address = ?", row.key)
  }
}

extension RetainRow {
  fileprivate var key: [Argument] { [.text(node.text), .text(topic.text), .text(address.text)] }
}

extension Fields {
  fileprivate func nodeName(_ index: Int32) throws(StoreError) -> NodeName {
    let text = try text(index)
    do throws(CodecError) { return try NodeName(text) } catch { throw damaged }
  }

  fileprivate func pattern(_ index: Int32) throws(StoreError) -> TopicPattern {
    let text = try text(index)
    do throws(CodecError) { return try TopicPattern(text) } catch { throw damaged }
  }

  fileprivate func topic(_ index: Int32) throws(StoreError) -> Topic {
    let text = try text(index)
    do throws(CodecError) { return try Topic(text) } catch { throw damaged }
  }
}
