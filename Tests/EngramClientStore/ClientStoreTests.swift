import EngramClientStore
import EngramCore
import EngramCrypto
import EngramSealing
import Foundation
import Testing

private struct Crash: Error {}

@Suite("The client's store")
struct ClientStoreTests {
  private let home: Home
  private let keys = ClientKeys()
  private let alice: Person
  private let bob: Person

  init() throws {
    (home, alice, bob) = try (Home(), Person("alice@acme.example"), Person("bob@globex.example"))
  }

  private func open() throws -> ClientStore { try home.open(keys) }

  private func draft(_ body: String) -> Draft {
    Draft(
      messageID: fresh16(), recipients: [bob.address], type: .direct, priority: .normal, thread: fresh16(),
      parent: nil, createdMs: now, expiresMs: now + 60_000, notBeforeMs: 0, contentType: "text/plain",
      body: Array(body.utf8), mayCompress: false)
  }

  @Test("the schema is the one in schema.sql")
  func schema() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Sources/EngramClientStore/schema.sql")
    #expect(try open().read { try $0.schemaText() } == String(contentsOf: file, encoding: .utf8))
  }

  @Test("files of a home are readable by their owner only")
  func modes() throws {
    let store = try open()
    try ClientKeys().write(home: home.path, passphrase: nil)
    try store.write { try $0.enqueue(draft("x"), code: .peerUnreachable) }
    for name in try FileManager.default.contentsOfDirectory(atPath: home.path) {
      let attributes = try FileManager.default.attributesOfItem(atPath: home.path + "/" + name)
      #expect((attributes[.posixPermissions] as? Int).map { $0 & 0o077 } == 0, "\(name)")
    }
  }

  @Test("envelope and chain are committed together, or neither is")
  func chainAndEnvelope() throws {
    let store = try open()
    let message = request()
    func keep(_ rows: ClientTransaction, crash: Bool) throws {
      let position = try rows.nextPosition(to: bob.device.kid)
      let sealed = try seal(
        message, from: alice.address, for: [bob.recipient(position)], device: alice.device)
      try rows.insertSealed(
        message.messageID, envelope: sealed.id, bytes: sealed.bytes, createdMs: now, expiresMs: now + 60_000)
      if crash { throw Crash() }
      try rows.advanceChain(
        to: bob.device.kid, next: ChainPosition(seq: position.seq + 1, previous: sealed.id))
    }
    #expect(throws: Crash.self) { try store.write { try keep($0, crash: true) } }
    #expect(try store.read { try $0.waiting(limit: 10) }.isEmpty)
    #expect(try store.read { try $0.nextPosition(to: bob.device.kid) } == .first)

    // Control: without the crash both are there, also for somebody who opens the file anew.
    try store.write { try keep($0, crash: false) }
    try store.close()
    let again = try open()
    let waiting = try again.read { try $0.waiting(limit: 10) }
    #expect(waiting.map(\.messageID) == [message.messageID])
    let next = try again.read { try $0.nextPosition(to: bob.device.kid) }
    #expect(next == ChainPosition(seq: 2, previous: waiting[0].envelopeID))
  }

  @Test("an accepted envelope leaves its stub, with the same id and without the body")
  func stub() throws {
    let store = try open()
    let message = request(String(repeating: "long body ", count: 200))
    let sealed = try seal(message, from: alice.address, for: [bob.recipient()], device: alice.device)
    try store.write {
      try $0.insertSealed(
        message.messageID, envelope: sealed.id, bytes: sealed.bytes, createdMs: now, expiresMs: now + 1)
    }
    let waiting = try #require(try store.read { try $0.outbox(envelope: sealed.id) })
    try store.write { try $0.settle(waiting, .accepted, code: .none) }
    let row = try #require(try store.read { try $0.outbox(envelope: sealed.id) })
    let kept = try UnverifiedEnvelope(parsing: row.envelope)
    #expect(row.state == .accepted && kept.isStub && row.envelope.count < sealed.bytes.count)
    #expect(EnvelopeDigests(of: kept).id == sealed.id)
    #expect(try store.read { try $0.waiting(limit: 10) }.isEmpty)
  }

  @Test("neither bodies nor prekey secrets nor invites are readable in the files; with the key they are")
  func secretsAreSealed() throws {
    let store = try open()
    let queuedText = "the plaintext that waits in the queue"
    let openedText = "the plaintext that was opened from an envelope"
    let invite = randomBytes(40)
    let secret = bob.prekey.seed().withUnsafeBytes { Array($0) }
    let waiting = draft(queuedText)
    try store.write { rows in
      try rows.enqueue(waiting, code: .peerUnreachable)
      try rows.insertMessage(try opened(openedText), seq: 1, isAfterGap: false, nowMs: now)
      try rows.insertPrekey(
        bob.prekey, kind: .signed, certified: [1], notBeforeMs: now, notAfterMs: now + 1, eraseMs: now + 2)
      try rows.insertAccount(account(registration: invite))
    }
    try store.close()
    let bytes = try home.allBytes()
    #expect(bytes.count > 4_096)
    #expect(bytes.contains(Array(bob.address.text.utf8)), "control: the search finds what is in the clear")
    #expect(!bytes.contains(Array(queuedText.utf8)))
    #expect(!bytes.contains(Array(openedText.utf8)))
    #expect(!bytes.contains(secret))
    #expect(!bytes.contains(invite))

    let again = try open()
    try again.read { rows throws in
      #expect(try rows.queued(limit: 10).map(\.draft) == [waiting])
      #expect(try rows.unacknowledged(after: 0, limit: 10).map(\.body) == [Array(openedText.utf8)])
      #expect(try rows.prekeySecret(bob.prekey.id)?.publicKey == bob.prekey.publicKey)
      #expect(try rows.account().pendingRegistration == invite)
    }
  }

  @Test("another key file opens nothing of a home")
  func wrongKey() throws {
    let store = try open()
    try store.write { try $0.enqueue(draft("secret"), code: .none) }
    try store.close()
    let other = try ClientStore(home: home.path, storageKey: SecretBytes.random(StorageBox.keyBytes))
    #expect(throws: ClientStoreError.damaged) { try other.read { try $0.queued(limit: 1) } }
    try other.close()
    #expect(try open().read { try $0.queued(limit: 1) }.count == 1, "control")
  }

  @Test("an acknowledged message is not handed out again, its receipt stays")
  func acknowledged() throws {
    let store = try open()
    let message = try opened("body to be erased")
    try store.write { try $0.insertMessage(message, seq: 7, isAfterGap: false, nowMs: now) }
    try store.write { try $0.complete(message.id, receipt: [9, 9]) }
    try store.read { rows throws in
      #expect(try rows.unacknowledged(after: 0, limit: 10).isEmpty)
      let state = try rows.inboxState(message.id)
      #expect(state?.seq == 7 && state?.receipt == [9, 9])
      #expect(try rows.unsettled(limit: 10).map(\.ack) == [MailboxAck(seq: 7, receipt: [9, 9])])
    }
    try store.write { try $0.settle([(message.id, 8)]) }
    #expect(try store.read { try $0.unsettled(limit: 10).count } == 1, "it is about another number")
    try store.write { try $0.settle([(message.id, 7)]) }
    #expect(try store.read { try $0.unsettled(limit: 10).isEmpty })
  }

  @Test("a signed prekey's secret is erased at its time and not before")
  func prekeyErasure() throws {
    let store = try open()
    let (notAfter, erase) = (now + 1_000, now + 2_000)
    try store.write {
      try $0.insertPrekey(
        bob.prekey, kind: .signed, certified: [1], notBeforeMs: now, notAfterMs: notAfter, eraseMs: erase)
    }
    try store.write { try $0.purge(nowMs: erase - 1) }
    #expect(try store.read { try $0.prekeySecret(bob.prekey.id) } != nil, "control")
    try store.write { try $0.purge(nowMs: erase) }
    #expect(try store.read { try $0.prekeySecret(bob.prekey.id) } == nil)
  }

  @Test("a one-time prekey goes with the message that used it, a signed one stays")
  func oneTimePrekeys() throws {
    let store = try open()
    let oneTime = PrekeySecret()
    try store.write { rows in
      for (secret, kind) in [(oneTime, PrekeyKind.oneTime), (bob.prekey, .signed)] {
        try rows.insertPrekey(
          secret, kind: kind, certified: [1], notBeforeMs: now, notAfterMs: now + 1, eraseMs: now + 2)
      }
      try rows.consumePrekey(oneTime.id, kind: .oneTime)
      try rows.consumePrekey(bob.prekey.id, kind: .signed)
    }
    #expect(try store.read { try $0.prekeySecret(oneTime.id) } == nil)
    #expect(try store.read { try $0.prekeySecret(bob.prekey.id) } != nil)
  }

  @Test("two stores on one home see each other's commits and take turns")
  func twoCommands() async throws {
    let (first, second) = (try open(), try open())
    try await withThrowingTaskGroup(of: Void.self) { group in
      for store in [first, second] {
        group.addTask {
          for _ in 0..<20 {
            try store.write { rows in
              let position = try rows.nextPosition(to: bob.device.kid)
              try rows.advanceChain(
                to: bob.device.kid, next: ChainPosition(seq: position.seq + 1, previous: fresh32()))
            }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(try first.read { try $0.nextPosition(to: bob.device.kid) }.seq == 41)
  }

  @Test("a lock that somebody keeps is reported, and free again afterwards")
  func lockIsBounded() throws {
    let path = home.path + "/some.lock"
    let (holder, other) = (try HomeLock(path: path), try HomeLock(path: path))
    try holder.acquire()
    #expect(throws: ClientStoreError.busy) { try other.acquire(waitMs: 20) }
    holder.release()
    try other.acquire(waitMs: 20)
  }

  private func account(registration: [UInt8]?) -> AccountRow {
    AccountRow(
      address: bob.address, identity: bob.identity.publicKey, kid: bob.device.kid,
      nodeID: NodeID(SigningKey().publicKey), endpoint: "127.0.0.1:1", serverName: "globex.example",
      certificate: bob.certificate.bytes, deviceList: [1], pendingRegistration: registration)
  }

  private func opened(_ body: String) throws -> OpenedMessage {
    let sealed = try seal(request(body), from: alice.address, for: [bob.recipient()], device: alice.device)
    let verified = try VerifiedEnvelope(
      try UnverifiedEnvelope(parsing: sealed.bytes), sender: alice.certificate)
    return try EngramSealing.open(verified, as: bob.address, kid: bob.device.kid) { _ in bob.prekey }
  }
}
