package import EngramCore
internal import EngramStore
internal import Synchronization

/// Bounds of topics at one node, with their reasons.
package enum TopicLimits {
  /// More words than anybody follows; a list of them fits into one answer.
  package static let subscriptionsPerClientMax = 1_000
  /// What the clients of one peer may take of this node's table, here and there together.
  package static let subscriptionsPerPeerMax = 50_000
  /// Publishing looks at every subscription whose first word fits, so the table stays scannable.
  package static let subscriptionsMax = 200_000
  /// Addresses are cut off here: ten bytes below the largest, a page of any addresses fits into an answer.
  static let pageBytesMax = Limits.responseBytesMax - 1_024
  /// New members that a publisher's device has not heard of yet; beyond it the device asks for all members
  /// anyway.
  package static let noticesPerMailboxMax = 1_000
  /// Publishers told of one new member.
  static let publishersToldMax = 1_000
}

/// Asks another organisation's node on behalf of our clients; the federation sets it.
package protocol RequestPort: Sendable {
  func ask(
    _ kind: RequestKind, _ payload: [UInt8], of peer: NodeName,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void)
}

// A topic lives at one node, its home, which keeps the members. Our client's wish goes there over the link,
// and here stays a row that remembers it.
//
//   subscribe   client → its node → [link] → home: row, committed → here: row, committed → client
//   publish     client → its node → [link] → home: members, never cached → client seals for each of them
//   changed     home: row new or gone → publishers that keep a last value: a notice, over the link where they
//               are another node's clients
//
// A peer speaks for its own clients and for nobody else: `answer` compares every address with the link's
// peer.

extension Node {
  /// Set by the federation; without it only topics of this node can be reached.
  package func setRequestPort(_ port: (any RequestPort)?) { requestPort.withLock { $0 = port } }

  // MARK: - For clients

  /// Makes the client a member of every topic that the pattern matches, from the next publication on. Durable
  /// at the topic's node when `none` comes back; asking twice changes nothing.
  package func subscribe(
    _ topic: TopicAddress, _ session: ClientSession, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let wish = TopicMembershipRequest(pattern: topic.pattern, address: session.address, kid: session.kid)
    carry(.topicSubscribe, wish.encoded(), to: topic.node, completion) { [self] code in
      commit(wish, joins: true, at: topic.node, completion: code)
    }
  }

  /// The opposite; also what was never subscribed ends as not subscribed.
  package func unsubscribe(
    _ topic: TopicAddress, _ session: ClientSession, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    let wish = TopicMembershipRequest(pattern: topic.pattern, address: session.address, kid: session.kid)
    carry(.topicUnsubscribe, wish.encoded(), to: topic.node, completion) { [self] code in
      commit(wish, joins: false, at: topic.node, completion: code)
    }
  }

  package func subscriptions(_ session: ClientSession) throws(ErrorCode) -> [(TopicAddress, sinceMs: UInt64)]
  {
    try reading { snapshot in
      try snapshot.subscriptions(of: session.address).map {
        (TopicAddress($0.pattern, at: $0.node), sinceMs: $0.sinceMs)
      }
    }
  }

  /// One page of a topic's members, asked of its home node each time: who left a moment ago is not in it.
  /// Blocks on the store where that is this node.
  /// - Parameter topic: without wildcards, otherwise `wildcard-publish`.
  package func topicMembers(
    _ topic: TopicAddress, after: Address?,
    completion: @escaping @Sendable (Result<TopicMembersPage, ErrorCode>) -> Void
  ) {
    guard let concrete = topic.topic else { return completion(.failure(.wildcardPublish)) }
    if topic.node == identity.name { return completion(localMembers(concrete, after: after)) }
    let request = TopicMembersRequest(topic: concrete, after: after)
    ask(.topicMembers, request.encoded(), of: topic.node) { result in
      completion(
        result.flatMap { answer in
          do throws(CodecError) {
            let page = try TopicMembersPage(parsing: answer[...])
            // A page that does not go on would be asked for for ever.
            if let after, let first = page.members.first, first <= after { return .failure(.nonCanonical) }
            return .success(page)
          } catch { return .failure(error.code) }
        })
    }
  }

  /// Has the client told of new members of a topic whose last value it keeps, or no longer.
  package func retain(
    _ topic: TopicAddress, keeps: Bool, _ session: ClientSession,
    completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    guard let concrete = topic.topic else { return completion(.wildcardPublish) }
    let wish = TopicRetainRequest(topic: concrete, address: session.address, keeps: keeps)
    carry(.topicRetain, wish.encoded(), to: topic.node, completion) { [self] code in
      commit(wish, at: topic.node, completion: code)
    }
  }

  /// Asks the topic's home node, if that is another one, and goes on here once it agreed. Where it is no peer
  /// any more, an end is an end: there is nobody left who would act on the membership.
  private func carry(
    _ kind: RequestKind, _ payload: [UInt8], to node: NodeName,
    _ completion: @escaping @Sendable (ErrorCode) -> Void,
    then commit: @escaping @Sendable (@escaping @Sendable (ErrorCode) -> Void) -> Void
  ) {
    if node == identity.name { return commit(completion) }
    ask(kind, payload, of: node) { result in
      switch result {
      case .failure(.noRoute) where kind == .topicUnsubscribe: commit(completion)
      case .failure(let code): completion(code)
      case .success: commit(completion)
      }
    }
  }

  private func ask(
    _ kind: RequestKind, _ payload: [UInt8], of node: NodeName,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    guard let known = roster.peer(node), known.peer.isEnabled else { return completion(.failure(.noRoute)) }
    guard let port = requestPort.withLock({ $0 }) else { return completion(.failure(.peerUnreachable)) }
    port.ask(kind, payload, of: node, completion: completion)
  }

  // MARK: - For peers

  /// A peer's request on behalf of its clients. Blocks on the store; the completion comes on this thread or
  /// the commit thread.
  package func answer(
    kind: UInt8, _ payload: [UInt8], from peer: NodeName,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    let done: @Sendable (ErrorCode) -> Void = { completion($0 == .none ? .success([]) : .failure($0)) }
    do throws(CodecError) {
      switch RequestKind(rawValue: kind) {
      case .topicSubscribe, .topicUnsubscribe:
        let wish = try TopicMembershipRequest(parsing: payload[...])
        guard wish.address.node == peer else { return done(.wrongHome) }
        commit(wish, joins: kind == RequestKind.topicSubscribe.rawValue, at: identity.name, completion: done)
      case .topicMembers:
        let request = try TopicMembersRequest(parsing: payload[...])
        completion(localMembers(request.topic, after: request.after).map { $0.encoded() })
      case .topicRetain:
        let wish = try TopicRetainRequest(parsing: payload[...])
        guard wish.address.node == peer else { return done(.wrongHome) }
        commit(wish, at: identity.name, completion: done)
      case .topicChanged:
        let news = try TopicChangedRequest(parsing: payload[...])
        guard news.kept.allSatisfy({ $0.publisher.node == identity.name }) else { return done(.wrongHome) }
        deposit(news, from: peer, completion: done)
      case .templates, nil: done(.notSupported)
      }
    } catch { done(error.code) }
  }

  // MARK: - Here

  private func localMembers(_ topic: Topic, after: Address?) -> Result<TopicMembersPage, ErrorCode> {
    do throws(ErrorCode) {
      let most = Limits.topicMembersPerPageMax
      let found = try reading {
        try $0.members(of: topic, at: identity.name, after: after, maxCount: most + 1)
      }
      var (members, bytes) = ([Address](), 0)
      for member in found.prefix(most) {
        bytes += member.text.utf8.count + 4
        guard bytes <= TopicLimits.pageBytesMax else { break }
        members.append(member)
      }
      return .success(TopicMembersPage(hasMore: members.count < found.count, members: members))
    } catch { return .failure(error) }
  }

  /// Writes or removes a subscription; at the topic's home its publishers are told in the same transaction.
  private func commit(
    _ wish: TopicMembershipRequest, joins: Bool, at node: NodeName,
    completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        let changed: Bool
        if joins {
          let row = SubscriptionRow(
            node: node, pattern: wish.pattern, address: wish.address, kid: wish.kid, sinceMs: group.nowMs)
          changed = try group.transaction.insertSubscription(row)
          if changed { try keepBounds(try group.transaction.subscriptionCounts(for: wish.address)) }
        } else {
          changed = try group.transaction.removeSubscription(wish.pattern, at: node, of: wish.address)
        }
        let far =
          changed && node == identity.name
          ? try tellPublishers(of: wish.pattern, about: wish.address, joined: joins, in: group) : []
        group.afterCommit { [self] _ in
          completion(.none)
          for (peer, news) in far { ask(.topicChanged, news.encoded(), of: peer) { _ in } }
        }
      } refused: {
        completion($0)
      })
  }

  private func commit(
    _ wish: TopicRetainRequest, at node: NodeName, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    commitLoop.submit(
      CommitCommand(weight: 1) { [self] group in
        let row = RetainRow(node: node, topic: wish.topic, address: wish.address)
        if wish.keeps {
          try group.transaction.insertRetain(row)
          try keepBounds(try group.transaction.retainCounts(for: wish.address))
        } else {
          try group.transaction.removeRetain(row)
        }
        group.afterCommit { _ in completion(.none) }
      } refused: {
        completion($0)
      })
  }

  /// After the insertion, which its savepoint takes back when this throws.
  private func keepBounds(_ counts: TopicCounts) throws {
    guard counts.ofClient <= TopicLimits.subscriptionsPerClientMax,
      counts.ofClientsNode <= TopicLimits.subscriptionsPerPeerMax, counts.all <= TopicLimits.subscriptionsMax
    else { throw ErrorCode.quotaExceeded }
  }

  // MARK: - Publishers that keep a last value

  /// - Returns: what peers are to be told after the commit. A peer that cannot be reached is not told again:
  ///   its clients look at the members of their topics from time to time.
  private func tellPublishers(
    of pattern: TopicPattern, about member: Address, joined: Bool, in group: CommitGroup
  ) throws -> [(NodeName, TopicChangedRequest)] {
    let kept = try group.transaction.retained(
      matching: pattern, at: identity.name, maxCount: TopicLimits.publishersToldMax)
    var far: [NodeName: [TopicChangedRequest.Kept]] = [:]
    for row in kept where row.address != member {
      if row.address.node == identity.name {
        let notice = TopicMembershipNotice(
          topic: row.topic, node: identity.name, member: member, joined: joined)
        try notify(row.address, notice, in: group)
      } else {
        far[row.address.node, default: []].append(.init(topic: row.topic, publisher: row.address))
      }
    }
    return far.sorted { $0.key < $1.key }.flatMap { node, pairs in
      stride(from: 0, to: pairs.count, by: Limits.topicNoticesPerRequestMax).map { start in
        let part = pairs[start..<min(start + Limits.topicNoticesPerRequestMax, pairs.count)]
        return (node, TopicChangedRequest(member: member, joined: joined, kept: Array(part)))
      }
    }
  }

  /// A peer tells who came or went at one of its topics. Only clients that asked for it hear of it.
  private func deposit(
    _ news: TopicChangedRequest, from peer: NodeName, completion: @escaping @Sendable (ErrorCode) -> Void
  ) {
    commitLoop.submit(
      CommitCommand(weight: max(1, news.kept.count)) { [self] group in
        for pair in news.kept {
          let row = RetainRow(node: peer, topic: pair.topic, address: pair.publisher)
          guard try group.transaction.isRetained(row) else { continue }
          let notice = TopicMembershipNotice(
            topic: pair.topic, node: peer, member: news.member, joined: news.joined)
          try notify(pair.publisher, notice, in: group)
        }
        group.afterCommit { _ in completion(.none) }
      } refused: {
        completion($0)
      })
  }

  /// Puts a notice into the mailbox of each of a client's devices.
  private func notify(_ address: Address, _ notice: TopicMembershipNotice, in group: CommitGroup) throws {
    let bytes = NodeNotice(kind: .topicMembership, payload: notice.encoded()).encoded()
    for device in try group.transaction.devices(of: address) {
      guard let mailbox = device.mailbox,
        try group.transaction.noticeCount(mailbox, kind: .notice) < TopicLimits.noticesPerMailboxMax
      else { continue }
      try group.transaction.insertNotice(
        mailbox: mailbox, seq: try group.nextSeq(mailbox), kind: .notice, bytes: bytes,
        nowMs: group.nowMs)
      // Readers of fresh rows know receipts only.
      group.putUnseen(in: mailbox)
    }
  }
}
