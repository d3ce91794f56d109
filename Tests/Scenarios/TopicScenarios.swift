import EngramCore
import EngramWire
import Foundation
import TestSupport
import Testing

@Suite("topics and presence through running nodes, by command line", .serialized, .timeLimit(.minutes(5)))
struct TopicScenarios {
  private func publish(
    _ person: CommandLinePerson, _ topic: String, _ text: String, retain: Bool = false
  ) async throws -> [String: any Sendable] {
    let lines =
      retain
      ? try await person.lines("topic", "publish", topic, "--text", text, "--retain")
      : try await person.lines("topic", "publish", topic, "--text", text)
    return try #require(lines.first)
  }

  /// Texts of what waits, acknowledged.
  private func take(_ person: CommandLinePerson, atLeast count: Int = 1) async throws -> [String] {
    var texts: [String] = []
    _ = try await eventually {
      texts += try await person.lines("inbox", "--ack").compactMap { $0["body"] as? String }
      return texts.count >= count
    }
    return texts
  }

  @Test("subscribers of two organisations get what is published, by wildcards, until they leave")
  func acrossOrganisations() async throws {
    let (acme, globex) = try await Organisation.federation()
    let publisher = try await CommandLinePerson("publisher", of: acme)
    let near = try await CommandLinePerson("near", of: acme)
    let far = try await CommandLinePerson("far", of: globex)
    _ = try await near.run("topic", "subscribe", "orders.new").expected()
    _ = try await far.run("topic", "subscribe", "orders.>@acme.example").expected()
    let members = try await far.lines("topic", "members", "orders.new@acme.example")
    #expect(
      members.compactMap { $0["address"] as? String } == ["far@globex.example", "near@acme.example"])

    let first = try await publish(publisher, "orders.new", "4711")
    #expect((first["messages"] as? [Any])?.count == 2, "one envelope for each organisation")
    #expect(try await take(near) == ["4711"])
    #expect(try await take(far) == ["4711"])
    _ = try await publish(publisher, "orders.old.eu", "0815")
    #expect(try await take(far) == ["0815"], "> takes more than one word")

    _ = try await far.run("topic", "unsubscribe", "orders.>@acme.example").expected()
    let second = try await publish(publisher, "orders.new", "4712")
    #expect((second["messages"] as? [Any])?.count == 1)
    #expect(try await take(near) == ["4712"])
    #expect(try await far.lines("inbox").isEmpty, "whoever left gets nothing of the next one")
    #expect(try await far.lines("topic", "list").isEmpty)
  }

  @Test("an envelope for one organisation shows nobody of the other")
  func apart() async throws {
    let (acme, globex) = try await Organisation.federation()
    let publisher = try await CommandLinePerson("publisher", of: acme)
    let near = try await CommandLinePerson("near", of: acme)
    // Reads its mailbox by hand, to see what a curious recipient would see.
    let far = try await globex.member("far")
    _ = try await near.run("topic", "subscribe", "orders.new").expected()
    let path = "/api/v1/topics/orders.new@acme.example/subscription"
    #expect(try await far.call("PUT", path).status == 204)
    _ = try await publish(publisher, "orders.new", "4711")
    let harvest = try await far.drain { !$0.envelopes.isEmpty }
    let envelope = try UnverifiedEnvelope(parsing: try #require(harvest.envelopes.first))
    #expect(envelope.header.topic == "orders.new")
    #expect(envelope.header.recipients.map(\.address) == [far.address])
    // The control: an ordinary message for both shows both.
    _ = try await publisher.run(
      "send", "--to", "near@acme.example", "--to", far.address.text, "--text", "to both"
    ).expected()
    let other = try await far.drain { !$0.envelopes.isEmpty }
    let both = try UnverifiedEnvelope(parsing: try #require(other.envelopes.first))
    #expect(Set(both.header.recipients.map(\.address.text)) == ["near@acme.example", far.address.text])
  }

  @Test("a pattern is not published to, and what is no topic ends with exit code 64")
  func badTopics() async throws {
    let acme = try await Organisation.running("acme.example")
    let person = try await CommandLinePerson("publisher", of: acme)
    for topic in ["orders.*", ">", "Orders.new", "orders..new", "orders.new@nowhere"] {
      let ended = try await person.run("topic", "publish", topic, "--text", "x")
      #expect(ended.exit == .code(64), "\(topic): \(ended.exit)")
    }
    let far = try await person.run("topic", "publish", "orders.new@globex.example", "--text", "x")
    #expect(far.exit == .code(4), "no peer of that name")
    let none = try await person.run("topic", "publish", "orders.new", "--text", "x")
    #expect(none.exit == .code(0) && none.errors.contains("nobody"))
  }

  @Test("a last value reaches a member that joins later, from another organisation")
  func retained() async throws {
    let (acme, globex) = try await Organisation.federation()
    let publisher = try await CommandLinePerson("publisher", of: acme)
    let late = try await CommandLinePerson("late", of: globex)
    _ = try await publish(publisher, "config.limits", "old", retain: true)
    _ = try await publish(publisher, "config.limits", "new", retain: true)
    _ = try await late.run("topic", "subscribe", "config.*@acme.example").expected()
    #expect(try await late.lines("inbox").isEmpty)
    _ = try await publisher.run("inbox").expected()
    #expect(try await take(late) == ["new"])
    _ = try await publisher.run("inbox").expected()
    #expect(try await late.lines("inbox").isEmpty, "once")
    #expect(
      try await publisher.lines("topic", "list", "--retained").compactMap { $0["topic"] as? String }
        == ["#config.limits@acme.example"])
  }

  @Test("subscriptions survive a restart of the topic's node; while it is away nothing is pretended")
  func restart() async throws {
    let (acme, globex) = try await Organisation.federation()
    let far = try await CommandLinePerson("far", of: globex)
    let publisher = try await CommandLinePerson("publisher", of: acme)
    _ = try await far.run("topic", "subscribe", "orders.*@acme.example").expected()
    try await acme.stop()
    let ended = try await far.run("topic", "subscribe", "alerts.*@acme.example")
    #expect(ended.exit == .code(3))
    #expect(try await far.lines("topic", "list").count == 1)
    try await acme.start()
    try await globex.connected(to: acme)
    _ = try await publish(publisher, "orders.new", "after")
    #expect(try await take(far) == ["after"])
  }

  @Test("agents show up, say what they do, and go")
  func presence() async throws {
    let acme = try await Organisation.running("acme.example")
    let worker = try await CommandLinePerson("worker", of: acme)
    let boss = try await CommandLinePerson("boss", of: acme)
    _ = try await worker.run("heartbeat", "--state", "busy", "--note", "indexing").expected()
    let agents = try await boss.lines("agents")
    let row = try #require(agents.first { $0["address"] as? String == "worker@acme.example" })
    #expect(row["state"] as? String == "busy" && row["note"] as? String == "indexing")
    _ = try await worker.run("heartbeat", "--state", "offline", "--to", "boss@acme.example").expected()
    let left = try await boss.lines("agents").compactMap { $0["address"] as? String }
    #expect(!left.contains("worker@acme.example") && left.contains("boss@acme.example"))
    let told = try await boss.lines("inbox", "--ack")
    #expect(told.compactMap { $0["type"] as? String } == ["SHUTDOWN"])
    #expect(try await boss.run("agents", "nobody@acme.example").exit == .code(4))
  }

  @Test("only those whom the operator names write to everybody")
  func broadcast() async throws {
    let acme = try await Organisation.running(
      "acme.example", settings: "\n[permissions]\nbroadcast = [\"ops@acme.example\"]\n")
    let ops = try await CommandLinePerson("ops", of: acme)
    let people = [try await CommandLinePerson("one", of: acme), try await CommandLinePerson("two", of: acme)]
    _ = try await ops.run("send", "--broadcast", "--text", "down at noon").expected()
    for person in people {
      let lines = try await person.lines("inbox", "--ack")
      #expect(lines.compactMap { $0["body"] as? String } == ["down at noon"])
      #expect(lines.compactMap { $0["type"] as? String } == ["BROADCAST"])
    }
    let refused = try await people[0].run("send", "--broadcast", "--text", "me too")
    #expect(refused.exit == .code(4) && refused.errors.contains("not-permitted"))
  }
}
