import Foundation
import TestSupport

/// An ext4 file system in a file, whose power can be cut: what was not on the disk by then is gone, as after
/// a real cut. A process kill would not do, since the kernel writes out what a killed process left in the
/// page cache.
final class CuttableDisk {
  let mountPoint: String
  private let image: String
  /// `EXT4_IOC_SHUTDOWN` of the kernel's fs/ext4/ext4.h, and its flag `EXT4_GOING_FLAGS_NOLOGFLUSH`: nothing
  /// more is written, not even the journal.
  private static let shutdownRequest: UInt = 0x8004_587d
  private static let withoutLogFlush: UInt32 = 2

  init(in folder: String, name: String, megabytes: Int) async throws {
    (image, mountPoint) = ("\(folder)/\(name).img", "\(folder)/\(name)")
    try FileManager.default.createDirectory(atPath: mountPoint, withIntermediateDirectories: true)
    _ = FileManager.default.createFile(atPath: image, contents: nil)
    guard truncate(image, off_t(megabytes) << 20) == 0 else { throw Unexpected("\(image): errno \(errno)") }
    _ = try await runTool("/usr/sbin/mkfs.ext4", ["-q", "-F", image]).expected()
    try await mount()
  }

  deinit { umount2(mountPoint, Int32(MNT_DETACH)) }

  /// Mounting after a cut replays the journal.
  func mount() async throws {
    _ = try await runTool("/usr/bin/mount", ["-o", "loop", image, mountPoint]).expected()
  }

  func unmount() async throws { _ = try await runTool("/usr/bin/umount", [mountPoint]).expected() }

  func cut() throws {
    let descriptor = open(mountPoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Unexpected("\(mountPoint): errno \(errno)") }
    defer { close(descriptor) }
    var flags = Self.withoutLogFlush
    guard ioctl(descriptor, Self.shutdownRequest, &flags) == 0 else {
      throw Unexpected("the kernel refuses to shut the file system down: errno \(errno)")
    }
  }
}
