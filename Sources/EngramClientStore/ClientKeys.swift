package import EngramCrypto
internal import Glibc

/// The secrets of one client on one device: `<home>/client.key`, written once and never changed.
package struct ClientKeys: Sendable {
  /// Certifies devices; only the client holds it, in the home of one of its devices. nil in those of the
  /// others.
  package let identity: SigningKey?
  package let device: SigningKey
  private let storageSeed: StorageSeed

  /// Identity seed, device seed and storage key, 32 bytes each; the second kind goes without the first.
  private static let bytes = 96
  private static let deviceBytes = 64
  private static let kind = "client"
  private static let deviceKind = "client-device"

  /// Keeps the storage key in guarded memory while the keys are copied around.
  private final class StorageSeed: Sendable {
    let bytes: SecretBytes
    init(_ bytes: consuming SecretBytes) { self.bytes = bytes }
  }

  /// Fresh keys for the first device of a new client.
  package init() { self.init(identity: SigningKey()) }

  /// Fresh keys for a further device of a client whose identity key is elsewhere.
  package static func ofFurtherDevice() -> ClientKeys { ClientKeys(identity: nil) }

  private init(identity: SigningKey?) {
    self.identity = identity
    device = SigningKey()
    storageSeed = StorageSeed(SecretBytes.random(StorageBox.keyBytes))
  }

  package var storageKey: SecretBytes { storageSeed.bytes.copy() }

  /// Reads the key file of a home.
  package init(home: String, passphrase: [UInt8]?) throws {
    let secret = try Self.secret(try Self.file(home), passphrase)
    let hasIdentity = secret.count == Self.bytes
    func part(_ index: Int) -> SecretBytes {
      secret.withUnsafeBytes { source in
        SecretBytes(count: 32) {
          $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[(index * 32)..<(index * 32 + 32)]))
        }
      }
    }
    let first = hasIdentity ? 1 : 0
    identity = hasIdentity ? SigningKey(seed: part(0)) : nil
    device = SigningKey(seed: part(first))
    storageSeed = StorageSeed(part(first + 1))
  }

  /// What is in the file, of the length that its kind says.
  private static func secret(_ file: borrowing SecretBytes, _ passphrase: [UInt8]?) throws -> SecretBytes {
    do {
      let secret = try KeyFile.decode(file, kind: kind, passphrase: passphrase)
      guard secret.count == bytes else { throw KeyFileError.malformed }
      return secret
    } catch KeyFileError.wrongKind {
      let secret = try KeyFile.decode(file, kind: deviceKind, passphrase: passphrase)
      guard secret.count == deviceBytes else { throw KeyFileError.malformed }
      return secret
    }
  }

  /// Writes the key file, mode 0600, sealed under the passphrase if there is one. Never overwrites.
  /// - Throws: `unreadable(EEXIST)` when there is one already.
  package func write(home: String, passphrase: [UInt8]?) throws {
    let deviceSeed = device.seed()
    let first = identity == nil ? 0 : 1
    let secret = SecretBytes(count: identity == nil ? Self.deviceBytes : Self.bytes) { target in
      func copy(_ source: borrowing SecretBytes, to index: Int) {
        source.withUnsafeBytes {
          UnsafeMutableRawBufferPointer(rebasing: target[(index * 32)...]).copyMemory(from: $0)
        }
      }
      if let identity { copy(identity.seed(), to: 0) }
      copy(deviceSeed, to: first)
      copy(storageSeed.bytes, to: first + 1)
    }
    let kind = identity == nil ? Self.deviceKind : Self.kind
    let file = try KeyFile.encode(secret, kind: kind, passphrase: passphrase)
    try file.withUnsafeBytes { try writeNewFile(Self.path(home), $0) }
  }

  package static func exists(home: String) -> Bool { access(path(home), F_OK) == 0 }

  /// Whether opening the home needs a passphrase.
  package static func isEncrypted(home: String) throws -> Bool {
    KeyFile.isEncrypted(try file(home))
  }

  private static func path(_ home: String) -> String { home + "/client.key" }

  private static func file(_ home: String) throws(ClientStoreError) -> SecretBytes {
    do { return try SecretBytes.read(path: path(home)) } catch { throw .unreadable(errno: error.errno) }
  }
}

/// Makes the folder of a home, mode 0700; one that exists is kept.
package func makeHome(_ path: String) throws(ClientStoreError) {
  if mkdir(path, 0o700) == 0 || errno == EEXIST { return }
  guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash > path.startIndex else {
    throw .unreadable(errno: errno)
  }
  try makeHome(String(path[..<slash]))
  guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw .unreadable(errno: errno) }
}

/// Reads a small file whole.
package func readFile(_ path: String, maxBytes: Int = 64 << 20) throws(ClientStoreError) -> [UInt8] {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw .unreadable(errno: errno) }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 64 << 10)
  while true {
    let count = read(descriptor, &chunk, chunk.count)
    guard count >= 0 else { throw .unreadable(errno: errno) }
    if count == 0 { return bytes }
    bytes += chunk[..<count]
    guard bytes.count <= maxBytes else { throw .unreadable(errno: EFBIG) }
  }
}

/// Writes a file that must survive a power cut: temporary name, fsync, link under the real name (which fails
/// if it is taken), fsync of the folder.
package func writeNewFile(_ path: String, _ bytes: UnsafeRawBufferPointer) throws(ClientStoreError) {
  try writeFile(path, bytes) { link($0, $1) }
}

/// The same for a file that takes the place of an older one: afterwards there is the old one or the new,
/// whole.
package func replaceFile(_ path: String, _ bytes: [UInt8]) throws(ClientStoreError) {
  let result = bytes.withUnsafeBytes { bytes in
    Result { () throws(ClientStoreError) in try writeFile(path, bytes) { rename($0, $1) } }
  }
  try result.get()
}

private func writeFile(
  _ path: String, _ bytes: UnsafeRawBufferPointer, _ settle: (String, String) -> Int32
) throws(ClientStoreError) {
  let temporary = path + ".new"
  unlink(temporary)
  let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw .unreadable(errno: errno) }
  defer {
    close(descriptor)
    unlink(temporary)
  }
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
    if count < 0, errno == EINTR { continue }
    guard count > 0 else { throw .unreadable(errno: count < 0 ? errno : EIO) }
    rest = rest.dropFirst(count)
  }
  guard fsync(descriptor) == 0, settle(temporary, path) == 0 else { throw .unreadable(errno: errno) }
  let folder = open(
    String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  guard folder >= 0 else { throw .unreadable(errno: errno) }
  defer { close(folder) }
  guard fsync(folder) == 0 else { throw .unreadable(errno: errno) }
}
