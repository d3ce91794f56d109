import EngramStore
import Foundation
import GRDB
import Testing

@Suite("Opening the store")
struct OpeningTests {
  @Test("commits are fsynced unless asked otherwise")
  func durableByDefault() throws {
    let folder = try Folder()
    let store = try folder.open()
    try store.requireDurable(as: .full)
    // Control: the check reads the connection, not the wish.
    #expect(throws: StoreError.notDurable) { try store.requireDurable(as: .normal) }
  }

  @Test("a store that runs as normal is refused where full is asked for")
  func normalIsNotFull() throws {
    let folder = try Folder()
    let store = try folder.open(StoreOptions(synchronous: .normal))
    try store.requireDurable(as: .normal)
    #expect(throws: StoreError.notDurable) { try store.requireDurable(as: .full) }
  }

  @Test("a second opening fails while the first holds the lock, and succeeds after it")
  func lockIsExclusive() throws {
    let folder = try Folder()
    do {
      let first = try folder.open()
      refuse(StoreError.locked) { try folder.open() }
      try first.close()
    }
    try folder.open().close()
  }

  @Test("nobody but the owner may read the files")
  func modes() throws {
    let folder = try Folder()
    let store = try folder.open()
    for suffix in ["", "-wal", "-shm", ".lock"] {
      let mode = try FileManager.default.attributesOfItem(atPath: folder.database + suffix)[.posixPermissions]
      #expect(mode as? Int == 0o600, "\(suffix)")
    }
    try store.close()
  }

  @Test("schema.sql is what the migrations make")
  func schemaIsCommitted() throws {
    let folder = try Folder()
    try folder.open().close()
    let statements = try folder.raw { db in
      // GRDB's own table lists the migrations; it is not ours to describe.
      try String.fetchAll(
        db,
        sql:
          "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'grdb_migrations' ORDER BY rowid")
    }
    let made = statements.map { $0 + ";\n" }.joined(separator: "\n")
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Sources/EngramStore/schema.sql").standardizedFileURL
    if ProcessInfo.processInfo.environment["ENGRAM_WRITE_SCHEMA"] == "1" {
      try made.write(to: file, atomically: true, encoding: .utf8)
    }
    #expect(try String(contentsOf: file, encoding: .utf8) == made)
  }

  @Test("a file of a newer version is refused and left alone")
  func newerSchema() throws {
    let folder = try Folder()
    try folder.open().close()
    try folder.raw { try $0.execute(sql: "INSERT INTO grdb_migrations VALUES ('999 from the future')") }
    #expect(throws: StoreError.schemaTooNew) { try folder.open() }
    #expect(try folder.raw { try Int.fetchOne($0, sql: "SELECT count(*) FROM grdb_migrations") } == 5)
  }

  @Test("a file that is no database is refused")
  func notADatabase() throws {
    let folder = try Folder()
    try Data(repeating: 0x41, count: 8_192).write(to: URL(fileURLWithPath: folder.database))
    #expect(throws: StoreError.corrupt(code: 26)) { try folder.open() }
  }

  @Test("a closed store says so")
  func closed() throws {
    let folder = try Folder()
    let store = try folder.open()
    try store.close()
    #expect(throws: StoreError.closed) { try store.write { try $0.setValue([1], for: "key") } }
    #expect(throws: StoreError.closed) { try store.read { try $0.value("key") } }
  }

  @Test("closing waits for reads under way, and reads that come meanwhile are told")
  func closingUnderReads() async throws {
    for _ in 0..<20 {
      let folder = try Folder()
      defer { withExtendedLifetime(folder) {} }
      let store = try folder.open()
      try store.write { try $0.setValue([1], for: "key") }
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<8 {
          group.addTask {
            var count = 0
            // More readers than connections, so that some wait for one when the store closes.
            while (try? store.read({ try $0.value("key") })) == [1] {
              count += 1
              // The pool of threads is small: whoever closes needs one too.
              await Task.yield()
            }
            #expect(throws: StoreError.closed) { try store.read { try $0.value("key") } }
            return count
          }
        }
        group.addTask {
          _ = try store.read { try $0.value("key") }
          try store.close()
          return 1
        }
        // Every reader ends with "closed", none in a crash.
        let total = try await group.reduce(0, +)
        #expect(total >= 1)
      }
    }
  }

  @Test("values, numbers and rows are there after opening again")
  func persistence() throws {
    let folder = try Folder()
    let mailbox = try {
      let store = try folder.open()
      defer { try? store.close() }
      return try store.write { transaction throws in
        try transaction.setValue([9, 8], for: "name")
        let mailbox = try transaction.deviceMailbox()
        #expect(try transaction.takeSeqs(mailbox, count: 3) == 1)
        try transaction.post(1, to: mailbox)
        return mailbox
      }
    }()
    let store = try folder.open()
    try store.write { transaction throws in
      #expect(try transaction.value("name") == [9, 8])
      #expect(try transaction.deviceMailbox() == mailbox)
      #expect(try transaction.highestSeq(mailbox) == 4)
      #expect(try transaction.takeSeqs(mailbox, count: 1) == 5)
      #expect(try transaction.delivery(mailbox, seq: 4)?.bytes == payload(1))
    }
    #expect(try store.read { try $0.check() } == [])
  }
}
