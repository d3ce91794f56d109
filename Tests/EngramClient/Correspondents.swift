@testable import EngramClient

/// Alice at acme, Bob at globex, and the world that they write to each other in.
func correspondents() async throws -> (world: TestWorld, alice: EngramClient, bob: EngramClient) {
  let world = try TestWorld()
  let alice = try await world.register("alice", at: world.acme)
  let bob = try await world.register("bob", at: world.globex)
  return (world, alice, bob)
}
