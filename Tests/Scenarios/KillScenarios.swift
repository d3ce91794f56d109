import EngramCore
import EngramCrypto
import EngramSealing
import Foundation
import TestSupport
import Testing

@Suite("a node is killed in the middle of federation", .serialized, .timeLimit(.minutes(5)))
struct KillScenarios {
  private static let messages = 400

  @Test("the receiving node is killed: everything arrives exactly once after its restart")
  func receiver() async throws {
    let (acme, globex) = try await Organisation.federation()
    let (planner, analyst) = (try await acme.member("planner"), try await globex.member("analyst"))
    let sealed = try Self.load(from: planner, to: analyst)

    for batch in sealed.prefix(200).batches(of: 20) {
      try #require(try await planner.send(batch.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    }
    let before = try #require(try await eventually { try await globex.arrived() })
    try await globex.kill()
    for batch in sealed.dropFirst(200).batches(of: 20) {
      try #require(try await planner.send(batch.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    }
    // The control: it was in the middle.
    #expect(before > 0)
    #expect(try await acme.peer(globex).queued >= 200)

    try await globex.start()
    try await analyst.login()
    try await Self.expectExactlyOnce(sealed, from: planner, at: analyst)
    #expect(try await eventually { try await acme.peer(globex).queued == 0 })
  }

  @Test(
    "the sending node is killed with messages in flight: everything arrives exactly once after its restart")
  func sender() async throws {
    let (acme, globex) = try await Organisation.federation()
    let (planner, analyst) = (try await acme.member("planner"), try await globex.member("analyst"))
    // The sender's certificate is known then: what arrives later waits for nothing.
    let first = try planner.seal("first", to: [analyst])
    try #require(try await planner.send(first.bytes).outcome == .accepted)
    _ = try await analyst.drain { $0.ids.contains(first.id) }
    let sealed = try Self.load(from: planner, to: analyst)

    // A receiver that stands still keeps what was sent to it in flight: delivered to its socket, not
    // acknowledged.
    globex.pause()
    for batch in sealed.batches(of: 20) {
      try #require(try await planner.send(batch.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    }
    let isInFlight = try await eventually { (try await acme.metric(Self.inFlight(globex)) ?? 0) > 0 }
    #expect(isInFlight)
    #expect(try await acme.peer(globex).queued == Self.messages)
    try await acme.kill()
    globex.resume()

    try await acme.start()
    try await planner.login()
    try await Self.expectExactlyOnce(sealed, from: planner, at: analyst)
    // The control: some of it came over both links, and only one of the two was stored.
    let duplicates = try await globex.metric("engram_duplicates_total") ?? 0
    #expect(duplicates > 0)
  }

  @Test("a client that got no answer sends again, and the message is stored once")
  func unanswered() async throws {
    let acme = try await Organisation.running("acme.example")
    let (planner, analyst) = (try await acme.member("planner"), try await acme.member("analyst"))
    let sealed = try Self.load(from: planner, to: analyst)
    let sending = Task {
      var answered = 0
      for batch in sealed.batches(of: 20) {
        guard let outcomes = try? await planner.send(batch.map(\.bytes)) else { break }
        answered += outcomes.count
      }
      return answered
    }
    let isUnderway = try await eventually {
      try await acme.metric("engram_accepted_from_clients_total") ?? 0 > 0
    }
    #expect(isUnderway)
    try await acme.kill()
    _ = await sending.value
    try await acme.start()
    try await planner.login()
    try await analyst.login()
    let again = try await planner.send(sealed.map(\.bytes))
    #expect(again.allSatisfy { $0.outcome == .accepted || $0.outcome == .duplicate })
    #expect(again.contains { $0.outcome == .duplicate }, "nothing was stored before the kill")
    try await Self.expectExactlyOnce(sealed, from: planner, at: analyst)
  }

  // MARK: - Parts

  private static func inFlight(_ peer: Organisation) -> String {
    "engram_federation_in_flight{peer=\"\(peer.name)\"}"
  }

  private static func load(from sender: Member, to recipient: Member) throws -> [SealedEnvelope] {
    try (0..<messages).map { try sender.seal("message \($0)", to: [recipient]) }
  }

  /// Every envelope once at the recipient, and one `processed` receipt for each at the sender.
  private static func expectExactlyOnce(
    _ sealed: [SealedEnvelope], from sender: Member, at recipient: Member
  ) async throws {
    let wanted = Set(sealed.map(\.id))
    var received = try await recipient.drain { Set($0.ids).isSuperset(of: wanted) }
    // Whatever else is on its way would be one too many.
    received.ids += try await recipient.drainAll().ids
    #expect(Set(received.ids) == wanted)
    #expect(received.ids.count == wanted.count, "something came twice")
    let key = recipient.device.key.publicKey
    let told = try await sender.drain {
      wanted.isSubset(of: $0.receipts(by: key).map(\.envelope))
    }
    let processed = told.receipts(by: key).filter { $0.state == .processed }.map(\.envelope)
      .filter(wanted.contains)
    #expect(processed.count == wanted.count && Set(processed) == wanted)
  }
}

extension Organisation {
  /// How many messages of peers were committed; nil while none was.
  fileprivate func arrived() async throws -> Double? {
    let count = try await metric("engram_accepted_from_peers_total") ?? 0
    return count > 0 ? count : nil
  }
}

extension Collection {
  fileprivate func batches(of count: Int) -> [[Element]] {
    let all = Array(self)
    return stride(from: 0, to: all.count, by: count).map { Array(all[$0..<Swift.min($0 + count, all.count)]) }
  }
}
