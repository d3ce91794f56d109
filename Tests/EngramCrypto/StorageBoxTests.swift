import EngramCrypto
import Testing

@Suite("Sealed columns")
struct StorageBoxTests {
  private let box = StorageBox(storageKey: SecretBytes.random(StorageBox.keyBytes))
  private let plain = Array("the plain bytes of a column".utf8)

  private func place(
    table: StaticString = "inbox", column: StaticString = "content", row: [UInt8] = [1], version: UInt32 = 1
  ) -> StoragePlace {
    StoragePlace(table: table, column: column, row: row, schemaVersion: version)
  }

  @Test("what was sealed for a place opens there, empty values too")
  func roundTrip() {
    #expect(box.open(box.seal(plain, at: place()), at: place()) == plain)
    #expect(box.open(box.seal([], at: place()), at: place()) == [])
    #expect(box.seal(plain, at: place()).count == plain.count + StorageBox.overheadBytes)
  }

  @Test("a value moved to another table, column, row or schema version does not open")
  func placeIsBound() {
    let sealed = box.seal(plain, at: place())
    #expect(box.open(sealed, at: place()) == plain, "control")
    #expect(box.open(sealed, at: place(table: "queued")) == nil)
    #expect(box.open(sealed, at: place(column: "other")) == nil)
    #expect(box.open(sealed, at: place(row: [2])) == nil)
    #expect(box.open(sealed, at: place(version: 2)) == nil)
  }

  @Test("every flipped bit is refused, and so are cut values")
  func tampering() {
    let sealed = box.seal(plain, at: place())
    for bit in 0..<(sealed.count * 8) {
      var changed = sealed
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(box.open(changed, at: place()) == nil)
    }
    for count in 0..<sealed.count { #expect(box.open(Array(sealed.prefix(count)), at: place()) == nil) }
    #expect(box.open(sealed, at: place()) == plain, "control")
  }

  @Test("another storage key opens nothing; the same storage key does")
  func keyIsNeeded() {
    let storageKey = SecretBytes.random(StorageBox.keyBytes)
    let sealed = StorageBox(storageKey: storageKey).seal(plain, at: place())
    #expect(StorageBox(storageKey: storageKey).open(sealed, at: place()) == plain, "control")
    #expect(box.open(sealed, at: place()) == nil)
  }

  @Test("secrets come back in guarded memory, byte for byte")
  func secrets() {
    let secret = SecretBytes.random(32)
    guard let opened = box.openSecret(box.seal(secret, at: place()), at: place()) else {
      Issue.record("the secret does not open")
      return
    }
    let same = secret.withUnsafeBytes { a in opened.withUnsafeBytes { b in a.elementsEqual(b) } }
    #expect(same)
  }
}
