import EngramClientStore
import EngramCore
import EngramCrypto
import Foundation
import Synchronization
import Testing

@testable import EngramClient

@Suite("Topics, last values and presence")
struct TopicTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient
  private let carol: EngramClient
  private let dave: EngramClient

  init() async throws {
    world = try TestWorld()
    alice = try await world.register("alice", at: world.acme)
    carol = try await world.register("carol", at: world.acme)
    bob = try await world.register("bob", at: world.globex)
    dave = try await world.register("dave", at: world.globex)
  }

  private func texts(_ client: EngramClient) async throws -> [String] {
    let messages = try await client.receive()
    try await client.acknowledge(messages.map(\.envelopeID))
    return messages.map { String(decoding: $0.body, as: UTF8.self) }
  }

  private func headers(_ node: FakeNode) throws -> [EnvelopeHeader] {
    try node.state.withLock { $0.posted }.map { try UnverifiedEnvelope(parsing: $0).header }
  }

  @Test("a message reaches every member, in one envelope for each organisation, and not its publisher")
  func publishing() async throws {
    for client in [alice, carol, bob, dave] { try await client.subscribe("orders.*@acme.example") }
    let published = try await alice.publish("orders.new", body: Array("4711".utf8))
    #expect(published.topic == "#orders.new@acme.example" && published.memberCount == 3)
    #expect(published.messages.map(\.state) == [.accepted, .accepted] && published.unreached.isEmpty)
    for client in [carol, bob, dave] { #expect(try await texts(client) == ["4711"]) }
    #expect(try await texts(alice).isEmpty)
    let headers = try headers(world.acme)
    #expect(headers.map(\.topic) == ["orders.new", "orders.new"])
    #expect(headers.map(\.type) == [.broadcast, .broadcast])
    #expect(headers.map { Set($0.recipients.map(\.address.node)).count } == [1, 1])
    #expect(Set(headers.map(\.messageID)).count == 2 && Set(headers.map(\.thread)).count == 1)
  }

  @Test("who listens in one organisation is in no envelope for another")
  func apart() async throws {
    for client in [carol, bob, dave] { try await client.subscribe("orders.new@acme.example") }
    _ = try await alice.publish("orders.new", body: [1])
    let foreign = world.globex.waiting(for: bob.core.account.kid)
    let envelope = try UnverifiedEnvelope(parsing: try #require(foreign.first).payload)
    #expect(Set(envelope.header.recipients.map(\.address.text)) == [bob.address, dave.address])
    // The control: one ordinary message for all of them does show everybody.
    _ = try await alice.send(to: [carol.address, bob.address], body: [2])
    let both = try UnverifiedEnvelope(
      parsing: try #require(world.globex.waiting(for: bob.core.account.kid).last).payload)
    #expect(both.header.recipients.contains { $0.address.text == carol.address })
  }

  @Test("who has left gets nothing of the next publication")
  func leaving() async throws {
    try await bob.subscribe("orders.>@acme.example")
    try await dave.subscribe("orders.>@acme.example")
    _ = try await alice.publish("orders.new", body: Array("one".utf8))
    try await bob.unsubscribe("orders.>@acme.example")
    _ = try await alice.publish("orders.new", body: Array("two".utf8))
    #expect(try await texts(bob) == ["one"])
    #expect(try await texts(dave) == ["one", "two"])
    #expect(try await bob.subscriptions().isEmpty)
    #expect(try await dave.subscriptions().map(\.topic) == ["#orders.>@acme.example"])
  }

  @Test("nothing is published to a pattern, and what is no topic is refused before anybody is asked")
  func badTopics() async throws {
    world.acme.set { $0.isReachable = false }
    for (topic, code) in [
      ("orders.*", ErrorCode.wildcardPublish), (">", .wildcardPublish), ("Orders", .topicInvalid),
    ] {
      do {
        _ = try await alice.publish(topic, body: [1])
        Issue.record("\(topic) was taken")
      } catch let error as EngramError {
        #expect(error.code == code.rawValue && error.kind == .badInput)
      }
    }
    await #expect(throws: EngramError.self) { try await alice.subscribe("a..b") }
  }

  @Test("a member that nothing can be sealed for is left out and named; the others get the message")
  func unreached() async throws {
    for client in [bob, dave] { try await client.subscribe("orders.new@acme.example") }
    let gone = try Address(bob.address)
    world.globex.set { $0.twist = { body in if body.address == gone { body.bundles = [] } } }
    let published = try await alice.publish("orders.new", body: Array("x".utf8))
    #expect(published.unreached.map(\.address) == [bob.address] && published.memberCount == 2)
    #expect(try await texts(dave) == ["x"])
    #expect(try await texts(bob).isEmpty)
  }

  @Test("members whose organisation cannot be reached get it later; the others at once")
  func waiting() async throws {
    for client in [carol, bob] { try await client.subscribe("orders.new@acme.example") }
    world.globex.set { $0.isReachable = false }
    let published = try await alice.publish("orders.new", body: Array("x".utf8))
    #expect(published.messages.count == 2)
    #expect(published.messages.filter { $0.state == .accepted }.count == 1)
    #expect(try await texts(carol) == ["x"])
    world.globex.set { $0.isReachable = true }
    #expect(try await alice.resendOutbox() == 1)
    #expect(try await texts(bob) == ["x"])
  }

  @Test("members come in pages, and a node that answers nonsense is not followed")
  func pages() async throws {
    for client in [carol, bob, dave] { try await client.subscribe("orders.new@acme.example") }
    world.acme.set { $0.topics.pageMax = 1 }
    let expected = [bob.address, carol.address, dave.address]
    #expect(try await alice.topicMembers("orders.new") == expected)
    let lies = [
      "{\"members\":[\"b@acme.example\",\"a@acme.example\"],\"more\":false}",
      "{\"members\":[\"a@acme.example\"],\"more\":true}", "{\"members\":[\"A\"],\"more\":false}", "{}",
    ]
    for lie in lies {
      world.acme.set { $0.topics.lie = lie }
      await #expect(throws: EngramError.self, "\(lie)") { try await alice.topicMembers("orders.new") }
    }
  }

  @Test("two organisations with more devices than an envelope may have recipients get several")
  func chunks() throws {
    // The rule alone: sealing for a thousand devices takes seconds.
    let members = try (0..<2_500).map { try Address("c\(10_000 + $0)@globex.example") }
    let parts = ClientCore.parts(of: members.map { ($0, 1) })
    #expect(parts.map(\.count) == [1_000, 1_000, 500])
    #expect(parts.flatMap { $0 } == members)
    let many = ClientCore.parts(of: members.prefix(200).map { ($0, nil) })
    #expect(many.map(\.count) == [62, 62, 62, 14], "unknown devices count as many as there may be")
  }

  // MARK: - Last values

  @Test("who joins later gets the last value, once; who has had it gets nothing again")
  func retained() async throws {
    try await carol.subscribe("config.*")
    for value in ["one", "two"] {
      _ = try await alice.publish("config.limits", body: Array(value.utf8), retain: true)
    }
    #expect(try await texts(carol) == ["one", "two"])
    try await bob.subscribe("config.limits@acme.example")
    #expect(try await texts(bob).isEmpty, "the publisher has not been there yet")
    _ = try await alice.receive()
    #expect(try await texts(bob) == ["two"])
    _ = try await alice.receive()
    #expect(try await texts(bob).isEmpty)
    #expect(try await texts(carol).isEmpty)
    #expect(world.acme.waiting(for: alice.core.account.kid).allSatisfy { $0.kind != .notice }, "acknowledged")
  }

  @Test("who leaves and joins again gets the value again")
  func rejoining() async throws {
    try await bob.subscribe("config.limits@acme.example")
    _ = try await alice.publish("config.limits", body: Array("v".utf8), retain: true)
    #expect(try await texts(bob) == ["v"])
    try await bob.unsubscribe("config.limits@acme.example")
    try await bob.subscribe("config.limits@acme.example")
    _ = try await alice.receive()
    #expect(try await texts(bob) == ["v"])
  }

  @Test("a member that the value could not be sealed for gets it as soon as it can be")
  func retriedMember() async throws {
    try await bob.subscribe("config.limits@acme.example")
    let gone = try Address(bob.address)
    world.globex.set { $0.twist = { body in if body.address == gone { body.bundles = [] } } }
    _ = try await alice.publish("config.limits", body: Array("v".utf8), retain: true)
    _ = try await alice.receive()
    #expect(try await texts(bob).isEmpty, "the control: it could not be sealed")
    world.globex.set { $0.twist = nil }
    await alice.close()
    let again = try world.reopen("alice", at: world.acme)
    _ = try await again.receive()
    #expect(try await texts(bob) == ["v"])
  }

  @Test("a value outlives the process that published it, and is found even when no notice came")
  func afterRestart() async throws {
    _ = try await alice.publish("config.limits", body: Array("v".utf8), retain: true)
    await alice.close()
    world.acme.set { $0.topics.retainers = [:] }
    try await bob.subscribe("config.limits@acme.example")
    let again = try world.reopen("alice", at: world.acme)
    #expect(try await again.retainedTopics() == ["#config.limits@acme.example"])
    _ = try await again.receive()
    #expect(try await texts(bob) == ["v"])
  }

  @Test("a forgotten value goes to nobody")
  func forgotten() async throws {
    _ = try await alice.publish("config.limits", body: Array("v".utf8), retain: true)
    #expect(try await alice.forgetRetained("config.limits"))
    #expect(try await !alice.forgetRetained("config.limits"))
    try await bob.subscribe("config.limits@acme.example")
    _ = try await alice.receive()
    #expect(try await texts(bob).isEmpty)
    #expect(try await alice.retainedTopics().isEmpty)
  }

  @Test("the value is sealed at rest")
  func atRest() async throws {
    let secret = "the last value of config.limits"
    _ = try await alice.publish("config.limits", body: Array(secret.utf8), retain: true)
    await alice.close()
    let bytes = try Data(contentsOf: URL(filePath: world.folder + "/alice/client.db"))
    #expect(bytes.range(of: Data(secret.utf8)) == nil)
    #expect(
      bytes.range(of: Data("config.limits@acme.example".utf8)) != nil, "the control: the topic is clear")
  }

  // MARK: - Everybody

  @Test("a broadcast goes to every client of the node, if the operator allows it")
  func broadcast() async throws {
    await #expect(throws: EngramError.self) { try await alice.broadcast(body: [1]) }
    world.acme.set { $0.topics.maySeeAll = true }
    let published = try await alice.broadcast(body: Array("noon".utf8))
    #expect(published.topic == nil && published.memberCount == 1)
    #expect(try await texts(carol) == ["noon"])
    #expect(try await texts(bob).isEmpty, "another organisation's clients are not this node's")
  }

  @Test("a heartbeat tells the node, and with recipients also them")
  func heartbeat() async throws {
    #expect(try await alice.heartbeat(state: "busy") == nil)
    #expect(try await carol.agentStatus(alice.address).state == "busy")
    #expect(try await carol.activeAgents().map(\.address) == [alice.address])
    let sent = try await alice.heartbeat(state: "offline", note: "bye", to: [bob.address])
    #expect(sent?.state == .accepted)
    let message = try #require(try await bob.receive().first)
    #expect(message.type == "SHUTDOWN" && String(decoding: message.body, as: UTF8.self).contains("bye"))
    await #expect(throws: EngramError.self) { try await alice.heartbeat(state: "asleep") }
  }
}
