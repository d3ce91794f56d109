import Foundation
import GRDB
import Testing

@testable import EngramStore

@Suite("A full disk")
struct FullDiskTests {
  @Test(
    "a commit that does not fit is refused whole, reads go on, and work is taken again when there is room")
  func full() throws {
    let folder = try Folder()
    let store = try folder.open()
    let mailbox = try store.write { transaction throws in
      let mailbox = try transaction.deviceMailbox()
      try transaction.post(1, to: mailbox)
      return mailbox
    }
    // SQLite's own limit gives the same SQLITE_FULL as a write that finds no space.
    let pages = try store.write { try $0.first("PRAGMA page_count", [], .meta) { try $0.integer(0) } } ?? 0
    try store.write {
      _ = try $0.first("PRAGMA max_page_count = \(pages + 2)", [], .meta) { try $0.integer(0) }
    }

    #expect(throws: StoreError.full) {
      try store.write { try $0.post(2, to: mailbox, bytes: payload(2, count: 100_000)) }
    }
    try store.read { snapshot throws in
      #expect(try snapshot.delivery(mailbox, seq: 1)?.bytes == payload(1))
      #expect(try snapshot.message(digest(2)) == nil)
      #expect(try snapshot.highestSeq(mailbox) == 1)
    }
    // Draining goes on too.
    #expect(try store.write { try $0.removeDelivery(mailbox, seq: 1) } != nil)

    try store.write { _ = try $0.first("PRAGMA max_page_count = 1000000", [], .meta) { try $0.integer(0) } }
    let seq = try store.write { try $0.post(2, to: mailbox, bytes: payload(2, count: 100_000)) }
    #expect(seq == 2)
    #expect(try store.read { try $0.check() } == [])
  }

  @Test("a full disk that a savepoint's caller swallows still fails the transaction")
  func swallowed() throws {
    let folder = try Folder()
    let store = try folder.open()
    let mailbox = try store.write { try $0.deviceMailbox() }
    let pages = try store.write { try $0.first("PRAGMA page_count", [], .meta) { try $0.integer(0) } } ?? 0
    try store.write {
      _ = try $0.first("PRAGMA max_page_count = \(pages + 2)", [], .meta) { try $0.integer(0) }
    }
    #expect(throws: StoreError.full) {
      try store.write { transaction throws in
        try transaction.setValue([1], for: "before")
        try? transaction.savepoint {
          _ = try transaction.post(1, to: mailbox, bytes: payload(1, count: 100_000))
        }
        try? transaction.setValue([1], for: "after")
      }
    }
    #expect(try store.read { try $0.value("before") } == nil)
    #expect(try store.read { try $0.value("after") } == nil)
  }

  @Test(
    "on a file system without space the store refuses, reads, and recovers",
    .enabled(if: geteuid() == 0, "it needs root, to mount a small tmpfs"))
  func realDisk() throws {
    let disk = FileManager.default.temporaryDirectory.appendingPathComponent("engram-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: disk, withIntermediateDirectories: true)
    try #require(mount("none", disk.path, "tmpfs", 0, "size=3m,mode=0700") == 0, "errno \(errno)")
    // Detached rather than unmounted: the store may still have its files open.
    defer {
      umount2(disk.path, Int32(MNT_DETACH))
      rmdir(disk.path)
    }
    let folder = try Folder(in: disk)
    let store = try folder.open()
    let mailbox = try store.write { try $0.deviceMailbox() }
    let ballast = folder.url.appendingPathComponent("ballast")
    try Data(count: 1 << 20).write(to: ballast)
    #expect(store.freeDiskBytes() > 0)
    var stored = 0
    #expect(throws: StoreError.full) {
      while stored < 10_000 {
        try store.write {
          _ = try $0.post(stored + 1, to: mailbox, bytes: payload(stored + 1, count: 20_000))
        }
        stored += 1
      }
    }
    #expect(stored > 0)
    func listed() throws -> [UInt64] {
      try store.read { try $0.deliveries(mailbox, after: 0, maxCount: 10_000, maxBytes: .max).map(\.seq) }
    }
    #expect(try listed() == (1...UInt64(stored)).map { $0 })
    #expect(throws: StoreError.full) {
      try store.write { _ = try $0.post(20_000, to: mailbox, bytes: payload(1, count: 500_000)) }
    }
    try FileManager.default.removeItem(at: ballast)
    let next = stored + 1
    try store.write { _ = try $0.post(next, to: mailbox, bytes: payload(next, count: 20_000)) }
    #expect(try listed() == (1...UInt64(next)).map { $0 })
    #expect(try store.read { try $0.check() } == [])
  }

  @Test("result codes are told apart by whose fault they are")
  func codes() {
    #expect(StoreError(sqlite: 13) == .full)
    #expect(StoreError(sqlite: 4_874) == .full)
    #expect(StoreError(sqlite: 1_034) == .fsyncFailed)
    #expect(StoreError(sqlite: 1_290) == .fsyncFailed)
    #expect(StoreError(sqlite: 11) == .corrupt(code: 11))
    #expect(StoreError(sqlite: 267) == .corrupt(code: 267))
    #expect(StoreError(sqlite: 2_067) == .conflict)
    #expect(StoreError(sqlite: 778) == .failed(code: 778))
    #expect(StoreError(errno: ENOSPC) == .full)
  }
}
