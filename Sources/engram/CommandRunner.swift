internal import EngramClient
internal import Foundation
internal import Glibc
internal import Synchronization

/// Set once.
final class Latch: Sendable {
  private let isSet = Mutex(false)

  /// - Returns: true the first time.
  func set() -> Bool {
    isSet.withLock { isSet in
      defer { isSet = true }
      return !isSet
    }
  }
}

/// How a command ended.
struct CommandEnd: Sendable {
  let exitCode: Int32?
  let signal: Int32?
  /// It was this program that stopped it.
  let wasStopped: Bool

  /// sysexits.h: EX_TEMPFAIL is 75, EX_DATAERR 65.
  var verdict: WorkVerdict {
    switch exitCode {
    case 0: .ack
    case EX_DATAERR: .reject
    default: .nack
    }
  }

  var sentence: String { exitCode.map { "exit code \($0)" } ?? "signal \(signal ?? 0)" }
}

/// Runs one command per message, each in a process group of its own, so that a Ctrl-C meant for this program
/// does not end them.
final class CommandRunner: Sendable {
  private struct Running {
    var groups: Set<pid_t> = []
    var isStopped = false
  }

  private let command: [String]
  private let home: String
  /// Standard output is this program's own; commands write to standard error instead.
  private let sparesOutput: Bool
  private let running = Mutex(Running())

  init(_ command: [String], home: String, sparesOutput: Bool) {
    (self.command, self.home, self.sparesOutput) = (command, home, sparesOutput)
  }

  /// Asks every command that still runs to end, and kills those that do not.
  func stopAll() {
    let groups = running.withLock { running in
      running.isStopped = true
      return running.groups
    }
    for group in groups { kill(-group, SIGTERM) }
    guard !groups.isEmpty else { return }
    Task {
      try? await Task.sleep(for: .seconds(2))
      running.withLock { running in
        for group in running.groups where groups.contains(group) { kill(-group, SIGKILL) }
      }
    }
  }

  /// - Returns: nil when nothing is started any more.
  /// - Throws: `CommandFailure` when it cannot be started; nothing was settled then.
  func run(_ item: WorkItem) async throws -> CommandEnd? {
    guard let pid = try start(item) else { return nil }
    return await withCheckedContinuation { continuation in
      // A thread of its own: it stands still for as long as the command runs.
      Thread.detachNewThread { [self] in
        var info = siginfo_t()
        // Left as a zombie until its group is forgotten: no signal goes to whoever has its number next.
        while waitid(P_PID, id_t(pid), &info, WEXITED | WNOWAIT) != 0, errno == EINTR {}
        let wasStopped = running.withLock { running in
          running.groups.remove(pid)
          return running.isStopped
        }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        // wait(2): the low seven bits are the signal, the next byte the code.
        let signal = status & 0x7f
        continuation.resume(
          returning: CommandEnd(
            exitCode: signal == 0 ? (status >> 8) & 0xff : nil, signal: signal == 0 ? nil : signal,
            wasStopped: wasStopped))
      }
    }
  }

  private func start(_ item: WorkItem) throws -> pid_t? {
    let input = try inMemory(item.message.body)
    defer { close(input) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
    if sparesOutput { posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var defaults = sigset_t()
    sigemptyset(&defaults)
    for number in [SIGTERM, SIGINT, SIGPIPE] { sigaddset(&defaults, number) }
    posix_spawnattr_setsigdefault(&attributes, &defaults)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF))
    var pid: pid_t = 0
    let arguments = command.map { strdup($0) } + [nil]
    let variables = environment(item).map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for pointer in arguments + variables { free(pointer) } }
    // Under the lock: whoever stops all either sees this one or keeps it from starting.
    let code = running.withLock { running -> Int32 in
      guard !running.isStopped else { return ECANCELED }
      let code = posix_spawnp(&pid, command[0], &actions, &attributes, arguments, variables)
      if code == 0 { running.groups.insert(pid) }
      return code
    }
    if code == ECANCELED { return nil }
    guard code == 0 else {
      throw CommandFailure(
        .usage, name: "command", "the command \(command[0]) \(systemSentence(code))",
        hint: "nothing was settled: the message is ready for others")
    }
    return pid
  }

  private func environment(_ item: WorkItem) -> [String: String] {
    let message = item.message
    let ours = [
      "ENGRAM_ATTEMPT": "\(item.attempt)", "ENGRAM_CONTENT_TYPE": message.contentType,
      "ENGRAM_ENVELOPE": message.envelopeID, "ENGRAM_FROM": message.from, "ENGRAM_HOME": home,
      "ENGRAM_MESSAGE": message.messageID, "ENGRAM_PRIORITY": message.priority,
      "ENGRAM_THREAD": message.thread, "ENGRAM_TOKEN": "\(item.token)", "ENGRAM_TYPE": message.type,
    ]
    return ProcessInfo.processInfo.environment.merging(ours) { $1 }
  }
}

/// A file without a name, in memory: an opened body does not touch the disk, and a command that does not read
/// it blocks nobody.
private func inMemory(_ bytes: [UInt8]) throws -> Int32 {
  let name = "/engram-\(UUID().uuidString)"
  let descriptor = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0o600)
  guard descriptor >= 0 else { throw noMemory() }
  shm_unlink(name)
  var offset = 0
  while offset < bytes.count {
    let count = bytes[offset...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    if count < 0, errno == EINTR { continue }
    guard count > 0 else {
      close(descriptor)
      throw noMemory()
    }
    offset += count
  }
  lseek(descriptor, 0, SEEK_SET)
  return descriptor
}

private func noMemory() -> CommandFailure {
  CommandFailure(
    .failed, name: "no-memory", "there is no room in memory for the body: /dev/shm \(systemSentence(errno))")
}
