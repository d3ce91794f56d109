import EngramCore
import EngramCrypto
import EngramSealing
import EngramStore
import Synchronization
import TestSupport
import Testing

@testable import EngramNode

@Suite("Several devices of one client")
struct DeviceTests {
  private let fixture: NodeFixture
  private let alice: TestDevice
  private let bob: TestDevice
  private let aliceSession: ClientSession
  private let bobSession: ClientSession
  private let phone: TestDevice

  init() throws {
    fixture = try NodeFixture("acme.example")
    alice = try TestDevice("alice@acme.example")
    bob = try TestDevice("bob@acme.example")
    aliceSession = try fixture.join(alice)
    bobSession = try fixture.join(bob)
    phone = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 2)
  }

  private func add(_ item: CertificateItem, _ session: ClientSession? = nil) -> ErrorCode {
    let result = fixture.wait {
      fixture.node.addDevice(item.encoded(), session ?? bobSession, completion: $0)
    }
    if case .failure(let code) = result { return code }
    return .none
  }

  /// Adds the phone and has it publish its prekey.
  private func enrolPhone() throws -> ClientSession {
    #expect(add(phone.certificateItem) == .none)
    let session = try fixture.login(phone)
    #expect(fixture.wait { fixture.node.putPrekey(phone.prekey.bytes, session, completion: $0) } == .none)
    return session
  }

  private func put(_ list: DeviceList) -> ErrorCode {
    fixture.wait { fixture.node.putDeviceList(list.bytes, bobSession, completion: $0) }
  }

  private func devices(of address: Address) throws -> [Kid] {
    let answer = try fixture.node.localDirectoryAnswer(address).get()
    let body = try verifyDirectoryAnswer(answer[...], pinned: fixture.node.identity.id)
    return try body.bundles.map { try DeviceCertificate(verifying: $0.certificate).kid }
  }

  @Test("a device that the identity key added signs in, sends, receives, and is in the directory")
  func added() throws {
    #expect(throws: ErrorCode.tokenInvalid) { try fixture.login(phone) }
    #expect(add(phone.certificateItem) == .none)
    #expect(try devices(of: bob.address) == [bob.kid], "without a prekey nobody can seal for it")
    let session = try fixture.login(phone)
    #expect(fixture.wait { fixture.node.putPrekey(phone.prekey.bytes, session, completion: $0) } == .none)
    #expect(try Set(devices(of: bob.address)) == [bob.kid, phone.kid])
    let toBoth = try sealText("both", from: alice, to: [bob, phone].sorted { $0.kid < $1.kid })
    #expect(fixture.send(toBoth.bytes, aliceSession).outcome == .accepted)
    for (device, session) in [(bob, bobSession), (phone, session)] {
      let envelope = try #require(try fixture.items(session).last)
      #expect(try device.open(envelope.payload, from: alice).body == Array("both".utf8))
    }
    let fromPhone = try sealText("from the phone", from: phone, to: [alice])
    #expect(fixture.send(fromPhone.bytes, session).outcome == .accepted)
    #expect(
      try fixture.leaves().contains {
        $0.action == .deviceAdded && $0.actor == bob.address.text && $0.recipient == phone.kid.description
      })
  }

  @Test("a device that the client's identity key did not sign for, here and now, is refused whole")
  func refused() throws {
    func item(_ device: TestDevice, list: TestDevice? = nil) -> CertificateItem {
      CertificateItem(certificate: device.certificate.bytes, deviceList: (list ?? device).list.bytes)
    }
    let stranger = try TestDevice(
      "bob@acme.example", device: "phone", others: [bob.kid], listVersion: 2, identity: "mallory")
    let another = try TestDevice("alice@acme.example", device: "x", others: [alice.kid], listVersion: 2)
    let stale = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 1)
    let alone = try TestDevice("bob@acme.example", device: "phone", listVersion: 2)
    let inactive = try TestDevice(
      "bob@acme.example", device: "phone", others: [bob.kid], state: .revoked, listVersion: 2)
    let foreignSuite = try TestDevice(
      "bob@acme.example", device: "phone", others: [bob.kid], listVersion: 2, suites: [2])
    let body = phone.certificate.body.encoded()
    let withoutProof = SignedBytes(
      body: body,
      signatures: [
        phone.identity.sign("device-cert-sig", body[...]), bob.key.sign("device-pop-sig", body[...]),
      ])
    let cases: [(ErrorCode, CertificateItem)] = [
      (.identityChanged, item(stranger)), (.identityChanged, item(stranger, list: phone)),
      (.notPermitted, item(another)), (.staleDeviceList, item(stale)), (.badCertificate, item(alone)),
      (.badCertificate, item(inactive)), (.badCertificate, item(phone, list: bob)),
      (.unknownSuite, item(foreignSuite)),
      (
        .badSignature,
        CertificateItem(certificate: withoutProof.encoded(), deviceList: phone.list.bytes)
      ),
      (.malformed, CertificateItem(certificate: [], deviceList: phone.list.bytes)),
    ]
    for (index, (code, item)) in cases.enumerated() { #expect(add(item) == code, "case \(index)") }
    #expect(add(phone.certificateItem, aliceSession) == .notPermitted, "somebody else's session")
    #expect(try fixture.node.status().devices == 2)
    #expect(throws: ErrorCode.tokenInvalid) { try fixture.login(phone) }
    #expect(add(phone.certificateItem) == .none, "control")
    #expect(try fixture.node.status().devices == 3)
  }

  @Test("a request that is repeated changes nothing, and one for a device that was revoked is refused")
  func repeated() throws {
    #expect(add(phone.certificateItem) == .none)
    let leaves = try fixture.leaves().count
    #expect(add(phone.certificateItem) == .none)
    #expect(try fixture.leaves().count == leaves)
    let anew = try TestDevice("bob@acme.example", device: "phone", others: [bob.kid], listVersion: 3)
    #expect(
      add(CertificateItem(certificate: phone.certificate.bytes, deviceList: anew.list.bytes)) == .deviceKnown)
    #expect(put(try TestDevice("bob@acme.example", listVersion: 3).list) == .none)
    #expect(add(phone.certificateItem) == .deviceKnown)
    #expect(throws: ErrorCode.deviceInactive) { try fixture.login(phone) }
  }

  @Test("a client has so many devices and no more, those that it revoked included")
  func limit() throws {
    var version: UInt64 = 1
    func addOne() throws -> ErrorCode {
      version += 1
      let next = try TestDevice(
        "bob@acme.example", device: "d\(version)", others: [bob.kid], listVersion: version)
      return add(next.certificateItem)
    }
    for _ in 1..<Node.devicesKeptMax { #expect(try addOne() == .none) }
    #expect(try addOne() == .deviceLimit)
    let other = try TestDevice("alice@acme.example", device: "x", others: [alice.kid], listVersion: 2)
    #expect(add(other.certificateItem, aliceSession) == .none, "control: another client is not held back")
  }

  @Test("a revoked device is out at once, what waited for it fails, and the others go on")
  func revoked() throws {
    let session = try enrolPhone()
    let both = [bob, phone].sorted { $0.kid < $1.kid }
    #expect(
      fixture.send(try sealText("before", from: alice, to: both).bytes, aliceSession).outcome == .accepted)
    let ended = Mutex<[Kid]>([])
    let watch = fixture.node.watchSession(session) { ended.withLock { $0.append(session.kid) } }
    defer { watch.cancel() }
    #expect(put(try TestDevice("bob@acme.example", others: [phone.kid], listVersion: 3).list) == .none)
    #expect(ended.withLock { $0 } == [], "control: a list that keeps it changes nothing")
    #expect(put(try TestDevice("bob@acme.example", listVersion: 4).list) == .none)
    try fixture.flush()
    #expect(ended.withLock { $0 } == [phone.kid])
    #expect(throws: ErrorCode.deviceInactive) { try fixture.login(phone) }
    #expect(
      fixture.send(try sealText("late", from: phone, to: [alice]).bytes, session).code == .deviceInactive)
    #expect(try devices(of: bob.address) == [bob.kid])

    let failed = try fixture.receipts(aliceSession).map(\.body).filter { $0.state == .failed }
    #expect(failed.map(\.recipientKid) == [phone.kid] && failed.map(\.code) == [.deviceRevoked])
    #expect(try fixture.node.pendingCount(mailbox: session.mailbox) == 0)
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 1, "control: bob still has his")
    #expect(
      try fixture.leaves().contains { $0.action == .deviceRevoked && $0.recipient == phone.kid.description })

    let after = try sealText("after", from: alice, to: both)
    #expect(fixture.send(after.bytes, aliceSession).outcome == .accepted)
    #expect(try fixture.items(bobSession).count { $0.kind == .envelope } == 2)
    let alone = fixture.send(try sealText("alone", from: alice, to: [phone]).bytes, aliceSession)
    #expect(alone.outcome == .refused && alone.code == .deviceRevoked)
    #expect(try fixture.node.pendingCount(mailbox: session.mailbox) == 0)
  }

  @Test("in a shared queue what a revoked device held goes to another, and what only it could open fails")
  func revokedInSharedQueue() throws {
    let session = try enrolPhone()
    #expect(fixture.wait { fixture.node.setQueueMode(.one, bobSession, completion: $0) } == .none)
    let both = [bob, phone].sorted { $0.kid < $1.kid }
    #expect(
      fixture.send(try sealText("shared", from: alice, to: both).bytes, aliceSession).outcome == .accepted)
    #expect(
      fixture.send(try sealText("alone", from: alice, to: [phone]).bytes, aliceSession).outcome == .accepted)
    #expect(try fixture.lease(session).count == 2)
    #expect(try fixture.lease(bobSession).isEmpty, "control: the phone has them")
    #expect(put(try TestDevice("bob@acme.example", listVersion: 3).list) == .none)
    try fixture.flush()
    let taken = try fixture.lease(bobSession)
    #expect(try taken.map { try bob.open($0.envelope, from: alice).body } == [Array("shared".utf8)])
    let failed = try fixture.receipts(aliceSession).map(\.body).filter { $0.state == .failed }
    #expect(failed.map(\.code) == [.deviceRevoked] && failed.map(\.recipientKid) == [phone.kid])
  }

  @Test("what a revoked device still holds by a connection ends when that is closed")
  func revokedWhileWorking() throws {
    let session = try enrolPhone()
    let sealed = try sealText("held", from: alice, to: [phone])
    #expect(fixture.send(sealed.bytes, aliceSession).outcome == .accepted)
    let (consumer, _) = try fixture.consumer(session, prefetch: 1)
    var known = KnownSenders()
    #expect(try leased(consumer.take(maxCount: 1, maxBytes: 1 << 20, knownSenders: &known)).count == 1)
    #expect(put(try TestDevice("bob@acme.example", listVersion: 3).list) == .none)
    try fixture.flush()
    #expect(try fixture.node.pendingCount(mailbox: session.mailbox) == 1, "control: in its hands")
    consumer.cancel()
    try fixture.sweep()
    try fixture.flush()
    #expect(try fixture.node.pendingCount(mailbox: session.mailbox) == 0)
    #expect(try fixture.receipts(aliceSession).map(\.body.code).contains(.deviceRevoked))
  }

  @Test("deliveries of a revoked device end even when the node stopped before it came to them")
  func revokedBeforeRestart() throws {
    let session = try enrolPhone()
    for _ in 0..<3 {
      let sealed = try sealText("waiting", from: alice, to: [phone])
      #expect(fixture.send(sealed.bytes, aliceSession).outcome == .accepted)
    }
    // As a node leaves it that stops between the revocation and its consequences.
    try fixture.store.write { try $0.setValue(phone.kid.bytes, for: "revoked-devices") }
    #expect(try fixture.node.pendingCount(mailbox: session.mailbox) == 3, "control")
    try fixture.stop()
    let again = try NodeFixture("acme.example", clock: fixture.clock, directory: fixture.directory)
    try again.flush()
    #expect(try again.node.pendingCount(mailbox: session.mailbox) == 0)
    try again.stop()
  }

  @Test("a reader that has a sender's certificate is given it again once the device list has grown")
  func renewedLists() throws {
    func send() throws {
      #expect(fixture.send(try sealText("x", from: bob, to: [alice]).bytes, bobSession).outcome == .accepted)
    }
    var known = KnownSenders()
    var after: UInt64 = 0
    func kinds() throws -> [MailboxItem.Kind] {
      let items = try fixture.node.items(
        aliceSession, after: after, maxCount: 10, maxBytes: 1 << 20, knownSenders: &known)
      after = items.last?.seq ?? after
      return items.map(\.kind)
    }
    try send()
    #expect(try kinds() == [.certificate, .envelope])
    try send()
    #expect(try kinds() == [.envelope], "control: nothing has changed")
    #expect(add(phone.certificateItem) == .none)
    try send()
    #expect(try kinds() == [.certificate, .envelope])
    try send()
    #expect(try kinds() == [.envelope])
  }

  @Test("a second device's messages verify at another organisation, until its client revokes it")
  func remote() throws {
    let globex = try NodeFixture("globex.example", clock: fixture.clock)
    try fixture.peer(with: globex)
    let carol = try TestDevice("carol@globex.example")
    let carolSession = try globex.join(carol)
    let session = try enrolPhone()
    #expect(fixture.send(try sealText("one", from: bob, to: [carol]).bytes, bobSession).outcome == .accepted)
    #expect(fixture.send(try sealText("two", from: phone, to: [carol]).bytes, session).outcome == .accepted)
    #expect(try fixture.carry(to: globex).map(\.outcome) == [.accepted, .accepted])
    let items = try globex.items(carolSession)
    #expect(items.map(\.kind) == [.certificate, .envelope, .certificate, .envelope])
    #expect(try carol.open(items[3].payload, from: phone).body == Array("two".utf8))
    // A list without it arrives with the next message, and the roster there forgets what it knew.
    let late = try sealText("late", from: phone, to: [carol])
    func verdict() -> ErrorCode {
      switch globex.node.verify(late.bytes, from: .peer(fixture.node.identity.name)) {
      case .success: .none
      case .failure(let code): code
      }
    }
    #expect(verdict() == .none, "control: still active there")
    #expect(put(try TestDevice("bob@acme.example", listVersion: 3).list) == .none)
    #expect(
      fixture.send(try sealText("three", from: bob, to: [carol]).bytes, bobSession).outcome == .accepted)
    #expect(try fixture.carry(to: globex).map(\.outcome) == [.accepted])
    #expect(verdict() == .deviceInactive)
    try globex.stop()
  }
}
