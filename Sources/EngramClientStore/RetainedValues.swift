package import EngramCore

// The last value that this client published under a topic, kept so that members who join later get it too.
// Bodies are sealed for their recipients, so no node can keep a value for the publisher.

extension ClientSnapshot {
  /// The value, its body opened; recipients are empty, and times say how long it lived.
  package func retained(_ topic: TopicAddress) throws -> Draft? {
    try first("SELECT content FROM retained WHERE topic = ?", [.text(topic.text)]) { c in
      let plain = try opened(try c.bytes(0), at: place("retained", "content", Array(topic.text.utf8)))
      guard let draft = try? Draft(parsing: plain) else { throw ClientStoreError.damaged }
      return draft
    }
  }

  /// Topics with a value, ascending.
  /// - Parameter due: only those of which a change of members was heard.
  package func retainedTopics(due: Bool = false) throws -> [TopicAddress] {
    try all("SELECT topic FROM retained WHERE due >= ? ORDER BY topic", [.flag(due)]) { c in
      let text = try c.text(0)
      guard let topic = try? TopicAddress(text) else { throw ClientStoreError.damaged }
      return topic
    }
  }

  /// Members that have been sent the value.
  package func served(_ topic: TopicAddress) throws -> Set<Address> {
    Set(
      try all("SELECT address FROM retained_served WHERE topic = ?", [.text(topic.text)]) {
        try $0.address(0)
      })
  }
}

extension ClientTransaction {
  /// Keeps a value in place of the last one, with those to whom it goes now.
  /// - Throws: `full` when too many topics have one.
  package func setRetained(_ topic: TopicAddress, _ draft: Draft, served: [Address]) throws {
    let others = try first("SELECT count(*) FROM retained WHERE topic <> ?", [.text(topic.text)]) {
      try $0.count(0)
    }
    guard others ?? 0 < ClientStoreLimits.retainedMax else { throw ClientStoreError.full }
    var value = draft
    value.recipients = []
    let content = sealed(value.encoded(), at: place("retained", "content", Array(topic.text.utf8)))
    try execute(
      """
      INSERT INTO retained (topic, content) VALUES (?, ?)
      ON CONFLICT DO UPDATE SET content = excluded.content
      """,
      [.text(topic.text), .bytes(content)])
    try setServed(topic, Set(served))
  }

  /// - Returns: false when there was none.
  @discardableResult
  package func removeRetained(_ topic: TopicAddress) throws -> Bool {
    try setServed(topic, [])
    return try execute("DELETE FROM retained WHERE topic = ?", [.text(topic.text)]) > 0
  }

  /// Replaces the list of those who have the value; the topic is no longer due.
  package func setServed(_ topic: TopicAddress, _ addresses: Set<Address>) throws {
    try execute("DELETE FROM retained_served WHERE topic = ?", [.text(topic.text)])
    for address in addresses.sorted() {
      try execute(
        "INSERT INTO retained_served (topic, address) VALUES (?, ?)",
        [.text(topic.text), .text(address.text)])
    }
    try execute("UPDATE retained SET due = 0 WHERE topic = ?", [.text(topic.text)])
  }

  /// A member came or went. Whoever went and comes back gets the value again; one who came may have had it
  /// before this was heard.
  package func noteMembership(_ topic: TopicAddress, _ member: Address, joined: Bool) throws {
    guard joined else {
      try execute(
        "DELETE FROM retained_served WHERE topic = ? AND address = ?",
        [.text(topic.text), .text(member.text)])
      return
    }
    try execute("UPDATE retained SET due = 1 WHERE topic = ?", [.text(topic.text)])
  }
}
