import EngramCore
import EngramStore
import Testing

@Suite("Wiping")
struct WipingTests {
  @Test("a finished message's bytes are in no file after a checkpoint", arguments: [40, 300, 3_000, 200_000])
  func wiped(size: Int) throws {
    let folder = try Folder()
    let store = try folder.open()
    let mark = Array(payload(1, count: size).prefix(32))
    let mailbox = try store.write { transaction throws in
      let mailbox = try transaction.deviceMailbox()
      try transaction.post(1, to: mailbox, bytes: payload(1, count: size))
      return mailbox
    }
    try store.checkpoint()
    // Control: they were there.
    #expect(try folder.contains(mark))
    _ = try store.write { try $0.removeDelivery(mailbox, seq: 1) }
    try store.checkpoint()
    #expect(try !folder.contains(mark))
    #expect(try !folder.contains(mark, in: "-wal"))
  }

  @Test("of many messages that share pages, exactly the finished ones leave no trace")
  func neighbours() throws {
    let folder = try Folder()
    let store = try folder.open()
    let all = 1...300
    func size(_ number: Int) -> Int { 64 + (number * 997) % 6_000 }
    let mailbox = try store.write { try $0.deviceMailbox() }
    for number in all {
      try store.write { _ = try $0.post(number, to: mailbox, bytes: payload(number, count: size(number))) }
    }
    let finished = all.filter { $0 * 7_919 % 3 != 0 }
    for number in finished.sorted(by: { $0 * 31 % 101 < $1 * 31 % 101 }) {
      try store.write { _ = try $0.removeDelivery(mailbox, seq: UInt64(number)) }
    }
    try store.checkpoint()
    for number in all {
      let mark = Array(payload(number, count: 64).prefix(32))
      #expect(try folder.contains(mark) == !finished.contains(number), "message \(number)")
    }
    #expect(try store.read { try $0.check() } == [])
  }

  @Test("a notice that was removed leaves no trace")
  func notice() throws {
    let folder = try Folder()
    let store = try folder.open()
    let mark = Array(payload(1).prefix(32))
    let mailbox = try store.write { transaction throws in
      let mailbox = try transaction.deviceMailbox()
      try transaction.insertNotice(mailbox: mailbox, seq: 1, bytes: payload(1), nowMs: now)
      return mailbox
    }
    try store.checkpoint()
    #expect(try folder.contains(mark))
    try store.write { _ = try $0.removeNotice(mailbox, seq: 1) }
    try store.checkpoint()
    #expect(try !folder.contains(mark))
  }
}
