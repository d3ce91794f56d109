import EngramCore
import EngramStore
import Testing

@Suite("Clients, devices, invites and tokens")
struct DirectoryTests {
  let folder: Folder
  let store: Store

  init() throws {
    folder = try Folder()
    store = try folder.open()
  }

  @Test("clients read back, by address and by home")
  func clients() throws {
    try store.write { transaction throws in
      try transaction.insertClient(client(bob, home: 3))
      try transaction.insertClient(client(alice))
      refuse(StoreError.conflict) { try transaction.insertClient(client(alice)) }
    }
    try store.read { snapshot throws in
      #expect(try snapshot.client(alice) == client(alice))
      #expect(try snapshot.client(Address("carol@a.example")) == nil)
      #expect(try snapshot.clients(local: true) == [client(alice)])
      #expect(try snapshot.clients(local: false) == [client(bob, home: 3)])
    }
  }

  @Test("a device list is replaced, a client is disabled and enabled, an unknown one is not")
  func updates() throws {
    try store.write { transaction throws in
      try transaction.insertClient(client(alice))
      try transaction.updateDeviceList(alice, list: [7], version: .max)
      try transaction.setDisabled(alice, true)
      let row = try #require(try transaction.client(alice))
      #expect((row.list, row.listVersion, row.isDisabled) == ([7], .max, true))
      try transaction.setDisabled(alice, false)
      #expect(try transaction.client(alice)?.isDisabled == false)
      refuse(StoreError.missing(.client)) { try transaction.setDisabled(bob, true) }
      refuse(StoreError.missing(.client)) { try transaction.updateDeviceList(bob, list: [], version: 1) }
    }
  }

  @Test("devices read back, by kid and by client, and belong to a client that exists")
  func devices() throws {
    try store.write { transaction throws in
      try transaction.insertClient(client(alice))
      let mailbox = try transaction.deviceMailbox()
      let rows = [
        DeviceRow(kid: kid(1), address: alice, certificate: [1], mailbox: mailbox),
        DeviceRow(kid: kid(2), address: alice, certificate: [2], mailbox: nil),
      ]
      for row in rows { try transaction.insertDevice(row) }
      #expect(try transaction.device(kid(2)) == rows[1])
      #expect(try transaction.device(kid(3)) == nil)
      let byKid = rows.sorted { $0.kid < $1.kid }
      #expect(try transaction.devices(of: alice) == byKid)
      #expect(try transaction.devices(of: bob) == [])
      refuse(StoreError.conflict) { try transaction.insertDevice(rows[0]) }
      let stray = DeviceRow(kid: kid(4), address: bob, certificate: [], mailbox: nil)
      refuse(StoreError.conflict) { try transaction.insertDevice(stray) }
    }
  }

  @Test("a signed prekey replaces the older one of the same device")
  func prekeys() throws {
    try store.write { transaction throws in
      try transaction.insertClient(client(alice))
      for number in 1...2 {
        try transaction.insertDevice(
          DeviceRow(kid: kid(number), address: alice, certificate: [], mailbox: nil))
        let id = PrekeyID(digest(number).bytes.prefix(16))!
        try transaction.setSignedPrekey(of: kid(number), id: id, bytes: [UInt8(number)], notAfterMs: now)
      }
      let newer = PrekeyID(digest(9).bytes.prefix(16))!
      try transaction.setSignedPrekey(of: kid(1), id: newer, bytes: [9], notAfterMs: now)
      #expect(try transaction.signedPrekey(of: kid(1)) == [9])
      #expect(try transaction.signedPrekey(of: kid(2)) == [2])
      #expect(try transaction.signedPrekey(of: kid(3)) == nil)
      refuse(StoreError.conflict) {
        try transaction.setSignedPrekey(of: kid(3), id: newer, bytes: [], notAfterMs: now)
      }
    }
  }

  @Test("an invite is taken once, and not after it has run out")
  func invites() throws {
    let rows = [
      InviteRow(digest: digest(1), name: "carol", expiresMs: now + 1),
      InviteRow(digest: digest(2), name: "dave", expiresMs: now),
    ]
    try store.write { transaction throws in
      for row in rows { try transaction.insertInvite(row) }
      refuse(StoreError.conflict) { try transaction.insertInvite(rows[0]) }
      #expect(try transaction.invites() == rows)
      #expect(try transaction.takeInvite(digest(2), nowMs: now) == nil)
      #expect(try transaction.takeInvite(digest(3), nowMs: now) == nil)
      #expect(try transaction.takeInvite(digest(1), nowMs: now) == "carol")
      #expect(try transaction.takeInvite(digest(1), nowMs: now) == nil)
      #expect(try transaction.purgeInvites(nowMs: now) == 1)
      #expect(try transaction.invites() == [])
    }
  }

  @Test("a token is used once until it is purged")
  func tokens() throws {
    let id = Array(digest(1).bytes.prefix(16))
    try store.write { transaction throws in
      #expect(try transaction.useToken(id, expiresMs: now))
      #expect(try transaction.useToken(id, expiresMs: now + 5) == false)
      #expect(try transaction.purgeTokens(nowMs: now - 1) == 0)
      #expect(try transaction.useToken(id, expiresMs: now) == false)
      #expect(try transaction.purgeTokens(nowMs: now) == 1)
      #expect(try transaction.useToken(id, expiresMs: now))
      refuse(StoreError.conflict) { try transaction.useToken([1, 2], expiresMs: now) }
    }
  }
}
