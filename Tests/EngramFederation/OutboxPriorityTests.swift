import EngramCore
import EngramFederation
import EngramNode
import EngramSealing
import TestSupport
import Testing

@Suite("Priorities between running nodes", .serialized)
struct OutboxPriorityTests {
  private struct Sent {
    let text: String
    let rank: UInt64
  }

  /// Mixed priorities over several steps of age, while globex is down.
  private func backlog(
    _ count: Int, _ federation: Federation, from alice: TestDevice, to bob: TestDevice
  ) async throws -> [Sent] {
    var random = SeededGenerator(seed: 7)
    var sent: [Sent] = []
    for round in 0..<6 {
      let now = federation.clock.nowMs()
      let batch = (0..<(count / 6)).map { index in
        (text: "\(round)/\(index)", priority: Priority.allCases[Int(random.next() % 5)])
      }
      let envelopes = try batch.map { message in
        try sealText(message.text, from: alice, to: [bob], nowMs: now) { $0.priority = message.priority }
          .bytes
      }
      let outcomes = try await federation.acme.send(envelopes, from: alice)
      #expect(outcomes.allSatisfy { $0.outcome == .accepted })
      sent += batch.map { Sent(text: $0.text, rank: now + UInt64(5 - $0.priority.rawValue) * 60_000) }
      federation.clock.advance(ms: 45_000)
    }
    return sent
  }

  /// Texts in the order in which they were stored.
  private func arrived(_ federation: Federation, _ bob: TestDevice, _ alice: TestDevice) async throws
    -> [String]
  {
    try await federation.globex.envelopes(bob).map {
      String(decoding: try bob.open($0, from: alice).body, as: UTF8.self)
    }
  }

  /// Stable: within one rank in the order of sending.
  private func inOrder(_ sent: [Sent]) -> [String] {
    sent.enumerated().sorted { ($0.element.rank, $0.offset) < ($1.element.rank, $1.offset) }.map(
      \.element.text)
  }

  @Test("what waited for a peer arrives by priority and age, each message once")
  func order() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    await federation.globex.stop()
    let sent = try await backlog(300, federation, from: alice, to: bob)
    try await federation.globex.start()
    try federation.introduce()
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 300 })
    let order = try await arrived(federation, bob, alice)
    #expect(order == inOrder(sent))
    #expect(order != sent.map(\.text), "the control: the order of sending is another one")
    await federation.stop()
  }

  @Test("a link that breaks in the middle loses nothing, doubles nothing and keeps the order")
  func broken() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    await federation.globex.stop()
    let sent = try await backlog(600, federation, from: alice, to: bob)
    // So few at once that the cuts find the work half done.
    var settings = LinkSettings.quick
    settings.windowMessages = 2
    var (cuts, seen) = (0, 0)
    while seen < 600, cuts < 8 {
      try await federation.globex.start(settings: settings)
      try federation.introduce()
      let before = seen
      #expect(
        try await eventually {
          seen = try await federation.globex.envelopes(bob).count
          return seen >= min(600, before + 40)
        })
      if seen < 600 { cuts += 1 }
      await federation.globex.stop()
    }
    #expect(cuts >= 2, "the control: there was something to lose")
    try await federation.globex.start()
    try federation.introduce()
    #expect(await eventually { federation.acme.state(of: federation.globex)?.queued == 0 })
    #expect(try await arrived(federation, bob, alice) == inOrder(sent))
    await federation.stop()
  }

  @Test("small messages pass large ones that were sent before them, of the same priority and a higher one")
  func largeOnes() async throws {
    let federation = try Federation()
    try await federation.start()
    #expect(await federation.connected())
    let alice = try await federation.acme.client("alice")
    let bob = try await federation.globex.client("bob")
    await federation.globex.stop()
    // Random, so that it does not shrink.
    func text(_ name: String, bytes: Int) -> String {
      name + String(repeating: "0123456789abcdef", count: bytes / 16)
    }
    let sizes: [(name: String, bytes: Int, priority: Priority)] = [
      ("a", 10_000_000, .normal), ("b", 10_000_000, .critical), ("c", 10_000_000, .normal),
      ("d", 16, .normal), ("e", 16, .normal),
    ]
    for message in sizes {
      let bytes = try sealText(text(message.name, bytes: message.bytes), from: alice, to: [bob]) {
        $0.priority = message.priority
      }.bytes
      #expect(try await federation.acme.send([bytes], from: alice).map(\.outcome) == [.accepted])
    }
    try await federation.globex.start()
    try federation.introduce()
    #expect(try await eventually { try await federation.globex.envelopes(bob).count == 5 })
    let order = try await arrived(federation, bob, alice).map { $0.prefix(1) }
    // d before e is the control: what is of one kind keeps its order. The most urgent large one comes first.
    #expect(order == ["d", "e", "b", "a", "c"])
    await federation.stop()
  }
}
