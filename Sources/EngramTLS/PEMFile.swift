internal import COpenSSL
internal import Glibc

/// PEM files as this module reads and writes them.
enum PEMFile {
  /// Owner may read and write, nobody else anything.
  static let keyMode: mode_t = 0o600
  static let certificateMode: mode_t = 0o644

  /// Answers OpenSSL's question for a passphrase with "none": its default asks on the terminal and waits.
  static let noPassphrase:
    @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?)
      -> Int32 = { _, _, _, _ in -1 }

  /// Largest file of certificates that is read: the bundle of an operating system has a quarter of it.
  private static let readBytesMax = 1 << 20

  /// The text of a file of certificates; `nil` when there is none or it is too large.
  static func read(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = Glibc.read(file, &block, block.count)
      if count == 0 { return String(decoding: bytes, as: UTF8.self) }
      guard count > 0, bytes.count + count <= readBytesMax else { return nil }
      bytes += block[..<count]
    }
  }

  /// Refuses the file of a key that group or others may touch, as ssh does: whoever can read it can be us.
  static func checkPrivate(_ path: String) throws(TLSSetupError) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw .privateKeyUnreadable }
    guard status.st_mode & 0o077 == 0 else { throw .privateKeyExposed }
  }

  /// Writes an unencrypted PKCS#8 key. The bytes pass through OpenSSL's wiped memory, never through a Swift
  /// array.
  static func write(key: OpaquePointer, to path: String, replacing: Bool) throws(TLSSetupError) {
    guard let bio = BIO_new(BIO_s_secmem()) else { throw .internalFailure }
    defer { BIO_free(bio) }
    guard PEM_write_bio_PrivateKey(bio, key, nil, nil, 0, nil, nil) == 1 else { throw .internalFailure }
    try write(bio, to: path, mode: keyMode, replacing: replacing)
  }

  /// Writes certificates in the order given, leaf first.
  static func write(certificates: [OpaquePointer], to path: String, replacing: Bool) throws(TLSSetupError) {
    guard let bio = BIO_new(BIO_s_mem()) else { throw .internalFailure }
    defer { BIO_free(bio) }
    for certificate in certificates {
      guard PEM_write_bio_X509(bio, certificate) == 1 else { throw .internalFailure }
    }
    try write(bio, to: path, mode: certificateMode, replacing: replacing)
  }

  /// Temporary file, mode, fsync, then one step into place: a crash leaves the old file or the new one, and
  /// the key is at no time readable by others, whatever the umask.
  private static func write(
    _ bio: OpaquePointer, to path: String, mode: mode_t, replacing: Bool
  ) throws(TLSSetupError) {
    var start: UnsafeMutablePointer<CChar>?
    let length = eng_BIO_get_mem_data(bio, &start)
    let temporary = "\(path).\(getpid()).new"
    unlink(temporary)  // from a crash of a process with our id, which in a container is always the same
    let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, keyMode)
    guard file >= 0 else { throw .fileUnwritable(errno: errno) }
    let written = Glibc.write(file, start, length)
    let code = errno
    let complete = written == length && fchmod(file, mode) == 0 && fsync(file) == 0
    let failure = written == length ? errno : (written < 0 ? code : ENOSPC)
    close(file)
    defer { unlink(temporary) }
    guard complete else { throw .fileUnwritable(errno: failure) }
    // `link` refuses to replace, `rename` replaces; the defer removes the other name.
    if replacing {
      guard rename(temporary, path) == 0 else { throw .fileUnwritable(errno: errno) }
    } else {
      guard link(temporary, path) == 0 else {
        throw errno == EEXIST ? .fileExists : .fileUnwritable(errno: errno)
      }
    }
  }
}
