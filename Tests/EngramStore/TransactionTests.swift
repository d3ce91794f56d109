import EngramCore
import EngramStore
import Testing

struct Refusal: Error, Equatable {}

@Suite("Transactions")
struct TransactionTests {
  @Test("a transaction that throws leaves nothing behind")
  func atomic() throws {
    let folder = try Folder()
    let store = try folder.open()
    let mailbox = try store.write { try $0.deviceMailbox() }
    #expect(throws: Refusal()) {
      try store.write { transaction throws in
        try transaction.post(1, to: mailbox)
        try transaction.setValue([1], for: "key")
        throw Refusal()
      }
    }
    try store.read { snapshot throws in
      #expect(try snapshot.counts().messages == 0)
      #expect(try snapshot.counts().openDeliveries == 0)
      #expect(try snapshot.highestSeq(mailbox) == 0)
      #expect(try snapshot.value("key") == nil)
    }
    // Control: the same steps without the throw stay.
    try store.write { _ = try $0.post(1, to: mailbox) }
    #expect(try store.read { try $0.counts().messages } == 1)
  }

  @Test("a savepoint that throws is undone alone")
  func savepoint() throws {
    let folder = try Folder()
    let store = try folder.open()
    try store.write { transaction throws in
      let mailbox = try transaction.deviceMailbox()
      try transaction.post(1, to: mailbox)
      refuse(Refusal()) {
        try transaction.savepoint {
          try transaction.post(2, to: mailbox)
          throw Refusal()
        }
      }
      try transaction.savepoint { _ = try transaction.post(3, to: mailbox) }
      #expect(try transaction.message(digest(2)) == nil)
    }
    try store.read { snapshot throws in
      #expect(try snapshot.message(digest(1)) != nil)
      #expect(try snapshot.message(digest(2)) == nil)
      #expect(try snapshot.message(digest(3)) != nil)
      #expect(try snapshot.check() == [])
    }
  }

  @Test("savepoints nest, and an inner one that was kept goes with the outer one")
  func nestedSavepoints() throws {
    let folder = try Folder()
    let store = try folder.open()
    try store.write { transaction throws in
      refuse(Refusal()) {
        try transaction.savepoint {
          try transaction.savepoint { try transaction.setValue([1], for: "inner") }
          throw Refusal()
        }
      }
      try transaction.setValue([2], for: "after")
    }
    #expect(try store.read { try $0.value("inner") } == nil)
    #expect(try store.read { try $0.value("after") } == [2])
  }

  @Test("a refused row inside a savepoint does not spoil the transaction")
  func conflictIsLocal() throws {
    let folder = try Folder()
    let store = try folder.open()
    try store.write { transaction throws in
      try transaction.setValue([1], for: "key")
      refuse(StoreError.conflict) {
        try transaction.savepoint {
          try transaction.insertDelivery(mailbox: 77, seq: 1, slots: [0], message: 1)
        }
      }
    }
    #expect(try store.read { try $0.value("key") } == [1])
  }

  @Test("readers see one commit or none of it while writes go on")
  func snapshots() async throws {
    let folder = try Folder()
    let store = try folder.open()
    let mailbox = try store.write { transaction throws in
      try transaction.setValue([0], for: "posted")
      return try transaction.deviceMailbox()
    }
    let rounds = 60
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        for round in 1...rounds {
          try store.write { transaction throws in
            try transaction.post(2 * round, to: mailbox)
            try transaction.post(2 * round + 1, to: mailbox)
            try transaction.setValue([UInt8(2 * round)], for: "posted")
          }
        }
      }
      for _ in 0..<8 {
        group.addTask {
          var seen = 0
          while seen < 2 * rounds {
            let (posted, listed) = try store.read { snapshot throws in
              let posted = try snapshot.value("posted").map { Int($0[0]) }
              let rows = try snapshot.deliveries(mailbox, after: 0, maxCount: 1_000, maxBytes: .max)
              return (posted, rows.count)
            }
            #expect(posted == listed)
            #expect(listed >= seen)
            seen = listed
          }
        }
      }
      try await group.waitForAll()
    }
  }
}
