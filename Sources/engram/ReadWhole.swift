internal import Foundation
internal import Glibc

/// A file's bytes, at most so many; nothing larger is read into memory.
func readWhole(_ file: String, bytesMax: Int, hint: String) throws -> [UInt8] {
  func unreadable(_ code: Int32) -> CommandFailure {
    CommandFailure(.usage, name: "file", "\(file) \(systemSentence(code))", hint: hint)
  }
  let descriptor = open(file, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw unreadable(errno) }
  let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
  // Reading is where a folder shows itself.
  do { return [UInt8](try handle.read(upToCount: bytesMax) ?? Data()) } catch {
    var status = stat()
    let isFolder = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    throw unreadable(isFolder ? EISDIR : EIO)
  }
}
