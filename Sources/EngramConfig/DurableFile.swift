import Foundation

/// Small files that are there whole or not at all, also after a power cut.
enum DurableFile {
  /// What the system said; names no contents.
  struct Failure: Error, CustomStringConvertible {
    let step: String
    let code: Int32

    var description: String { "cannot \(step): \(String(cString: strerror(code)))" }
  }

  /// Temporary file, fsync, rename, fsync of the folder. A crash before the rename leaves a hidden file that
  /// nothing reads; a crash after it loses at most the rename.
  static func replace(_ path: String, with text: String) throws(Failure) {
    let folder = (path as NSString).deletingLastPathComponent
    let name = (path as NSString).lastPathComponent
    let temporary = (folder as NSString).appendingPathComponent(".\(name).\(UUID().uuidString)")
    do throws(Failure) {
      try create(temporary, holding: Array(text.utf8))
      try check(rename(temporary, path), "rename to \(path)")
    } catch {
      unlink(temporary)
      throw error
    }
    try sync(folder)
  }

  static func remove(_ path: String) throws(Failure) {
    try check(unlink(path), "remove")
    try sync((path as NSString).deletingLastPathComponent)
  }

  /// Makes one folder for its owner alone; one that is there is left as it is.
  static func createFolder(_ path: String) throws(Failure) {
    if mkdir(path, 0o700) == 0 {
      try sync((path as NSString).deletingLastPathComponent)
    } else if errno != EEXIST {
      throw Failure(step: "create the folder", code: errno)
    }
  }

  private static func create(_ path: String, holding bytes: [UInt8]) throws(Failure) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    try check(descriptor, "create")
    defer { close(descriptor) }
    var written = 0
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw Failure(step: "write", code: count < 0 ? errno : EIO) }
      written += count
    }
    try check(fsync(descriptor), "sync")
  }

  private static func sync(_ folder: String) throws(Failure) {
    let descriptor = open(folder.isEmpty ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    try check(descriptor, "open the folder")
    defer { close(descriptor) }
    try check(fsync(descriptor), "sync the folder")
  }

  private static func check(_ result: Int32, _ step: String) throws(Failure) {
    if result < 0 { throw Failure(step: step, code: errno) }
  }
}
