import EngramClientStore
import EngramCore
import EngramCrypto
import EngramSealing
import Testing

@Suite("Pins, chains and alarms")
struct PinAndChainTests {
  private let home: Home
  private let store: ClientStore
  private let bob: Person
  private let kid: Kid = fresh16()

  init() throws {
    home = try Home()
    store = try ClientStore(home: home.path, storageKey: SecretBytes.random(StorageBox.keyBytes))
    bob = try Person("bob@globex.example")
  }

  @Test("an identity is pinned on first use; another one waits for approval and changes nothing")
  func identityPin() throws {
    let other = SigningKey().publicKey
    try store.write { rows in
      try rows.pinPeer(bob.address, identity: bob.identity.publicKey, nowMs: 1)
      try rows.pinPeer(bob.address, identity: other, nowMs: 2)
      try rows.setPendingIdentity(bob.address, other)
    }
    let pin = try #require(try store.read { try $0.peer(bob.address) })
    #expect(pin.identity == bob.identity.publicKey && pin.firstSeenMs == 1 && pin.approvedMs == nil)
    #expect(pin.pending == other)
    try store.write { try $0.approvePeer(bob.address, identity: other, nowMs: 3) }
    let approved = try #require(try store.read { try $0.peer(bob.address) })
    #expect(approved.identity == other && approved.approvedMs == 3 && approved.pending == nil)
  }

  @Test("approval of another identity drops what the old one had signed; approval of the same one keeps it")
  func approvalDropsOldWord() throws {
    try store.write { rows in
      try rows.pinPeer(bob.address, identity: bob.identity.publicKey, nowMs: 1)
      try rows.setDeviceList(bob.address, identity: bob.identity.publicKey, version: 4, list: [1])
      try rows.setDirectoryAnswer(bob.address, [2], issuedMs: 1, fetchedMs: 1)
      try rows.approvePeer(bob.address, identity: bob.identity.publicKey, nowMs: 2)
    }
    #expect(try store.read { try $0.deviceList(of: bob.address) }?.version == 4, "control")
    #expect(try store.read { try $0.directoryAnswer(bob.address) } != nil, "control")
    try store.write { try $0.approvePeer(bob.address, identity: SigningKey().publicKey, nowMs: 3) }
    #expect(try store.read { try $0.deviceList(of: bob.address) } == nil)
    #expect(try store.read { try $0.directoryAnswer(bob.address) } == nil)
  }

  @Test("a node id is pinned on first use and replaced only by approval")
  func nodePin() throws {
    let (first, second) = (NodeID(SigningKey().publicKey), NodeID(SigningKey().publicKey))
    try store.write { rows in
      try rows.pinNode(bob.address.node, first, nowMs: 1)
      try rows.pinNode(bob.address.node, second, nowMs: 2)
      try rows.setPendingNode(bob.address.node, second)
    }
    #expect(try store.read { try $0.nodePin(bob.address.node) }?.id == first)
    try store.write { try $0.approvePendingNode(bob.address.node) }
    #expect(try store.read { try $0.nodePin(bob.address.node) }?.id == second)
  }

  /// Records places of one chain; `ids` are the envelopes at 1, 2, 3, …
  private func record(_ seq: UInt64, _ ids: [EnvelopeID]) throws -> ChainVerdict {
    let index = Int(seq) - 1
    let position = ChainPosition(seq: seq, previous: index == 0 ? .zero : ids[index - 1])
    return try store.write { rows in
      let verdict = try rows.judge(position, id: ids[index], from: kid)
      if case .gap(let missing) = verdict {
        try rows.raise(.gap, .chainGap, address: bob.address.text, kid: kid, missing: missing, nowMs: now)
      }
      if verdict != .fork, verdict != .duplicate {
        try rows.record(position, id: ids[index], from: kid, expiresMs: now + 1)
        try rows.closeGaps(from: kid, around: position, nowMs: now)
      }
      return verdict
    }
  }

  @Test("a gap is an alarm until every missing message has come")
  func gap() throws {
    let ids: [EnvelopeID] = (0..<4).map { _ in fresh32() }
    #expect(try record(1, ids) == .inOrder)
    #expect(try record(4, ids) == .gap(missing: 2...3))
    #expect(try record(3, ids) == .inOrder)
    #expect(try store.read { try $0.alarms() }.first?.resolvedMs == nil)
    #expect(try record(2, ids) == .inOrder)
    let alarms = try store.read { try $0.alarms() }
    #expect(alarms.map(\.kind) == [.gap] && alarms[0].missing == 2...3 && alarms[0].resolvedMs != nil)
  }

  @Test("one place with two envelopes is a fork, and so is a predecessor that was another")
  func fork() throws {
    let ids: [EnvelopeID] = (0..<3).map { _ in fresh32() }
    #expect(try record(1, ids) == .inOrder)
    #expect(try record(2, ids) == .inOrder, "control")
    #expect(try record(2, ids) == .duplicate)
    #expect(try record(2, [ids[0], fresh32(), ids[2]]) == .fork)
    #expect(try record(3, [ids[0], fresh32(), ids[2]]) == .fork)
    #expect(try record(3, ids) == .inOrder, "control")
  }

  @Test("a sequence number that no honest sender reaches is a fork, not an accident")
  func hugeSequence() throws {
    for seq in [UInt64.max, UInt64(Int64.max), UInt64(Int64.max) + 1] {
      let position = ChainPosition(seq: seq, previous: fresh32())
      #expect(try store.read { try $0.judge(position, id: fresh32(), from: kid) } == .fork)
    }
    let possible = ChainPosition(seq: UInt64(Int64.max) - 1, previous: fresh32())
    guard case .gap = try store.read({ try $0.judge(possible, id: fresh32(), from: kid) }) else {
      Issue.record("control: the largest possible number is only a gap")
      return
    }
  }

  @Test("the same alarm stands once, and again when it was resolved")
  func alarmsOnce() throws {
    func raise() throws -> Bool {
      try store.write {
        try $0.raise(.identityChanged, .identityChanged, address: bob.address.text, nowMs: now)
      }
    }
    #expect(try raise())
    #expect(try !raise())
    try store.write { try $0.resolveIdentityAlarms(bob.address, nowMs: now) }
    #expect(try raise())
    #expect(try store.read { try $0.alarms() }.count == 1)
  }

  @Test("purging keeps the newest place of a chain, and remembers how far it went")
  func purge() throws {
    let ids: [EnvelopeID] = (0..<3).map { _ in fresh32() }
    for seq in 1...3 { _ = try record(UInt64(seq), ids) }
    try store.write { try $0.purge(nowMs: now + Limits.dedupeGraceMs + 2) }
    #expect(try store.read { try $0.recorded(from: kid, seq: 1) } == nil)
    #expect(try store.read { try $0.recorded(from: kid, seq: 3) }?.id == ids[2])
    #expect(try store.read { try $0.highestPosition(from: kid) } == 3)
  }
}
