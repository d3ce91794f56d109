import EngramCore
import EngramCrypto
import EngramNode
import Synchronization
import TestSupport
import Testing

/// The link between nodes, reduced to its requests: what one asks, the other answers, as that peer.
final class RequestWire: RequestPort {
  private let from: NodeName
  private let others: Mutex<[NodeName: Node]>
  let isUp = Atomic<Bool>(true)

  init(from: NodeName, to others: [Node]) {
    self.from = from
    self.others = Mutex(Dictionary(uniqueKeysWithValues: others.map { ($0.identity.name, $0) }))
  }

  func ask(
    _ kind: RequestKind, _ payload: [UInt8], of peer: NodeName,
    completion: @escaping @Sendable (Result<[UInt8], ErrorCode>) -> Void
  ) {
    guard isUp.load(ordering: .relaxed), let node = others.withLock({ $0[peer] }) else {
      return completion(.failure(.peerUnreachable))
    }
    node.answer(kind: kind.rawValue, payload, from: from, completion: completion)
  }
}

@Suite("Topics of two nodes")
struct TopicTests {
  let acme: NodeFixture
  let globex: NodeFixture
  let wire: RequestWire
  let alice: ClientSession
  let bob: ClientSession
  let carol: ClientSession

  init() throws {
    (acme, globex) = try NodeFixture.federation()
    wire = RequestWire(from: globex.node.identity.name, to: [acme.node])
    globex.node.setRequestPort(wire)
    acme.node.setRequestPort(RequestWire(from: acme.node.identity.name, to: [globex.node]))
    alice = try acme.join(try TestDevice("alice@acme.example"))
    bob = try globex.join(try TestDevice("bob@globex.example"))
    carol = try acme.join(try TestDevice("carol@acme.example"))
  }

  private func topic(_ text: String) throws -> TopicAddress { try TopicAddress(text) }

  private func subscribe(_ text: String, _ session: ClientSession, at node: NodeFixture) throws -> ErrorCode {
    let topic = try topic(text)
    return node.wait { node.node.subscribe(topic, session, completion: $0) }
  }

  private func unsubscribe(_ text: String, _ session: ClientSession, at node: NodeFixture) throws -> ErrorCode
  {
    let topic = try topic(text)
    return node.wait { node.node.unsubscribe(topic, session, completion: $0) }
  }

  private func members(_ text: String, at node: NodeFixture) throws -> [String] {
    let topic = try topic(text)
    let page = try node.wait { node.node.topicMembers(topic, after: nil, completion: $0) }.get()
    #expect(!page.hasMore)
    return page.members.map(\.text)
  }

  private func ask(_ kind: RequestKind, _ payload: [UInt8], as peer: NodeFixture) -> Result<
    [UInt8], ErrorCode
  > {
    acme.wait {
      acme.node.answer(kind: kind.rawValue, payload, from: peer.node.identity.name, completion: $0)
    }
  }

  @Test("members of both nodes are the same wherever they are asked for, and changes count at once")
  func acrossNodes() throws {
    #expect(try subscribe("orders.*@acme.example", bob, at: globex) == .none)
    #expect(try subscribe("orders.new@acme.example", carol, at: acme) == .none)
    for node in [acme, globex] {
      #expect(
        try members("orders.new@acme.example", at: node) == ["bob@globex.example", "carol@acme.example"])
      #expect(try members("orders.old@acme.example", at: node) == ["bob@globex.example"])
      #expect(try members("orders@acme.example", at: node).isEmpty)
    }
    #expect(try globex.node.subscriptions(bob).map(\.0.text) == ["orders.*@acme.example"])
    #expect(try acme.node.subscriptions(alice).isEmpty)

    #expect(try unsubscribe("orders.*@acme.example", bob, at: globex) == .none)
    #expect(try members("orders.new@acme.example", at: globex) == ["carol@acme.example"])
    #expect(try members("orders.new@acme.example", at: acme) == ["carol@acme.example"])
    #expect(try globex.node.subscriptions(bob).isEmpty)
  }

  @Test("subscriptions survive a restart of the topic's node")
  func durable() throws {
    #expect(try subscribe("orders.>@acme.example", bob, at: globex) == .none)
    try acme.stop()
    let again = try NodeFixture("acme.example", clock: acme.clock, directory: acme.directory)
    #expect(try members("orders.new@acme.example", at: again) == ["bob@globex.example"])
  }

  @Test("a topic's node that cannot be asked is an answer, and nothing is remembered as subscribed")
  func unreachable() throws {
    wire.isUp.store(false, ordering: .relaxed)
    #expect(try subscribe("orders.*@acme.example", bob, at: globex) == .peerUnreachable)
    #expect(try globex.node.subscriptions(bob).isEmpty)
    #expect(try subscribe("orders.*@initech.example", bob, at: globex) == .noRoute)
    wire.isUp.store(true, ordering: .relaxed)
    #expect(try subscribe("orders.*@acme.example", bob, at: globex) == .none, "the control")
  }

  @Test("a subscription at a node that is no peer any more can still be ended")
  func goneNode() throws {
    #expect(try subscribe("orders.*@acme.example", bob, at: globex) == .none)
    try globex.node.setPeers([])
    #expect(try subscribe("alerts@acme.example", bob, at: globex) == .noRoute)
    #expect(try unsubscribe("orders.*@acme.example", bob, at: globex) == .none)
    #expect(try globex.node.subscriptions(bob).isEmpty)
  }

  @Test("a pattern cannot be published to")
  func wildcards() throws {
    for text in ["orders.*@acme.example", "orders.>@globex.example"] {
      let topic = try topic(text)
      let result = acme.wait { acme.node.topicMembers(topic, after: nil, completion: $0) }
      #expect(result == .failure(.wildcardPublish))
      #expect(acme.wait { acme.node.retain(topic, keeps: true, alice, completion: $0) } == .wildcardPublish)
    }
  }

  @Test("a peer may not speak for clients that are not its own")
  func foreignClients() throws {
    #expect(try subscribe("orders.new@acme.example", carol, at: acme) == .none)
    let pattern = try TopicPattern("orders.new")
    for name in ["carol@acme.example", "dave@initech.example"] {
      let address = try Address(name)
      let wish = TopicMembershipRequest(pattern: pattern, address: address, kid: bob.kid).encoded()
      #expect(ask(.topicSubscribe, wish, as: globex) == .failure(.wrongHome))
      #expect(ask(.topicUnsubscribe, wish, as: globex) == .failure(.wrongHome))
      let keep = TopicRetainRequest(topic: try Topic("orders.new"), address: address, keeps: true).encoded()
      #expect(ask(.topicRetain, keep, as: globex) == .failure(.wrongHome))
    }
    #expect(try members("orders.new@acme.example", at: acme) == ["carol@acme.example"])
    let own = TopicMembershipRequest(pattern: pattern, address: bob.address, kid: bob.kid).encoded()
    #expect(ask(.topicSubscribe, own, as: globex) == .success([]), "the control: its own client")
  }

  @Test("requests that are malformed or of an unknown kind are answered with their code")
  func badRequests() throws {
    #expect(ask(.topicSubscribe, [1, 2], as: globex) == .failure(.malformed))
    #expect(ask(.templates, [], as: globex) == .failure(.notSupported))
    let unknown = acme.wait {
      acme.node.answer(kind: 200, [], from: globex.node.identity.name, completion: $0)
    }
    #expect(unknown == .failure(.notSupported))
    let wildcard = fields {
      $0.field("orders.*")
      $0.field("")
    }
    #expect(ask(.topicMembers, wildcard, as: globex) == .failure(.nonCanonical))
  }

  @Test("one client has a bounded number of subscriptions; what was there stays")
  func bounds() throws {
    for index in 0..<TopicLimits.subscriptionsPerClientMax {
      #expect(try subscribe("t\(index)@acme.example", carol, at: acme) == .none)
    }
    #expect(try subscribe("more@acme.example", carol, at: acme) == .quotaExceeded)
    #expect(try subscribe("t5@acme.example", carol, at: acme) == .none, "one that it has already")
    #expect(try members("more@acme.example", at: acme).isEmpty)
    #expect(try acme.node.subscriptions(carol).count == TopicLimits.subscriptionsPerClientMax)
    #expect(try subscribe("more@acme.example", alice, at: acme) == .none, "the control: another client")
  }

  @Test("members come in pages, and the next one begins where the last ended")
  func pages() throws {
    // More than fit into one answer, at a node that only this test's rows bound.
    let count = Limits.topicMembersPerPageMax + 5
    let pattern = try TopicPattern("orders.new")
    for index in 0..<count {
      let address = try Address("c\(1_000_000 + index)@globex.example")
      let wish = TopicMembershipRequest(pattern: pattern, address: address, kid: bob.kid).encoded()
      #expect(ask(.topicSubscribe, wish, as: globex) == .success([]))
    }
    let topic = try topic("orders.new@acme.example")
    let first = try globex.wait { globex.node.topicMembers(topic, after: nil, completion: $0) }.get()
    #expect(first.hasMore && first.members.count == Limits.topicMembersPerPageMax)
    let last = first.members.last
    let second = try globex.wait { globex.node.topicMembers(topic, after: last, completion: $0) }.get()
    #expect(!second.hasMore && second.members.count == 5)
    #expect(Set(first.members + second.members).count == count)
  }

  // MARK: - Last values

  private func notices(_ session: ClientSession, at node: NodeFixture) throws -> [TopicMembershipNotice] {
    try node.items(session).filter { $0.kind == .notice }.map { item in
      try TopicMembershipNotice(parsing: try NodeNotice(parsing: item.payload[...]).payload[...])
    }
  }

  private func retain(_ text: String, _ session: ClientSession, at node: NodeFixture) throws -> ErrorCode {
    let topic = try topic(text)
    return node.wait { node.node.retain(topic, keeps: true, session, completion: $0) }
  }

  @Test("a publisher that keeps a value hears of new members, once each, and can acknowledge that")
  func notices() throws {
    #expect(try retain("orders.new@acme.example", alice, at: acme) == .none)
    #expect(try subscribe("orders.*@acme.example", bob, at: globex) == .none)
    #expect(try subscribe("orders.*@acme.example", bob, at: globex) == .none)
    #expect(try subscribe("other.*@acme.example", bob, at: globex) == .none)
    #expect(try subscribe("orders.new@acme.example", alice, at: acme) == .none, "not about itself")
    let expected = TopicMembershipNotice(
      topic: try Topic("orders.new"), node: acme.node.identity.name, member: bob.address, joined: true)
    #expect(try notices(alice, at: acme) == [expected])
    #expect(try notices(carol, at: acme).isEmpty, "who keeps nothing hears nothing")
    let items = try acme.items(alice).filter { $0.kind == .notice }
    #expect(acme.acknowledge([MailboxAck(seq: items[0].seq)], alice).map(\.outcome) == [.accepted])
    #expect(try notices(alice, at: acme).isEmpty)
  }

  @Test("a publisher at another node hears of new members over the link")
  func farNotices() throws {
    #expect(try retain("orders.new@acme.example", bob, at: globex) == .none)
    #expect(try subscribe("orders.>@acme.example", carol, at: acme) == .none)
    // The link's request comes after the commit; committing anything at both nodes waits for it.
    try acme.sweep()
    try globex.sweep()
    #expect(try notices(bob, at: globex).map(\.member) == [carol.address])
  }

  @Test("a peer cannot fill mailboxes of clients that never asked")
  func unasked() throws {
    let news = TopicChangedRequest(
      member: carol.address, joined: true,
      kept: [.init(topic: try Topic("orders.new"), publisher: bob.address)])
    func tell() -> Result<[UInt8], ErrorCode> {
      globex.wait {
        globex.node.answer(
          kind: RequestKind.topicChanged.rawValue, news.encoded(), from: acme.node.identity.name,
          completion: $0)
      }
    }
    #expect(tell() == .success([]))
    #expect(try notices(bob, at: globex).isEmpty)
    #expect(try retain("orders.new@acme.example", bob, at: globex) == .none)
    #expect(tell() == .success([]))
    #expect(try notices(bob, at: globex).count == 1, "the control: now it has asked")
    let foreign = TopicChangedRequest(
      member: bob.address, joined: true,
      kept: [.init(topic: try Topic("orders.new"), publisher: bob.address)])
    #expect(ask(.topicChanged, foreign.encoded(), as: globex) == .failure(.wrongHome))
  }

  @Test("news that nobody fetches stay within their bound")
  func noticesBound() throws {
    #expect(try retain("orders.new@acme.example", alice, at: acme) == .none)
    for index in 0..<(TopicLimits.noticesPerMailboxMax / 2 + 10) {
      #expect(try subscribe("orders.*@acme.example", carol, at: acme) == .none, "\(index)")
      #expect(try unsubscribe("orders.*@acme.example", carol, at: acme) == .none)
    }
    let items = try acme.items(alice)
    #expect(items.count { $0.kind == .notice } <= 1_000)
    #expect(try acme.node.pendingCount(mailbox: alice.mailbox) == TopicLimits.noticesPerMailboxMax)
  }
}
