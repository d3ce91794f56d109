internal import Dispatch
internal import Glibc

/// Rings when a file was put into one of the folders of a spool that others put files into (inotify(7)).
///
/// It only saves waiting: a ring that is lost, because the system's queue overflowed or because there is no
/// bell at all, is made up for by the next sweep.
final class SpoolBell {
  private let source: any DispatchSourceRead

  /// Completely written, or renamed to its place; a half-written file has its end still before it.
  private static let events: [SpoolState: Int32] = [
    .pending: IN_CLOSE_WRITE | IN_MOVED_TO, .processed: IN_MOVED_TO,
  ]

  /// Nil when the system allows no more watches.
  init?(_ folder: SpoolFolder, ring: @escaping @Sendable () -> Void) {
    let descriptor = inotify_init1(Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC))
    guard descriptor >= 0 else { return nil }
    for (state, events) in Self.events {
      guard folder.watch(state.rawValue, by: descriptor, for: UInt32(events)) else {
        close(descriptor)
        return nil
      }
    }
    source = DispatchSource.makeReadSource(fileDescriptor: descriptor)
    source.setEventHandler {
      Self.empty(descriptor)
      ring()
    }
    source.setCancelHandler { close(descriptor) }
    source.resume()
  }

  deinit { source.cancel() }

  /// What happened is looked up in the folders; here it is only that something did.
  private static func empty(_ descriptor: Int32) {
    withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 8) { buffer in
      while read(descriptor, buffer.baseAddress, buffer.count) > 0 {}
    }
  }
}

extension SpoolFolder {
  /// By the descriptor and not by the path, which may lead elsewhere by now.
  fileprivate func watch(_ state: String, by inotify: Int32, for events: UInt32) -> Bool {
    guard let descriptor = descriptor(of: state) else { return false }
    return inotify_add_watch(inotify, "/proc/self/fd/\(descriptor)", events) >= 0
  }
}
