import EngramClientStore
import EngramCore
import EngramCrypto
import Foundation
import Synchronization
import Testing

@testable import EngramClient

@Suite("Several devices of one client")
struct DeviceTests {
  private let world: TestWorld
  private let bob: EngramClient
  private let alice: EngramClient

  init() async throws {
    world = try TestWorld()
    alice = try await world.register("alice", at: world.acme)
    bob = try await world.register("bob", at: world.globex)
  }

  private func request(_ home: String, identity: SigningPublicKey? = nil) async throws -> DeviceRequestInfo {
    try await world.requestDevice(home, of: bob, at: world.globex, identity: identity)
  }

  private func accept(_ answer: String, _ home: String) async throws -> EngramClient {
    try await world.acceptDevice(answer, home, at: world.globex)
  }

  private func enrol(_ home: String) async throws -> EngramClient {
    try await world.enrolDevice(home, of: bob, at: world.globex)
  }

  private func refusal(_ body: () async throws -> Void) async -> EngramError? {
    await #expect(throws: EngramError.self) { try await body() }
  }

  @Test("a device joins in three steps, and then receives and sends like the first")
  func joining() async throws {
    _ = try await alice.send(to: [bob.address], body: [1])
    let asked = try await request("phone")
    #expect(try EngramClient.read(deviceRequest: asked.text).comparisonCode == asked.comparisonCode)
    #expect(asked.comparisonCode.split(separator: " ").map(\.count) == [5, 5, 5, 5])
    let waiting = await refusal { _ = try EngramClient.open(home: world.folder + "/phone") }
    #expect(waiting?.name == "not-approved")
    let approval = try await bob.approveDevice(asked.text)
    #expect(approval.request.device == asked.device && approval.deviceListVersion == 2)
    let phone = try await accept(approval.text, "phone")
    #expect(phone.address == bob.address && phone.whoami().identityKey == bob.whoami().identityKey)

    world.clock.advance(ms: ClientStoreLimits.directoryFreshMs)
    _ = try await alice.send(to: [bob.address], body: [2])
    #expect(try await bob.receive().map(\.body) == [[1], [2]])
    #expect(try await phone.receive().map(\.body) == [[2]], "nothing from before")
    _ = try await phone.send(to: [alice.address], body: [3])
    let answer = try await alice.receive()
    #expect(answer.map(\.body) == [[3]] && answer.first?.fromDevice == asked.device)
    for client in [alice, phone] { #expect(try await client.alarms().isEmpty) }

    await phone.close()
    let again = try world.reopen("phone", at: world.globex)
    #expect(try await again.receive().map(\.body) == [[2]], "the home is complete")
  }

  @Test("the identity's secret is not in the home of a further device")
  func withoutIdentity() async throws {
    _ = try await enrol("phone")
    func holds(_ home: String) throws -> Bool {
      let text = try String(contentsOfFile: world.folder + "/" + home + "/client.key", encoding: .utf8)
      let seed = try #require(bob.core.identity).seed().withUnsafeBytes { hex($0) }
      return text.contains(seed)
    }
    #expect(try holds("bob"), "control")
    #expect(try !holds("phone"))
  }

  @Test("the same home asks the same again for a day, and then anew with the same keys")
  func repeatedRequest() async throws {
    let first = try await request("phone")
    #expect(try await request("phone").text == first.text)
    world.clock.advance(ms: DeviceRequest.validityMs)
    let late = await refusal { _ = try await bob.approveDevice(first.text) }
    #expect(late?.name == "request-expired")
    let second = try await request("phone")
    #expect(second.text != first.text && second.device == first.device)
    #expect(second.comparisonCode != first.comparisonCode)
    _ = try await accept(try await bob.approveDevice(second.text).text, "phone")
    let again = await refusal { _ = try await request("phone") }
    #expect(again?.name == "already-registered")
  }

  @Test("a request for another client, identity or node, or one that was changed, is not approved")
  func wrongRequests() async throws {
    let other = try await request("other", identity: alice.core.account.identity)
    #expect(await refusal { _ = try await bob.approveDevice(other.text) }?.name == "wrong-identity")
    let good = try await request("phone")
    #expect(await refusal { _ = try await alice.approveDevice(good.text) }?.name == "wrong-client")
    let key = SigningKey()
    func made(_ node: NodeID, _ change: (inout DeviceCertificateBody) -> Void = { _ in }) -> String {
      var body = DeviceCertificateBody(
        address: bob.core.account.address, identity: bob.core.account.identity, signing: key.publicKey,
        serial: 1, notBeforeMs: world.clock.nowMs, notAfterMs: world.clock.nowMs + 1_000_000)
      change(&body)
      return DeviceFile.request.armoured(DeviceRequest.make(body, node: node, device: key))
    }
    #expect(
      await refusal { _ = try await bob.approveDevice(made(world.acme.id)) }?.name == "wrong-node")
    let ahead = made(world.globex.id) { $0.notBeforeMs += Limits.clockSkewMs + 1 }
    #expect(await refusal { _ = try await bob.approveDevice(ahead) }?.name == "request-expired")
    let long = made(world.globex.id) { $0.notAfterMs = $0.notBeforeMs + certificateValidityMs + 1 }
    #expect(await refusal { _ = try await bob.approveDevice(long) }?.name == "request-expired")
    // Without the signing key's secret nobody can ask for it.
    let stolen = made(world.globex.id) { $0.signing = alice.core.device.publicKey }
    let error = await refusal { _ = try await bob.approveDevice(stolen) }
    #expect(error?.kind == .untrusted && error?.code == ErrorCode.badSignature.rawValue)
    for bad in ["", "hello", good.text + " x", good.text.dropLast(8) + "AAAAAAAA"] {
      #expect(await refusal { _ = try await bob.approveDevice(String(bad)) } != nil)
    }
    #expect(try await bob.devices().devices.count == 1)
    _ = try await bob.approveDevice(good.text)
    #expect(try await bob.devices().devices.count == 2, "control")
  }

  @Test("every flipped bit of a request is noticed, or shows in the comparison code")
  func flippedBits() async throws {
    let good = try DeviceRequest(checking: try await request("phone").text)
    for index in stride(from: 0, to: good.bytes.count, by: 3) {
      var bytes = good.bytes
      bytes[index] ^= 1 << UInt8(index % 8)
      #expect(throws: CredentialError.self) { try DeviceRequest(verifying: bytes) }
    }
  }

  @Test("approving twice gives the same answer, and a revoked device is not approved again")
  func approvedTwice() async throws {
    let asked = try await request("phone")
    let first = try await bob.approveDevice(asked.text)
    #expect(try await bob.approveDevice(asked.text).text == first.text)
    #expect(try await bob.devices().listVersion == 2)
    _ = try await bob.revokeDevice(asked.device)
    let error = await refusal { _ = try await bob.approveDevice(asked.text) }
    #expect(error?.code == ErrorCode.deviceKnown.rawValue)
  }

  @Test("an approval whose answer got lost is finished by repeating it")
  func lostApproval() async throws {
    let asked = try await request("phone")
    _ = try await bob.devices()
    let transport = world.globex.transport
    let (store, account, keys) = try EngramClient.openHome(world.folder + "/bob", nil)
    let losing = NodeTransport(
      exchange: { request in
        let reply = try await transport.exchange(request)
        guard request.path.hasSuffix("devices") else { return reply }
        throw EngramError(.unreachable, name: "unreachable", "lost")
      }, realtime: transport.realtime, close: transport.close)
    let client = EngramClient(
      core: ClientCore(
        store: store, account: account, keys: keys, transport: losing,
        nowMs: { [clock = world.clock] in clock.nowMs }))
    #expect(await refusal { _ = try await client.approveDevice(asked.text) }?.kind == .unreachable)
    let phone = try await accept(try await bob.approveDevice(asked.text).text, "phone")
    #expect(try await phone.devices().devices.count == 2)
    #expect(try await bob.devices().listVersion == 2)
  }

  @Test("an answer to another request, by another key, or that the node contradicts is not accepted")
  func wrongAnswers() async throws {
    let (first, second) = (try await request("phone"), try await request("tablet"))
    let answer = try await bob.approveDevice(first.text).text
    _ = try await bob.approveDevice(second.text)
    #expect(await refusal { _ = try await accept(answer, "tablet") }?.name == "wrong-answer")
    #expect(await refusal { _ = try await accept(second.text, "phone") }?.name == "bad-answer-file")
    // Whoever carries the file does not have the identity key.
    let forged = try forge(first)
    let error = await refusal { _ = try await accept(forged, "phone") }
    #expect(error?.code == ErrorCode.badSignature.rawValue && error?.kind == .untrusted)
    // A node that vouches for another identity, or shows a list from before.
    let old = bob.core.account.deviceList
    let stranger = try await world.register("mallory", at: world.globex).core.account
    for twist: @Sendable (inout DirectoryAnswerBody) -> Void in [
      { $0.bundles = [PrekeyBundle(deviceList: old, certificate: [], signedPrekey: [])] },
      {
        $0.bundles = [
          PrekeyBundle(
            deviceList: stranger.deviceList, certificate: stranger.certificate, signedPrekey: [])
        ]
      },
    ] {
      world.globex.set { $0.twist = twist }
      #expect(await refusal { _ = try await accept(answer, "phone") }?.kind == .untrusted)
      #expect(
        await refusal { _ = try EngramClient.open(home: world.folder + "/phone") }?.name == "not-approved")
    }
    world.globex.set { $0.twist = nil }
    _ = try await accept(answer, "phone")
    #expect(try world.reopen("phone", at: world.globex).address == bob.address, "control")
    #expect(await refusal { _ = try await accept(answer, "phone") }?.name == "already-registered")
  }

  /// An answer to a request by an identity key that its maker just made.
  private func forge(_ asked: DeviceRequestInfo) throws -> String {
    let request = try DeviceRequest(checking: asked.text)
    let identity = SigningKey()
    let now = world.clock.nowMs
    let list = DeviceList.issue(
      DeviceListBody(
        address: request.body.address, identity: identity.publicKey, version: 2, issuedMs: now,
        validUntilMs: now + 1_000, entries: [.init(kid: request.kid, state: .active, sinceMs: now)]),
      identity: identity)
    return DeviceFile.answer.armoured(
      DeviceAnswer.make(
        request: request, certificate: request.certified(by: identity), list: list,
        approver: request.kid, place: "elsewhere", identity: identity))
  }

  @Test("a device that the node adds by itself is not sealed for")
  func ghost() async throws {
    let phone = try await enrol("phone")
    let own = try #require(world.globex.certificate(of: phone.core.account.kid))
    let ghostKey = SigningKey()
    let (account, clock) = (bob.core.account, world.clock)
    func ghostBundle(signedBy identity: SigningKey) throws -> PrekeyBundle {
      let now = clock.nowMs
      let body = DeviceCertificateBody(
        address: account.address, identity: identity.publicKey, signing: ghostKey.publicKey, serial: 1,
        notBeforeMs: now, notAfterMs: now + 1_000_000_000)
      let certificate = DeviceCertificate.issue(body, identity: identity, device: ghostKey)
      return PrekeyBundle(
        deviceList: world.globex.state.withLock { $0.members[account.address]?.list } ?? [],
        certificate: certificate, signedPrekey: [])
    }
    // Its own key instead of the client's.
    let made = try ghostBundle(signedBy: SigningKey())
    world.globex.set { $0.twist = { $0.bundles.append(made) } }
    let error = await refusal { _ = try await alice.send(to: [account.address.text], body: [1]) }
    #expect(error?.kind == .untrusted && error?.code == ErrorCode.badCertificate.rawValue)
    // A certificate that the identity key did sign, for a device that it never put into the list.
    let unlisted = try ghostBundle(signedBy: try #require(bob.core.identity))
    world.globex.set { $0.twist = { $0.bundles.append(unlisted) } }
    let devices = try await alice.core.sealableDevices(of: account.address, fresh: true)
    #expect(Set(devices.map(\.certificate.kid)) == [account.kid, own.kid])
  }

  @Test("a revoked device is shut out, and others seal for the rest as soon as they hear of it")
  func revoked() async throws {
    let phone = try await enrol("phone")
    let kid = phone.core.account.kid
    _ = try await alice.send(to: [bob.address], body: [1])
    #expect(try await phone.receive().map(\.body) == [[1]])
    let own = await refusal { _ = try await bob.revokeDevice(bob.whoami().device) }
    #expect(own?.name == "own-device")
    #expect(await refusal { _ = try await bob.revokeDevice("beef") }?.name == "bad-device")
    let unknown = String(repeating: "0", count: 32)
    #expect(await refusal { _ = try await bob.revokeDevice(unknown) }?.code == ErrorCode.notFound.rawValue)
    let devices = try await bob.revokeDevice(kid.description)
    #expect(devices.devices.first { $0.device == kid.description }?.state == .revoked)
    #expect(try await bob.revokeDevice(kid.description).listVersion == devices.listVersion, "once is enough")
    #expect(await refusal { _ = try await phone.receive() }?.code == ErrorCode.deviceInactive.rawValue)
    // The answer from before the revocation is still fresh here: a message of bob's says that it is not.
    #expect(try await alice.core.sealableDevices(of: bob.core.account.address).count == 2, "control")
    _ = try await bob.send(to: [alice.address], body: [2])
    #expect(try await alice.receive().map(\.body) == [[2]])
    let after = try await alice.core.sealableDevices(of: bob.core.account.address)
    #expect(after.map(\.certificate.kid) == [bob.core.account.kid])
  }

  @Test("what fails because a device is gone has the directory asked again")
  func askedAgain() async throws {
    let phone = try await enrol("phone")
    let kid = phone.core.account.kid
    let sent = try await alice.send(to: [bob.address], body: [1])
    _ = try await bob.revokeDevice(kid.description)
    #expect(try await alice.core.sealableDevices(of: bob.core.account.address).count == 2, "control")
    let id = try #require(sent.envelopeID.flatMap { bytes(hex: $0) }.flatMap { EnvelopeID($0) })
    let message = try #require(bytes(hex: sent.messageID).flatMap { MessageID($0) })
    let body = ReceiptBody(
      role: .recipientNode, issuerName: "globex.example", issuerKey: world.globex.key.publicKey, envelope: id,
      sender: alice.core.account.address, senderKid: alice.core.account.kid, messageID: message,
      recipient: bob.core.account.address, recipientKid: kid, state: .failed, code: .deviceRevoked,
      atMs: world.clock.nowMs)
    world.acme.deposit(
      .receipt, receiptRow(signReceipts([body], with: world.globex.key)), nil, for: alice.core.account.kid)
    #expect(try await alice.receive().isEmpty)
    #expect(try await alice.core.sealableDevices(of: bob.core.account.address).count == 1)
  }

  @Test("a message that the node refuses because a device is gone has the directory asked again, too")
  func refusedOutright() async throws {
    let carol = try await world.register("carol", at: world.acme)
    _ = try await alice.send(to: [carol.address], body: [1])
    func fetched() async throws -> UInt64? {
      try await alice.core.read { [address = carol.core.account.address] in
        try $0.directoryAnswer(address)?.fetchedMs
      }
    }
    for (code, isStale) in [(ErrorCode.rejected, false), (.deviceRevoked, true)] {
      world.acme.set { $0.refusal = code }
      _ = try? await alice.send(to: [carol.address], body: [2])
      #expect(try await fetched() == (isStale ? 0 : world.clock.nowMs), "\(code)")
    }
  }

  @Test("one device is enough for a recipient to have processed a message")
  func processedByOne() async throws {
    let phone = try await enrol("phone")
    let sent = try await alice.send(to: [bob.address], body: [1])
    #expect(try await !alice.waitUntilProcessed(sent.messageID, timeoutSeconds: 0), "control")
    try await phone.acknowledge(phone.receive().map(\.envelopeID))
    #expect(try await alice.waitUntilProcessed(sent.messageID, timeoutSeconds: 5))
    #expect(try await alice.status(of: sent.messageID).state == .processed)
  }

  @Test("what needs the identity key says which home has it, and a device without it warns in time")
  func identityElsewhere() async throws {
    let phone = try await enrol("phone")
    let other = try await request("tablet")
    for attempt in [
      { _ = try await phone.approveDevice(other.text) },
      { _ = try await phone.revokeDevice(bob.whoami().device) },
    ] {
      let error = await refusal(attempt)
      #expect(error?.name == "no-identity-key" && error?.hint?.contains(world.folder + "/bob") == true)
      #expect(error?.hint?.contains(bob.whoami().device) == true)
    }
    let day: UInt64 = 24 * 3_600_000
    world.clock.advance(ms: 19 * day)
    try await phone.core.maintain()
    #expect(await phone.deviceListWarning() == nil, "control: not before its time")
    world.clock.advance(ms: day)
    #expect(await phone.deviceListWarning()?.contains("10 days") == true)
    #expect(await bob.deviceListWarning() == nil, "who can sign it does so")
    try await bob.core.maintain()
    try await phone.core.maintain()
    #expect(await phone.deviceListWarning() == nil, "it took over what the other signed")
    #expect(try await phone.core.knownOwnList().body.version == 3)
  }

  @Test("a full list makes room by forgetting what was revoked first, and otherwise refuses")
  func fullList() async throws {
    var kids: [String] = []
    for index in 1..<Limits.devicesPerClientMax {
      let asked = try await request("d\(index)")
      _ = try await bob.approveDevice(asked.text)
      kids.append(asked.device)
    }
    let asked = try await request("last")
    let full = await refusal { _ = try await bob.approveDevice(asked.text) }
    #expect(full?.code == ErrorCode.deviceLimit.rawValue)
    _ = try await bob.revokeDevice(kids[3])
    world.clock.advance(ms: 1)
    _ = try await bob.revokeDevice(kids[5])
    _ = try await bob.approveDevice(asked.text)
    let left = try await bob.devices().devices
    #expect(left.count == Limits.devicesPerClientMax)
    #expect(!left.contains { $0.device == kids[3] } && left.contains { $0.device == kids[5] })
  }
}
