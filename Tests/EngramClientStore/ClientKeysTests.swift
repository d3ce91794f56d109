import EngramClientStore
import EngramCrypto
import Testing

@Suite("The key file")
struct ClientKeysTests {
  @Test("keys come back as they were written, and are never overwritten")
  func roundTrip() throws {
    let home = try Home()
    let keys = ClientKeys()
    try keys.write(home: home.path, passphrase: nil)
    let read = try ClientKeys(home: home.path, passphrase: nil)
    #expect(
      read.identity?.publicKey == keys.identity?.publicKey && read.device.publicKey == keys.device.publicKey)
    let same = read.storageKey.withUnsafeBytes { Array($0) } == keys.storageKey.withUnsafeBytes { Array($0) }
    #expect(same)
    #expect(throws: ClientStoreError.self) { try ClientKeys().write(home: home.path, passphrase: nil) }
    #expect(try ClientKeys(home: home.path, passphrase: nil).device.publicKey == keys.device.publicKey)
  }

  @Test("a passphrase is needed, the right one, and then no seed is readable in the file")
  func passphrase() throws {
    let (sealed, clear) = (try Home(), try Home())
    let keys = ClientKeys()
    try keys.write(home: sealed.path, passphrase: Array("correct horse".utf8))
    try keys.write(home: clear.path, passphrase: nil)
    let seed = try #require(keys.identity).seed().withUnsafeBytes { Array(hexText($0).utf8) }
    #expect(try clear.allBytes().contains(seed), "control: without a passphrase it is")
    #expect(try !sealed.allBytes().contains(seed))
    #expect(try ClientKeys.isEncrypted(home: sealed.path) && !ClientKeys.isEncrypted(home: clear.path))
    #expect(throws: KeyFileError.passphraseNeeded) { try ClientKeys(home: sealed.path, passphrase: nil) }
    #expect(throws: KeyFileError.wrongPassphrase) { try ClientKeys(home: sealed.path, passphrase: [1]) }
    let read = try ClientKeys(home: sealed.path, passphrase: Array("correct horse".utf8))
    #expect(read.identity?.publicKey == keys.identity?.publicKey)
  }

  @Test("the keys of a further device come back without an identity, and have none to give")
  func furtherDevice() throws {
    let home = try Home()
    let keys = ClientKeys.ofFurtherDevice()
    try keys.write(home: home.path, passphrase: nil)
    let read = try ClientKeys(home: home.path, passphrase: nil)
    #expect(read.identity == nil && read.device.publicKey == keys.device.publicKey)
    let same = read.storageKey.withUnsafeBytes { Array($0) } == keys.storageKey.withUnsafeBytes { Array($0) }
    #expect(same)
    #expect(ClientKeys().identity != nil, "control")
  }

  private func hexText(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
  }
}
