import EngramCore
import EngramCrypto
import EngramStore
import Foundation
import GRDB
import Testing

/// A directory of its own per test, removed with it.
final class Folder {
  let url: URL

  init(in parent: URL = FileManager.default.temporaryDirectory) throws {
    url = parent.appendingPathComponent("engram-store-" + UUID().uuidString)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  var database: String { url.appendingPathComponent("node.db").path }
  func open(_ options: StoreOptions = .init()) throws -> Store { try Store(path: database, options: options) }

  /// A connection behind the store's back, for damage and inspection.
  func raw<T>(_ body: (Database) throws -> T) throws -> T {
    let queue = try DatabaseQueue(path: database)
    let result = try queue.writeWithoutTransaction { db in
      try db.execute(sql: "PRAGMA foreign_keys = OFF")
      return try body(db)
    }
    try queue.close()
    return result
  }

  func contains(_ pattern: [UInt8], in suffix: String = "") throws -> Bool {
    try Data(contentsOf: URL(fileURLWithPath: database + suffix)).range(of: Data(pattern)) != nil
  }
}

let alice = try! Address("alice@a.example")
let bob = try! Address("bob@b.example")
let now: UInt64 = 1_750_000_000_000

func digest(_ number: Int) -> Digest { tagged("test", Array("\(number)".utf8)[...]) }
func envelopeID(_ number: Int) -> EnvelopeID { EnvelopeID(digest(number).bytes)! }
func kid(_ number: Int) -> Kid { Kid(digest(number).bytes.prefix(16))! }

/// `count` bytes that occur nowhere else: the digest of `number`, over and over.
func payload(_ number: Int, count: Int = 300) -> [UInt8] {
  let unit = digest(1_000_000 + number).bytes
  return (0..<count).map { unit[$0 % unit.count] }
}

func sample(
  _ number: Int, open: Int = 1, expiresMs: UInt64 = now + 60_000, bytes: [UInt8]? = nil
) -> NewMessage {
  NewMessage(
    dedupe: digest(number), envelopeID: envelopeID(number), sender: alice, senderKid: kid(0),
    type: .taskRequest, priority: .high, createdMs: now - 5, expiresMs: expiresMs, notBeforeMs: 0, origin: 0,
    acceptedMs: now, openDeliveries: open, bytes: bytes ?? payload(number))
}

extension StoreTransaction {
  /// Stores message `number` for one recipient and returns its delivery's number.
  @discardableResult
  func post(_ number: Int, to mailbox: Int64, expiresMs: UInt64 = now + 60_000, bytes: [UInt8]? = nil) throws
    -> UInt64
  {
    let row = try stored(insertMessage(sample(number, expiresMs: expiresMs, bytes: bytes)))
    let seq = try takeSeqs(mailbox, count: 1)
    try insertDelivery(mailbox: mailbox, seq: seq, slots: [0], message: row)
    return seq
  }

  func insertDelivery(mailbox: Int64, seq: UInt64, slots: [Int], message: Int64) throws {
    try insertDelivery(DeliveryPlace(mailbox: mailbox, seq: seq, message: message, slots: slots))
  }

  func deviceMailbox(_ number: Int = 1) throws -> Int64 {
    try createMailbox(.device, owner: kid(number).bytes)
  }
}

struct NotInserted: Error {}

func stored(_ outcome: InsertOutcome) throws -> Int64 {
  guard case .inserted(let message) = outcome else { throw NotInserted() }
  return message
}

func client(_ address: Address, home: Int64 = 0) -> ClientRow {
  ClientRow(
    address: address, identity: SigningPublicKey(digest(7).bytes)!, list: [1, 2, 3], listVersion: 4,
    home: home,
    isDisabled: false, createdMs: now)
}

/// Expects exactly this error. A function, because Swift 6.3 gives a closure inside `#expect(throws:)` the
/// symbol of a sibling when both stand in another closure, and then runs one of them twice and the other
/// never.
func refuse<Failure: Error & Equatable, T>(
  _ expected: Failure, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> T
) {
  do {
    _ = try body()
    Issue.record("nothing was thrown, \(expected) was expected", sourceLocation: sourceLocation)
  } catch let error as Failure where error == expected {
  } catch {
    Issue.record("\(error) was thrown, \(expected) was expected", sourceLocation: sourceLocation)
  }
}
