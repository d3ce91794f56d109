internal import Glibc

/// The folders of a spool. A message is in exactly one of them.
public enum SpoolState: String, Sendable, CaseIterable {
  case pending, delivered, processed, expired
}

/// A spool on disk. Everything is opened relative to its folders and never through a symbolic link, so a file
/// in it cannot lead anywhere else.
final class SpoolFolder: Sendable {
  let path: String
  private let folders: [String: Int32]
  /// Where imported files go, beside the four.
  static let imported = "imported"

  /// - Parameter creates: makes the folders that are missing, for their owner only.
  /// - Throws: `EngramError` with the name `spool-folder`.
  init(_ path: String, creates: Bool) throws {
    self.path = path
    if creates, mkdir(path, 0o700) != 0, errno != EEXIST { throw Self.cannotUse(path, errno) }
    let top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard top >= 0 else { throw Self.cannotUse(path, errno) }
    defer { close(top) }
    var folders: [String: Int32] = [:]
    do {
      for name in SpoolState.allCases.map(\.rawValue) + [Self.imported] {
        let isMade = creates || name == Self.imported
        if isMade, mkdirat(top, name, 0o700) != 0, errno != EEXIST {
          throw Self.cannotUse("\(path)/\(name)", errno)
        }
        let folder = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if folder >= 0 {
          folders[name] = folder
        } else if errno != ENOENT {
          throw Self.cannotUse("\(path)/\(name)", errno)
        }
      }
    } catch {
      for folder in folders.values { close(folder) }
      throw error
    }
    guard folders["pending"] != nil else {
      for folder in folders.values { close(folder) }
      throw EngramError(
        .badInput, name: "spool-folder", "\(path) holds no spool",
        hint: "a spool has the folders pending, delivered, processed and expired")
    }
    self.folders = folders
  }

  deinit { for folder in folders.values { close(folder) } }

  private static func cannotUse(_ path: String, _ code: Int32) -> EngramError {
    EngramError(.badInput, name: "spool-folder", "\(path) cannot be used as a spool folder (errno \(code))")
  }

  private func folder(_ name: String) throws(SpoolProblem) -> Int32 {
    guard let folder = folders[name] else { throw .unreadable(ENOENT) }
    return folder
  }

  func descriptor(of state: String) -> Int32? { folders[state] }

  /// Names in a folder, in no order. Hidden files are not part of a spool: that is how half-written ones are
  /// named.
  /// - Returns: names as text, nil where they are not UTF-8.
  func names(in state: String) throws(SpoolProblem) -> [String?] {
    let copy = dup(try folder(state))
    guard copy >= 0, let stream = fdopendir(copy) else { throw .unreadable(errno) }
    defer { closedir(stream) }
    rewinddir(stream)
    var names: [String?] = []
    while let entry = readdir(stream) {
      // The name reaches as far as its zero byte, not as far as the type says.
      guard let offset = MemoryLayout<dirent>.offset(of: \.d_name) else { throw .unreadable(EINVAL) }
      let start = (UnsafeRawPointer(entry) + offset).assumingMemoryBound(to: UInt8.self)
      var length = 0
      while start[length] != 0 { length += 1 }
      let bytes = UnsafeBufferPointer(start: start, count: length)
      if bytes.first == UInt8(ascii: ".") { continue }
      names.append(String(validating: bytes, as: UTF8.self))
    }
    return names
  }

  func read(_ name: String, in state: String) throws(SpoolProblem) -> [UInt8] {
    // Without O_NONBLOCK a FIFO would hang us.
    let file = openat(try folder(state), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    guard file >= 0 else { throw errno == ELOOP ? SpoolProblem.notAFile : SpoolProblem.unreadable(errno) }
    defer { close(file) }
    var info = stat()
    guard fstat(file, &info) == 0 else { throw .unreadable(errno) }
    // A second name of the same file may be one that its owner would not have us read.
    guard info.st_mode & S_IFMT == S_IFREG, info.st_nlink == 1 else { throw .notAFile }
    guard info.st_size <= SpoolLimits.fileBytesMax else { throw .tooLarge }
    var bytes = [UInt8](repeating: 0, count: Int(info.st_size) + 1)
    var count = 0
    while count < bytes.count {
      let read = bytes.withUnsafeMutableBytes { all in
        let rest = UnsafeMutableRawBufferPointer(rebasing: all[count...])
        return Glibc.read(file, rest.baseAddress, rest.count)
      }
      guard read >= 0 else { throw .unreadable(errno) }
      if read == 0 { break }
      count += read
    }
    // It grew while we read: whoever writes it is not done.
    guard count <= Int(info.st_size) else { throw .unreadable(EBUSY) }
    return Array(bytes.prefix(count))
  }

  func contains(_ name: String, in state: String) -> Bool {
    guard let folder = folders[state] else { return false }
    return faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0
  }

  /// Whole or not at all: written under a hidden name, made durable, then renamed.
  func write(_ bytes: [UInt8], as name: String, in state: String) throws(SpoolProblem) {
    let folder = try self.folder(state)
    let hidden = ".\(name).new"
    // What an interrupted run left, or somebody put there.
    unlinkat(folder, hidden, 0)
    let file = openat(folder, hidden, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw .unreadable(errno) }
    var written = 0
    var failure: Int32 = 0
    while written < bytes.count, failure == 0 {
      let count = bytes.withUnsafeBytes { all in
        let rest = UnsafeRawBufferPointer(rebasing: all[written...])
        return Glibc.write(file, rest.baseAddress, rest.count)
      }
      if count < 0 { failure = errno } else { written += count }
    }
    if failure == 0, fsync(file) != 0 { failure = errno }
    if close(file) != 0, failure == 0 { failure = errno }
    if failure == 0, renameat(folder, hidden, folder, name) != 0 { failure = errno }
    guard failure == 0 else {
      unlinkat(folder, hidden, 0)
      throw .unreadable(failure)
    }
    guard fsync(folder) == 0 else { throw .unreadable(errno) }
  }

  func move(_ name: String, from: String, to: String) throws(SpoolProblem) {
    let (source, target) = (try folder(from), try folder(to))
    guard renameat(source, name, target, name) == 0 else { throw .unreadable(errno) }
    guard fsync(target) == 0, fsync(source) == 0 else { throw .unreadable(errno) }
  }

  /// Nothing happens when it is not there.
  func remove(_ name: String, from state: String) throws(SpoolProblem) {
    guard let folder = folders[state] else { return }
    guard unlinkat(folder, name, 0) == 0 else {
      guard errno == ENOENT else { throw .unreadable(errno) }
      return
    }
    guard fsync(folder) == 0 else { throw .unreadable(errno) }
  }
}
