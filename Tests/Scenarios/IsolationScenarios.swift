import EngramCore
import EngramSealing
import Foundation
import TestSupport
import Testing

@Suite("one peer's trouble is nobody else's", .serialized, .timeLimit(.minutes(5)))
struct IsolationScenarios {
  @Test("a dead peer, a black hole and a peer that never acknowledges hold up no other peer")
  func slowPeers() async throws {
    let (acme, globex) = try await Organisation.federation(
      settings: "\n[federation]\nwindow_messages = 16\ndial_backoff_max_ms = 500\n")
    let planner = try await acme.member("planner")
    let analyst = try await globex.member("analyst")

    // Nobody listens there.
    let dead = try await Organisation("dead.example")
    try await acme.pin(dead)
    // Connections are taken by the kernel, and nobody ever speaks.
    let hole = try await Organisation("hole.example")
    let descriptor = try listeningSocket(port: hole.port, backlog: 16)
    defer { close(descriptor) }
    try await acme.pin(hole)
    // This one proves itself, takes what it is sent, and stays silent.
    let rogue = try await RoguePeer(against: acme, name: "slow.example")
    let link = try await rogue.established()

    for name in ["dead", "hole", "slow"] {
      let client = try TestDevice("client@\(name).example", nowMs: nowMs())
      let sealed = try (0..<60).map { try planner.seal("for \(name) \($0)", for: [client]) }
      #expect(try await planner.send(sealed.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    }
    _ = await link.link.next(.deliver)

    let sealed = try (0..<60).map { try planner.seal("for globex \($0)", to: [analyst]) }
    #expect(try await planner.send(sealed.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    let received = try await analyst.drain { $0.ids.count >= 60 }
    #expect(received.ids == sealed.map(\.id))
    // The control: the others' messages did not go anywhere meanwhile.
    for other in [dead, hole, rogue.own] { #expect(try await acme.peer(other).queued == 60, "\(other.name)") }
    // With a window of 16 no more than that was handed to the silent one.
    let inFlight = try await acme.metric("engram_federation_in_flight{peer=\"slow.example\"}") ?? 0
    #expect(inFlight > 0 && inFlight <= 16)
  }
}
