import EngramCore
import EngramNode
import EngramSealing
import EngramStore
import TestSupport
import Testing

@Suite("Presence")
struct PresenceTests {
  let fixture: NodeFixture
  let alice: TestDevice
  let bob: TestDevice
  let session: ClientSession

  init() throws {
    fixture = try NodeFixture("acme.example")
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@acme.example")
    session = try fixture.join(alice)
    _ = try fixture.join(bob)
  }

  private var active: [String] { fixture.node.activeAgents(after: nil, maxCount: 100).map(\.address.text) }

  /// As each request does.
  private func use(_ device: TestDevice) throws {
    let token = device.token(node: fixture.node.identity.id, nowMs: fixture.clock.nowMs())
    let grant = try fixture.wait { fixture.node.openSession(token: token, completion: $0) }.get()
    _ = try fixture.node.session(grant.bearer).get()
  }

  private func say(_ type: MessageType) throws {
    let now = fixture.clock.nowMs()
    let sealed = try sealText("x", from: alice, to: [bob], nowMs: now) { $0.type = type }
    let outcome = fixture.send(sealed.bytes, session)
    #expect(outcome.outcome == .accepted)
  }

  @Test("who was seen is active for 90 seconds, and not a millisecond longer")
  func seen() throws {
    #expect(active.isEmpty, "registered is not seen")
    try use(alice)
    #expect(active == ["alice@acme.example"])
    fixture.clock.advance(ms: AgentPresence.activeMs - 1)
    #expect(active == ["alice@acme.example"])
    fixture.clock.advance(ms: 1)
    #expect(active.isEmpty)
    try use(bob)
    #expect(active == ["bob@acme.example"], "the control")
  }

  @Test("an open connection keeps an agent active, its end leaves it seen just now")
  func connections() throws {
    let (one, two) = (fixture.node.noteConnection(session), fixture.node.noteConnection(session))
    fixture.clock.advance(ms: TestTime.dayMs)
    #expect(try fixture.node.agentStatus(alice.address).connections == 2)
    #expect(active == ["alice@acme.example"])
    one.cancel()
    one.cancel()
    #expect(try fixture.node.agentStatus(alice.address).connections == 1, "a watch ends once")
    two.cancel()
    #expect(active == ["alice@acme.example"])
    fixture.clock.advance(ms: AgentPresence.activeMs)
    #expect(active.isEmpty)
  }

  @Test("SHUTDOWN takes an agent off the list, HEARTBEAT and STARTUP bring it back, other types say nothing")
  func messages() throws {
    let connection = fixture.node.noteConnection(session)
    defer { connection.cancel() }
    try say(.shutdown)
    #expect(active.isEmpty)
    #expect(try fixture.node.agentStatus(alice.address).state == .offline)
    try say(.direct)
    #expect(active.isEmpty)
    try say(.heartbeat)
    #expect(active == ["alice@acme.example"])
    try say(.shutdown)
    #expect(active.isEmpty)
    try say(.startup)
    #expect(active == ["alice@acme.example"])
  }

  @Test("what was refused says nothing")
  func refused() throws {
    let connection = fixture.node.noteConnection(session)
    defer { connection.cancel() }
    let expired = try sealText("x", from: alice, to: [bob]) {
      $0.type = .shutdown
      $0.expiresMs = $0.createdMs + 1
    }
    fixture.clock.advance(ms: 10)
    #expect(fixture.send(expired.bytes, session).outcome == .refused)
    #expect(active == ["alice@acme.example"])
  }

  @Test("a declared state and its note are shown; a heartbeat keeps busy busy")
  func declared() throws {
    try fixture.node.declare(.busy, note: "indexing", session)
    try say(.heartbeat)
    let status = try fixture.node.agentStatus(alice.address)
    #expect(status.state == .busy && status.note == "indexing" && status.isActive)
    #expect(throws: ErrorCode.tooLarge) {
      try fixture.node.declare(
        .ready, note: String(repeating: "x", count: AgentPresence.noteBytesMax + 1), session)
    }
    try fixture.node.declare(.ready, note: String(repeating: "x", count: AgentPresence.noteBytesMax), session)
    try fixture.node.declare(.offline, note: "", session)
    #expect(active.isEmpty)
  }

  @Test("strangers and disabled clients have no status; a client that was never seen is inactive")
  func unknown() throws {
    #expect(try !fixture.node.agentStatus(bob.address).isActive)
    #expect(try fixture.node.agentStatus(bob.address).lastSeenMs == nil)
    for name in ["nobody@acme.example", "bob@globex.example"] {
      let address = try Address(name)
      #expect(throws: ErrorCode.notFound) { try fixture.node.agentStatus(address) }
    }
    try fixture.node.declare(.ready, note: "", session)
    #expect(fixture.wait { fixture.node.disable("alice", completion: $0) } == .none)
    #expect(throws: ErrorCode.notFound) { try fixture.node.agentStatus(alice.address) }
    #expect(active.isEmpty)
  }

  @Test("the list comes in pages, by address")
  func pages() throws {
    for device in [bob, alice] { try use(device) }
    let first = fixture.node.activeAgents(after: nil, maxCount: 1)
    #expect(first.map(\.address) == [alice.address])
    #expect(fixture.node.activeAgents(after: alice.address, maxCount: 9).map(\.address) == [bob.address])
  }

  @Test("all addresses are for those whom the operator names")
  func broadcast() throws {
    #expect(throws: ErrorCode.notPermitted) {
      try fixture.node.broadcastAddresses(after: nil, maxCount: 9, session)
    }
    var settings = NodeSettings()
    settings.broadcasters = [alice.address]
    let other = try NodeFixture("acme.example", settings: settings)
    let permitted = try other.join(alice)
    let bobSession = try other.join(bob)
    #expect(
      try other.node.broadcastAddresses(after: nil, maxCount: 9, permitted) == [alice.address, bob.address])
    #expect(throws: ErrorCode.notPermitted) {
      try other.node.broadcastAddresses(after: nil, maxCount: 9, bobSession)
    }
  }
}
