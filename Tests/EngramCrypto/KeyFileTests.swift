import EngramCore
import EngramCrypto
import Testing

/// Argon2id with its 256 MiB runs a few times here: one test after the other.
@Suite("Key files", .serialized)
struct KeyFileTests {
  private let passphrase = Array("correct horse".utf8)

  private func secret() -> SecretBytes {
    var bytes: [UInt8] = Array(1...32)
    return SecretBytes(consuming: &bytes)
  }

  private func file(_ text: String) -> SecretBytes {
    var bytes = Array(text.utf8)
    return SecretBytes(consuming: &bytes)
  }

  private func encoded(_ passphrase: [UInt8]?) throws -> String {
    let file = try KeyFile.encode(secret(), kind: "test", passphrase: passphrase)
    return file.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  private func outcome(_ text: String, kind: String = "test", passphrase: [UInt8]?) -> KeyFileError? {
    do throws(KeyFileError) {
      let secret = try KeyFile.decode(file(text), kind: kind, passphrase: passphrase)
      return secret.withUnsafeBytes { Array($0) } == Array(1...32) ? nil : .malformed
    } catch { return error }
  }

  @Test("a clear key file comes back, and says that it is not encrypted")
  func clear() throws {
    let text = try encoded(nil)
    let isEncrypted = KeyFile.isEncrypted(file(text))
    #expect(!isEncrypted)
    #expect(outcome(text, passphrase: nil) == nil)
    #expect(outcome(text, kind: "other", passphrase: nil) == .wrongKind)
  }

  @Test("an encrypted key file opens with its passphrase alone, and not after a change of any line")
  func encrypted() throws {
    let text = try encoded(passphrase)
    let lines = text.split(separator: "\n").map(String.init)
    let isEncrypted = KeyFile.isEncrypted(file(text))
    #expect(isEncrypted)
    #expect(outcome(text, passphrase: passphrase) == nil, "control")
    #expect(outcome(text, passphrase: nil) == .passphraseNeeded)
    #expect(outcome(text, passphrase: Array("correct house".utf8)) == .wrongPassphrase)
    #expect(outcome(text, kind: "other", passphrase: passphrase) == .wrongKind)
    let secretHex = hex(1...32)
    #expect(!text.contains(secretHex))

    let words = lines[1].split(separator: " ").map(String.init)
    let salt = (words[3].first == "0" ? "1" : "0") + words[3].dropFirst()
    let payload = (lines[2].first == "0" ? "1" : "0") + lines[2].dropFirst()
    let changed = [
      "\(lines[0])\nargon2id 1 \(words[2]) \(words[3])\n\(lines[2])\n",
      "\(lines[0])\nargon2id \(words[1]) 67108864 \(words[3])\n\(lines[2])\n",
      "\(lines[0])\nargon2id \(words[1]) \(words[2]) \(salt)\n\(lines[2])\n",
      "\(lines[0])\n\(lines[1])\n\(payload)\n",
    ]
    for text in changed { #expect(outcome(text, passphrase: passphrase) == .wrongPassphrase, "\(text)") }
    let renamed = "engram-key-v1 other\n\(lines[1])\n\(lines[2])\n"
    #expect(outcome(renamed, kind: "other", passphrase: passphrase) == .wrongPassphrase)
  }

  @Test("texts that are no key file, or ask for absurd work, are refused before any work is done")
  func malformed() {
    let salt = String(repeating: "00", count: 16)
    let payload = String(repeating: "00", count: 72)
    let texts = [
      "", "\n\n\n", "engram-key-v1 test\nclear\n\n", "engram-key-v1 test\nclear\nzz\n",
      "engram-key-v1 test\nclear\n00",
      "engram-key-v1 test\nclear\n00\n\n", "another-key test\nclear\n00\n", "engram-key-v1 test\nplain\n00\n",
      "engram-key-v1 test\nargon2id 3 268435456\n\(payload)\n",
      "engram-key-v1 test\nargon2id 0 268435456 \(salt)\n\(payload)\n",
      "engram-key-v1 test\nargon2id 65 268435456 \(salt)\n\(payload)\n",
      "engram-key-v1 test\nargon2id 3 8191 \(salt)\n\(payload)\n",
      "engram-key-v1 test\nargon2id 3 9999999999 \(salt)\n\(payload)\n",
      "engram-key-v1 test\nargon2id 3 268435456 00\n\(payload)\n",
      "engram-key-v1 test\nargon2id 3 268435456 \(salt)\n00\n",
      "engram-key-v1 test\nargon2i 3 268435456 \(salt)\n\(payload)\n",
    ]
    for text in texts {
      #expect(outcome(text, passphrase: passphrase) == .malformed, "\(text.debugDescription)")
    }
  }
}
