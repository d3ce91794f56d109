internal import Foundation
internal import Glibc

/// The process group of all commands, led by a process that outlives this one if it has to: when this process
/// is gone, however it went, the leader stops what still runs in the group.
///
/// `PR_SET_PDEATHSIG` would be bound to the thread that starts a command, not to this process, and would not
/// reach what a command starts in its turn.
final class CommandGroup: Sendable {
  let id: pid_t
  /// Closed by the kernel with the last process that holds it, which is this one: nobody inherits it.
  private let lifeline: Int32

  /// Reads until its standard input ends, which never has anything in it, then asks the group to end and
  /// kills what is left of it, itself included.
  private static let script = "trap '' TERM INT HUP; read -r line; kill -TERM 0; sleep 2; kill -KILL 0"

  init() throws {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw Self.failure(errno) }
    defer { close(ends[0]) }
    keepDescriptors()
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO)
    for descriptor in [STDOUT_FILENO, STDERR_FILENO] {
      posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_WRONLY, 0)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    let arguments: [String] = ["sh", "-c", Self.script]
    let words = arguments.map { strdup($0) } + [nil]
    let variables: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/bin:/bin"), nil]
    defer { for pointer in words + variables { free(pointer) } }
    var leader: pid_t = 0
    let code = posix_spawn(&leader, "/bin/sh", &actions, &attributes, words, variables)
    guard code == 0 else {
      close(ends[1])
      throw Self.failure(code)
    }
    (id, lifeline) = (leader, ends[1])
  }

  private static func failure(_ code: Int32) -> CommandFailure {
    CommandFailure(
      .failed, name: "no-group", "/bin/sh, which looks after the commands, \(systemSentence(code))")
  }

  func send(_ signal: Int32) { kill(-id, signal) }

  /// What commands left running in the background ends too: the same as after a crash.
  deinit { close(lifeline) }
}

/// Called before anything is started: nothing but its own three streams is for a command. The connection to
/// the node would stay open for as long as a command runs, and what this program was started with may be
/// waited for elsewhere.
func keepDescriptors() {
  let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
  for descriptor in names.compactMap({ Int32($0) }) where descriptor > STDERR_FILENO {
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
  }
}
