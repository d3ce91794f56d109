import EngramClientStore
import EngramCore
import Synchronization
import Testing

@testable import EngramClient

@Suite("What waits here goes out in order")
struct OutboxRecoveryTests {
  private let world: TestWorld
  private let alice: EngramClient
  private let bob: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  @Test("sealed messages go out in the order in which they were given, after lost connections and a restart")
  func sealed() async throws {
    _ = try await alice.send(to: [bob.address], body: [0])
    world.acme.set { $0.isReachable = false }
    for index in 1...4 {
      let sent = try await alice.sendBatch([OutgoingMessage(to: [bob.address], body: [UInt8(index)])])[0]
      guard case .waiting = sent.state else {
        Issue.record("nobody took it: \(sent.state)")
        return
      }
    }
    await alice.close()

    let again = try world.reopen("alice", at: world.acme)
    await #expect(throws: EngramError.self) { try await again.resendOutbox() }
    world.acme.set { $0.isReachable = true }
    _ = try await again.core.api.bearer()
    world.acme.set { $0.answersToLose = 1 }
    // The node takes them, but its word gets lost; then a new message joins those that wait.
    await #expect(throws: EngramError.self) { try await again.resendOutbox() }
    #expect(world.acme.state.withLock { $0.posted.count } == 5, "control: the node has them")
    #expect(try await again.send(to: [bob.address], body: [5]).state == .accepted)
    let received = try await bob.receive()
    #expect(received.map(\.body) == (0...5).map { [UInt8($0)] })
    #expect(received.allSatisfy { !$0.isAfterGap })
    #expect(try await again.outbox().allSatisfy { $0.state == .accepted })
  }

  @Test("a message queues behind earlier ones to the same recipient, and holds back nobody else's")
  func queued() async throws {
    let carol = try await world.register("carol", at: world.acme)
    world.globex.set { $0.isReachable = false }
    for index in 0...1 { _ = try await alice.send(to: [bob.address], body: [UInt8(index)]) }
    #expect(try await alice.outbox().map(\.state) == [.queued, .queued], "control: no keys can be had")
    #expect(try await alice.send(to: [carol.address], body: [9]).state == .accepted)

    // Keys can be had again just when the next message is given.
    world.globex.set { $0.isReachable = true }
    let draft = try Draft(OutgoingMessage(to: [bob.address], body: [2]), nowMs: world.clock.nowMs)
    let unreachable = EngramError(.unreachable, .peerUnreachable)
    let outcomes = try await alice.core.submit([draft], behind: [bob.core.account.address: unreachable])
    guard case .queued = outcomes[draft.messageID] else {
      Issue.record("it overtook: \(outcomes)")
      return
    }
    #expect(try await alice.resendOutbox() == 3)
    let received = try await bob.receive()
    #expect(received.map(\.body) == [[0], [1], [2]] && received.allSatisfy { !$0.isAfterGap })
  }
}
