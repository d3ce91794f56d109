import EngramCrypto
import Foundation

/// A system call that failed, as the end of a sentence that begins with the path.
struct SystemFailure: Error, Equatable {
  let code: Int32

  var sentence: String {
    switch code {
    case ENOENT: "does not exist"
    case EISDIR: "is a folder"
    case EACCES, EPERM: "may not be opened by this user"
    case EEXIST: "is there already"
    case ENOTDIR: "cannot be there: a part of the path is not a folder"
    case ENOSPC, EDQUOT: "does not fit: the disk is full"
    case EROFS: "cannot be written: the file system is read-only"
    default: "cannot be used: \(String(cString: strerror(code)))"
    }
  }
}

/// Why Foundation could not read a file.
func fileProblem(_ error: any Error) -> String {
  let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
  if let underlying, underlying.domain == NSPOSIXErrorDomain {
    return SystemFailure(code: Int32(clamping: underlying.code)).sentence
  }
  switch (error as? CocoaError)?.code {
  case .fileReadNoSuchFile?, .fileNoSuchFile?: return SystemFailure(code: ENOENT).sentence
  case .fileReadNoPermission?: return SystemFailure(code: EACCES).sentence
  case .fileReadInapplicableStringEncoding?, .fileReadCorruptFile?: return "is not text"
  default: return "cannot be read"
  }
}

/// The text of a small file.
/// - Parameter what: what the file is, as the beginning of a sentence.
func readText(_ path: String, _ what: String, _ code: Failure.Code) throws(Failure) -> String {
  do { return try String(contentsOfFile: path, encoding: .utf8) } catch {
    throw Failure(code, "\(what) \(path) \(fileProblem(error))")
  }
}

/// The passphrase in a file, without the line end that an editor puts there.
func readPassphrase(_ path: String) throws(Failure) -> [UInt8] {
  guard let data = FileManager.default.contents(atPath: path) else {
    let reason = FileManager.default.fileExists(atPath: path) ? "cannot be read" : "does not exist"
    throw Failure(.configuration, "the passphrase file \(path) \(reason)")
  }
  let line = Array(data.last == UInt8(ascii: "\n") ? data.dropLast() : data)
  guard !line.isEmpty else { throw Failure(.configuration, "the passphrase file \(path) is empty") }
  return line
}

/// Files and folders that one command makes; `undo` removes those and nothing else.
struct NewFiles {
  private var files: [String] = []
  private var folders: [String] = []

  /// Makes a folder for its owner alone, and those above it that are missing.
  mutating func makeFolder(_ path: String) throws(Failure) {
    if mkdir(path, 0o700) == 0 { return folders.append(path) }
    let parent = (path as NSString).deletingLastPathComponent
    if errno == ENOENT, !parent.isEmpty, parent != path {
      try makeFolder(parent)
      if mkdir(path, 0o700) == 0 { return folders.append(path) }
    }
    let code = errno
    var isFolder: ObjCBool = false
    if code == EEXIST, FileManager.default.fileExists(atPath: path, isDirectory: &isFolder),
      isFolder.boolValue
    {
      return
    }
    throw Failure(.cannotCreate, "the folder \(path) \(SystemFailure(code: code).sentence)")
  }

  /// Notes a file that is about to be made and was not there before.
  mutating func expect(_ path: String) { files.append(path) }

  /// Makes the names themselves durable: a file that was synced is lost with the entry of a folder that was
  /// not.
  func syncFolders() throws(Failure) {
    var paths = Set(files.map { ($0 as NSString).deletingLastPathComponent })
    for folder in folders { paths.formUnion([folder, (folder as NSString).deletingLastPathComponent]) }
    for path in paths.sorted() {
      let descriptor = open(path.isEmpty ? "." : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw Failure(.cannotCreate, "the folder \(path) \(SystemFailure(code: errno).sentence)")
      }
      defer { close(descriptor) }
      guard fsync(descriptor) == 0 else {
        throw Failure(.cannotCreate, "the folder \(path) \(SystemFailure(code: errno).sentence)")
      }
    }
  }

  /// A folder that something else has put a file into stays.
  func undo() {
    for file in files { unlink(file) }
    for folder in folders.reversed() { rmdir(folder) }
  }
}

/// Writes a file that must not exist yet, mode 0600 from the first byte on.
func writeNew(_ path: String, _ bytes: UnsafeRawBufferPointer) throws {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
  guard descriptor >= 0 else {
    throw Failure(.cannotCreate, "\(path) \(SystemFailure(code: errno).sentence)")
  }
  defer { close(descriptor) }
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
    if count < 0, errno == EINTR { continue }
    guard count > 0 else {
      throw Failure(.cannotCreate, "\(path) \(SystemFailure(code: count < 0 ? errno : EIO).sentence)")
    }
    rest = rest.dropFirst(count)
  }
  guard fsync(descriptor) == 0 else {
    throw Failure(.cannotCreate, "\(path) \(SystemFailure(code: errno).sentence)")
  }
}

func writeNew(_ path: String, _ text: String) throws {
  try Array(text.utf8).withUnsafeBytes { try writeNew(path, $0) }
}

func systemError() -> String { String(cString: strerror(errno)) }

func printJSON(_ value: some Encodable) {
  let encoder = wireEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  if let data = try? encoder.encode(value) { print(String(decoding: data, as: UTF8.self)) }
}
