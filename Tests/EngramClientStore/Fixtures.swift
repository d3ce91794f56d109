import EngramClientStore
import EngramCore
import EngramCrypto
import EngramSealing
import Foundation

/// A home in a temporary folder, removed with the object.
final class Home: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "engram-\(UUID().uuidString)").path
    try makeHome(path)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func open(_ keys: ClientKeys) throws -> ClientStore {
    try ClientStore(home: path, storageKey: keys.storageKey)
  }

  /// Every byte of every file in the home.
  func allBytes() throws -> [UInt8] {
    try FileManager.default.contentsOfDirectory(atPath: path).sorted().flatMap {
      [UInt8](try Data(contentsOf: URL(filePath: path + "/" + $0)))
    }
  }
}

/// A client with keys, certificate and one prekey.
struct Person {
  let address: Address
  let identity = SigningKey()
  let device = SigningKey()
  let prekey = PrekeySecret()
  let certificate: DeviceCertificate

  init(_ address: String) throws {
    self.address = try Address(address)
    certificate = try DeviceCertificate(
      verifying: DeviceCertificate.issue(
        DeviceCertificateBody(
          address: self.address, identity: identity.publicKey, signing: device.publicKey, serial: 1,
          notBeforeMs: 0,
          notAfterMs: now + 1_000_000),
        identity: identity, device: device))
  }

  func recipient(_ chain: ChainPosition = .first) -> SealRecipient {
    SealRecipient(
      recipient: Recipient(address: address, kid: device.kid, prekey: prekey.id, prekeyKind: .signed),
      prekey: prekey.publicKey, chain: chain)
  }
}

let now: UInt64 = 1_800_000_000_000

func request(_ body: String = "hello", id: MessageID = fresh16()) -> SealRequest {
  SealRequest(
    messageID: id, thread: fresh16(), type: .direct, createdMs: now, expiresMs: now + 60_000,
    body: Array(body.utf8))
}

func fresh16<Tag>() -> Identifier16<Tag> {
  guard let id = Identifier16<Tag>(randomBytes(16)) else { preconditionFailure("16 bytes") }
  return id
}

func fresh32<Tag>() -> Identifier32<Tag> {
  guard let id = Identifier32<Tag>(randomBytes(32)) else { preconditionFailure("32 bytes") }
  return id
}

extension [UInt8] {
  func contains(_ needle: [UInt8]) -> Bool { Data(self).range(of: Data(needle)) != nil }
}
