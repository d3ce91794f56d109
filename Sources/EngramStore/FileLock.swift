internal import Glibc

/// An advisory lock that dies with the process, so a crash leaves nothing to clean up. The file itself stays:
/// removing it would let two processes lock two different files of the same name.
final class FileLock: Sendable {
  private let descriptor: Int32

  /// - Throws: `locked` when another holder exists, `failed` when the file cannot be made.
  init(path: String) throws(StoreError) {
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw StoreError(errno: errno) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let reason = errno
      Glibc.close(descriptor)
      throw reason == EWOULDBLOCK ? .locked : StoreError(errno: reason)
    }
  }

  /// Lets the next holder in; harmless when called twice.
  func release() { flock(descriptor, LOCK_UN) }

  deinit { Glibc.close(descriptor) }
}

/// Makes the file before SQLite does, since SQLite would let others read it; log files inherit the mode.
func createPrivateFile(_ path: String) throws(StoreError) {
  let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { throw StoreError(errno: errno) }
  Glibc.close(descriptor)
}

/// 0 when there is no such file.
func fileBytes(_ path: String) -> Int {
  var status = stat()
  return stat(path, &status) == 0 ? Int(status.st_size) : 0
}

/// 0 when the path cannot be asked.
func freeDiskBytes(_ path: String) -> UInt64 {
  var status = statvfs()
  return statvfs(path, &status) == 0 ? UInt64(status.f_bavail) * UInt64(status.f_frsize) : 0
}

/// Makes a file whose blocks are really allocated; nothing is left of it when that fails.
func allocateFile(_ path: String, bytes: UInt64) -> Bool {
  let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else { return false }
  defer { Glibc.close(descriptor) }
  if posix_fallocate(descriptor, 0, off_t(bytes)) == 0 { return true }
  unlink(path)
  return false
}

func removeFile(_ path: String) { unlink(path) }

extension StoreError {
  init(errno: Int32) {
    switch errno {
    case ENOSPC, EDQUOT: self = .full
    // SQLITE_CANTOPEN: whatever the reason, the operator has to look at the path and its owner.
    default: self = .failed(code: 14)
    }
  }
}
