internal import EngramClientStore
internal import EngramCore
internal import FoundationEssentials

/// Topics: `#orders.new@acme.example` lives at acme.example, which keeps its members. The `#` may be left
/// out, and so may the node where it is the own one.
extension EngramClient {
  /// Makes this client a member of a topic, or of every topic that a pattern matches: `*` stands for one
  /// word, `>` at the end for one or more. From the next publication on; asking twice changes nothing.
  public func subscribe(_ topic: String) async throws {
    try await publicly { try await core.api.setSubscription(try self.topic(topic), exists: true) }
  }

  /// The opposite of `subscribe`, with the same text.
  public func unsubscribe(_ topic: String) async throws {
    try await publicly { try await core.api.setSubscription(try self.topic(topic), exists: false) }
  }

  /// What this client is subscribed to, at every node.
  public func subscriptions() async throws -> [TopicSubscription] {
    try await publicly {
      try await core.api.subscriptions().map { TopicSubscription(topic: "\($0.topic)", sinceMs: $0.sinceMs) }
    }
  }

  /// Who would get a message published now, by address.
  public func topicMembers(_ topic: String) async throws -> [String] {
    try await publicly { try await core.api.members(of: try concrete(topic)).map(\.text) }
  }

  /// Seals a message for every device of every member and hands it to the home node: one envelope for each
  /// organisation, so that none of them learns who listens elsewhere. The publisher does not get it.
  ///
  /// - Parameter retain: keep it as the topic's last value: members who join later get it too, whenever this
  ///   client is running or its command line is used. It replaces the value before it.
  /// - Throws: `EngramError` when nothing was kept: bad input, a topic whose node cannot be asked.
  public func publish(
    _ topic: String, body: [UInt8], contentType: String = "text/plain; charset=utf-8",
    options: SendOptions = .broadcast, retain: Bool = false
  ) async throws -> PublishedMessage {
    try await publicly {
      let target = try concrete(topic)
      var draft = try template(body, contentType, options)
      draft.topic = target.pattern.text
      let members = try await core.api.members(of: target).filter { $0 != core.account.address }
      if retain {
        try await core.api.setRetained(target, exists: true)
        let value = draft
        try await core.commit { try $0.setRetained(target, value, served: members) }
      }
      let message = try await published(draft, to: members, topic: "\(target)")
      if retain {
        try await core.leave(message.unreached.compactMap { try? Address($0.address) }, unservedAt: target)
      }
      return message
    }
  }

  /// Forgets the last value of a topic. Who has had it keeps it.
  /// - Returns: false when there was none.
  @discardableResult
  public func forgetRetained(_ topic: String) async throws -> Bool {
    try await publicly {
      let target = try concrete(topic)
      let existed = try await core.commit { try $0.removeRetained(target) }
      try await core.api.setRetained(target, exists: false)
      return existed
    }
  }

  /// Topics of which this client keeps the last value.
  public func retainedTopics() async throws -> [String] {
    try await publicly { try await core.read { try $0.retainedTopics().map { "\($0)" } } }
  }

  /// Seals a message for every client of this node. Only for clients that the node's operator lets do so.
  public func broadcast(
    body: [UInt8], contentType: String = "text/plain; charset=utf-8", options: SendOptions = .broadcast
  ) async throws -> PublishedMessage {
    try await publicly {
      let draft = try template(body, contentType, options)
      let everybody: [Address]
      do { everybody = try await core.api.allAddresses().filter { $0 != core.account.address } } catch let
        error as EngramError where error.registered == .notPermitted
      {
        throw EngramError(
          error.kind, .notPermitted,
          hint: "the node's operator says who may: `broadcast` in [permissions] of federation.toml")
      }
      return try await published(draft, to: everybody, topic: nil)
    }
  }

  // MARK: - Steps

  private func topic(_ text: String) throws -> TopicAddress {
    do throws(CodecError) { return try TopicAddress(text, home: core.account.address.node) } catch {
      throw EngramError(
        .badInput, .topicInvalid,
        hint: "for instance orders.new, or #orders.new@globex.example at another node")
    }
  }

  private func concrete(_ text: String) throws -> TopicAddress {
    let topic = try topic(text)
    guard topic.topic != nil else { throw EngramError(.badInput, .wildcardPublish) }
    return topic
  }

  /// Everything of the message but its recipients, checked as for `send`.
  private func template(_ body: [UInt8], _ contentType: String, _ options: SendOptions) throws -> Draft {
    guard options.messageID == nil else {
      throw EngramError(
        .badInput, name: "bad-message-id",
        "a message for many is several messages, each with an id of its own")
    }
    // A message to oneself is the shortest one that is complete.
    var draft = try Draft(
      OutgoingMessage(to: [address], body: body, contentType: contentType, options: options),
      nowMs: core.nowMs())
    draft.recipients = []
    return draft
  }

  private func published(
    _ draft: Draft, to members: [Address], topic: String?
  ) async throws -> PublishedMessage {
    await core.maintainIfDue()
    let publication = try await core.publish(draft, to: members)
    return PublishedMessage(
      topic: topic, memberCount: members.count,
      messages: try await results(publication.drafts, [:], publication.outcomes),
      unreached: publication.unreached.map { UnreachedMember(address: $0.address.text, error: $0.error) })
  }
}

extension SendOptions {
  /// The defaults of a message for many.
  public static var broadcast: SendOptions {
    var options = SendOptions()
    options.type = MessageType.broadcast.name
    return options
  }
}
