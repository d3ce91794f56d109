import EngramCore
import EngramCrypto
import EngramNode
import EngramSealing
import EngramStore
import Synchronization
import TestSupport
import Testing

@Suite("Registration, sessions, directory")
struct IdentityTests {
  let fixture: NodeFixture
  let alice: TestDevice

  init() throws {
    fixture = try NodeFixture("acme.example")
    alice = try TestDevice("alice@acme.example")
  }

  private func register(_ device: TestDevice, _ invite: [UInt8]) -> Result<[UInt8], ErrorCode> {
    let request = device.registration(node: fixture.node.identity.id, invite: invite)
    return fixture.wait { fixture.node.register(request.encoded(), completion: $0) }
  }

  private func code<T>(_ result: Result<T, ErrorCode>) -> ErrorCode {
    if case .failure(let code) = result { code } else { .none }
  }

  @Test("an invite registers its own name, once")
  func invites() throws {
    let invite = try fixture.invite("alice")
    let mallory = try TestDevice("mallory@acme.example")
    #expect(code(register(mallory, invite)) == .inviteInvalid)
    #expect(code(register(alice, [1, 2, 3])) == .inviteInvalid)
    #expect(code(register(alice, invite)) == .none)
    #expect(code(register(alice, invite)) == .inviteInvalid)
    #expect(throws: ErrorCode.nameTaken) { try fixture.invite("alice") }
  }

  @Test("an invite runs out")
  func inviteExpiry() throws {
    let invite = try fixture.invite("alice")
    fixture.clock.advance(ms: TestTime.hourMs + 1)
    #expect(code(register(try TestDevice("alice@acme.example"), invite)) == .inviteInvalid)
  }

  @Test("a registration for another node or with a foreign signature is refused")
  func foreignRegistration() throws {
    let invite = try fixture.invite("alice")
    let other = try TestNode("globex.example")
    let wrongNode = alice.registration(node: other.id, invite: invite)
    let result = fixture.wait { fixture.node.register(wrongNode.encoded(), completion: $0) }
    #expect(code(result) == .badSignature)
    #expect(code(register(alice, invite)) == .none)
  }

  @Test("a device that does not speak suite 1 cannot register")
  func foreignSuite() throws {
    let invite = try fixture.invite("alice")
    func register(suites: [UInt8]) throws -> ErrorCode {
      let request = try alice.speaking(suites).registration(node: fixture.node.identity.id, invite: invite)
      return code(fixture.wait { fixture.node.register(request.encoded(), completion: $0) })
    }
    #expect(try register(suites: [2]) == .unknownSuite)
    #expect(try register(suites: [1, 2]) == .none, "control: a further suite does no harm")
  }

  @Test("a session token is used once, for this node, and not after its time")
  func tokens() throws {
    _ = try fixture.join(alice)
    let node = fixture.node
    func open(_ token: String) -> ErrorCode {
      code(fixture.wait { node.openSession(token: token, completion: $0) })
    }
    let token = alice.token(node: node.identity.id, nowMs: fixture.clock.nowMs())
    #expect(open(token) == .none)
    #expect(open(token) == .tokenReplayed)
    #expect(open(alice.token(node: try TestNode("globex.example").id)) == .tokenInvalid)
    #expect(
      open(alice.token(node: node.identity.id, nowMs: TestTime.startMs - TestTime.hourMs)) == .tokenInvalid)
    #expect(open("a.b.c") == .tokenInvalid)
    let stranger = try TestDevice("stranger@acme.example")
    #expect(open(stranger.token(node: node.identity.id)) == .tokenInvalid)
  }

  @Test("sessions end after their time, renewing replaces the bearer")
  func sessions() throws {
    _ = try fixture.join(alice)
    let node = fixture.node
    let token = alice.token(node: node.identity.id, nowMs: fixture.clock.nowMs())
    let grant = try fixture.wait { node.openSession(token: token, completion: $0) }.get()
    let renewed = try node.renewSession(grant.bearer).get()
    #expect(code(node.session(grant.bearer)) == .sessionExpired)
    #expect(try node.session(renewed.bearer).get().address == alice.address)
    fixture.clock.set(ms: renewed.expiresMs)
    #expect(code(node.session(renewed.bearer)) == .sessionExpired)
  }

  @Test("disabling a client ends its sessions, its sending and its directory entry at once")
  func disabling() throws {
    let session = try fixture.join(alice)
    let bob = try TestDevice("bob@acme.example")
    let bobSession = try fixture.join(bob)
    #expect(fixture.send(try sealText("before", from: alice, to: [bob]).bytes, session).outcome == .accepted)
    let ended = Mutex(false)
    let watch = fixture.node.watchSession(session) { ended.withLock { $0 = true } }
    defer { watch.cancel() }
    #expect(code(fixture.node.localDirectoryAnswer(alice.address)) == .none)

    #expect(fixture.wait { fixture.node.disable("alice", completion: $0) } == .none)
    #expect(ended.withLock { $0 })
    #expect(
      fixture.send(try sealText("after", from: alice, to: [bob]).bytes, session).code == .clientDisabled)
    #expect(code(fixture.node.localDirectoryAnswer(alice.address)) == .notFound)
    #expect(
      fixture.send(try sealText("to", from: bob, to: [alice]).bytes, bobSession).code == .unknownRecipient)
    let token = alice.token(node: fixture.node.identity.id)
    #expect(code(fixture.wait { fixture.node.openSession(token: token, completion: $0) }) == .clientDisabled)
  }

  @Test("a device list that ran out stops sending, not logging in, until a newer one is put")
  func deviceLists() throws {
    _ = try fixture.join(alice)
    let bob = try TestDevice("bob@acme.example")
    _ = try fixture.join(bob)
    fixture.clock.advance(ms: 30 * TestTime.dayMs)
    let now = fixture.clock.nowMs()
    let session = try fixture.login(alice)
    func send() throws -> ErrorCode {
      fixture.send(try sealText("m", from: alice, to: [bob], nowMs: now).bytes, session).code
    }
    #expect(try send() == .staleDeviceList)
    func put(_ device: TestDevice) -> ErrorCode {
      fixture.wait { fixture.node.putDeviceList(device.list.bytes, session, completion: $0) }
    }
    #expect(put(alice) == .badCertificate)
    #expect(put(try TestDevice("alice@acme.example", nowMs: now)) == .staleDeviceList)
    #expect(put(try TestDevice("bob@acme.example", nowMs: now, listVersion: 2)) == .badCertificate)
    #expect(put(try TestDevice("alice@acme.example", nowMs: now, listVersion: 2)) == .none)
    #expect(try send() == .none)
  }

  @Test("revoking a device ends its sessions and live connections, not those of the others")
  func revoking() throws {
    let session = try fixture.join(alice)
    let phone = try TestDevice("alice@acme.example", device: "phone")
    try fixture.store.write { transaction in
      let mailbox = try transaction.createMailbox(.device, owner: phone.kid.bytes)
      try transaction.insertDevice(
        DeviceRow(
          kid: phone.kid, address: phone.address, certificate: phone.certificate.bytes, mailbox: mailbox))
    }
    func put(_ device: TestDevice) -> ErrorCode {
      fixture.wait { fixture.node.putDeviceList(device.list.bytes, session, completion: $0) }
    }
    #expect(put(try TestDevice("alice@acme.example", others: [phone.kid], listVersion: 2)) == .none)
    let phoneSession = try fixture.login(phone)
    let ended = Mutex<[Kid]>([])
    let watches = [session, phoneSession].map { session in
      fixture.node.watchSession(session) { ended.withLock { $0.append(session.kid) } }
    }
    defer { for watch in watches { watch.cancel() } }
    #expect(put(try TestDevice("alice@acme.example", others: [phone.kid], listVersion: 3)) == .none)
    #expect(ended.withLock { $0 } == [], "control: both are still in the list")
    #expect(try fixture.node.status().sessions == 2)
    #expect(put(try TestDevice("alice@acme.example", listVersion: 4)) == .none)
    #expect(ended.withLock { $0 } == [phone.kid])
    #expect(try fixture.node.status().sessions == 1)
  }

  @Test("whoever has no invite is told so before any signature is looked at")
  func uninvited() throws {
    func register(_ invite: [UInt8]) -> ErrorCode {
      var request = alice.registration(node: fixture.node.identity.id, invite: invite)
      request.signature = [UInt8](repeating: 0, count: 64)
      return code(fixture.wait { fixture.node.register(request.encoded(), completion: $0) })
    }
    #expect(register([UInt8](repeating: 7, count: 40)) == .inviteInvalid)
    #expect(register(try fixture.invite("alice")) == .badSignature, "control: with an invite it is looked at")
  }

  @Test("a directory answer is countersigned and carries what a sender needs")
  func directory() throws {
    _ = try fixture.join(alice)
    let answer = try fixture.node.localDirectoryAnswer(alice.address).get()
    let body = try verifyDirectoryAnswer(answer[...], pinned: fixture.node.identity.id)
    #expect(body.address == alice.address)
    #expect(body.bundles == [alice.bundle()])
    #expect(throws: CredentialError.inconsistent(.wrongPeer)) {
      try verifyDirectoryAnswer(answer[...], pinned: try TestNode("globex.example").id)
    }
    #expect(code(fixture.node.localDirectoryAnswer(try Address("nobody@acme.example"))) == .notFound)
  }
}
