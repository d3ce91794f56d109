internal import Glibc

/// An advisory lock on a file of the home, which dies with its process. Commands that share a home take
/// turns: each holds it for one transaction (or, for the reader's lock, for as long as it receives).
package final class HomeLock: Sendable {
  private let descriptor: Int32

  /// Opens the lock file, mode 0600, without taking the lock.
  package init(path: String) throws(ClientStoreError) {
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .unreadable(errno: errno) }
  }

  deinit { close(descriptor) }

  /// Waits for the lock for at most `waitMs`; `flock` itself has no bound, so this asks again and again.
  /// - Throws: `busy` when somebody else kept it.
  package func acquire(waitMs: Int = ClientStoreLimits.lockWaitMs) throws(ClientStoreError) {
    var waited = 0
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      guard errno == EWOULDBLOCK || errno == EINTR else { throw .unreadable(errno: errno) }
      guard waited < waitMs else { throw .busy }
      usleep(UInt32(ClientStoreLimits.lockPollMs) * 1_000)
      waited += ClientStoreLimits.lockPollMs
    }
  }

  package func release() { flock(descriptor, LOCK_UN) }
}
