import EngramCore
import Testing

@testable import EngramClient

@Suite("A node whose own disk fails")
struct NodeFailureTests {
  let world: TestWorld
  let alice: EngramClient
  let bob: EngramClient

  init() async throws {
    (world, alice, bob) = try await correspondents()
  }

  @Test(
    "does not end a message, even when it says refused",
    arguments: [ErrorCode.storageFailed, .internalError, .damagedRow, .storageFull])
  func outcome(code: ErrorCode) async throws {
    world.acme.set { $0.refusal = code }
    _ = try await alice.send(to: [bob.address], body: [1])
    #expect(try await alice.outbox().map(\.state) != [.refused])
    world.acme.set { $0.refusal = nil }
    #expect(try await alice.resendOutbox() == 1)
    #expect(try await bob.receive().map(\.body) == [[1]])
  }

  @Test("control: what the message itself is refused for is final")
  func finalOutcome() async throws {
    world.acme.set { $0.refusal = .unknownRecipient }
    _ = try? await alice.send(to: [bob.address], body: [1])
    world.acme.set { $0.refusal = nil }
    #expect(try await alice.resendOutbox() == 0)
    #expect(try await bob.receive().isEmpty)
  }

  @Test("does not end following", arguments: [ErrorCode.storageFailed, .internalError, .damagedRow])
  func following(code: ErrorCode) async throws {
    _ = try await alice.send(to: [bob.address], body: [1])
    var iterator = bob.follow().makeAsyncIterator()
    #expect(try await iterator.next()?.body == [1])
    world.globex.dropConnections(code)
    _ = try await alice.send(to: [bob.address], body: [2])
    #expect(try await iterator.next()?.body == [2])
  }

  @Test("control: a problem that another connection would not mend ends following")
  func followingEnds() async throws {
    _ = try await alice.send(to: [bob.address], body: [1])
    var iterator = bob.follow().makeAsyncIterator()
    #expect(try await iterator.next()?.body == [1])
    world.globex.dropConnections(.clientDisabled)
    await #expect(throws: EngramError.self) { try await iterator.next() }
  }
}
