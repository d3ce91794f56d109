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

  /// What it means for a message at this attempt. sysexits.h: EX_DATAERR is 65, EX_TEMPFAIL 75.
  /// - Parameter attemptsMax: with so many failures other than "not now" it is enough; nil leaves that to the
  ///   node.
  func verdict(attempt: UInt32, attemptsMax: UInt32?) -> WorkVerdict {
    switch exitCode {
    case 0: .ack
    case EX_DATAERR: .reject
    case EX_TEMPFAIL: .nack
    default: !wasStopped && attemptsMax.map { attempt >= $0 } == true ? .reject : .nack
    }
  }

  /// The command itself said "never".
  var isFinal: Bool { exitCode == EX_DATAERR }

  var sentence: String { exitCode.map { "exit code \($0)" } ?? "signal \(signal ?? 0)" }
}

/// Runs one command per message, all in one process group that is not this program's: a Ctrl-C meant for it
/// does not end them.
final class CommandRunner: Sendable {
  private struct Running {
    var count = 0
    var isStopped = false
  }

  private let command: [String]
  private let group: CommandGroup
  private let home: String
  /// Standard output is this program's own; commands write to standard error instead.
  private let sparesOutput: Bool
  private let running = Mutex(Running())

  init(_ command: [String], home: String, sparesOutput: Bool) throws {
    (self.command, self.home, self.sparesOutput) = (command, home, sparesOutput)
    group = try CommandGroup()
  }

  /// Asks every command that still runs to end, and kills those that do not. None is started any more.
  func stopAll() async {
    let isIdle = running.withLock { running in
      running.isStopped = true
      return running.count == 0
    }
    guard !isIdle else { return }
    group.send(SIGTERM)
    try? await Task.sleep(for: .seconds(Self.stopSeconds))
    if running.withLock({ $0.count }) > 0 { group.send(SIGKILL) }
  }

  /// Between SIGTERM and SIGKILL.
  private static let stopSeconds = 2

  /// - Returns: nil when nothing is started any more.
  /// - Throws: `CommandFailure` when it cannot be started; nothing was settled then.
  func run(_ item: WorkItem) async throws -> CommandEnd? {
    guard let pid = try start(item) else { return nil }
    return await withCheckedContinuation { continuation in
      // A thread of its own: it stands still for as long as the command runs.
      Thread.detachNewThread { [self] in
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        let wasStopped = running.withLock { running in
          running.count -= 1
          return running.isStopped
        }
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
    joinGroup(&attributes)
    var pid: pid_t = 0
    let arguments = command.map { strdup($0) } + [nil]
    let variables = environment(item).map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for pointer in arguments + variables { free(pointer) } }
    // Under the lock: whoever stops all either sees this one or keeps it from starting.
    let code = running.withLock { running -> Int32 in
      guard !running.isStopped else { return ECANCELED }
      keepDescriptors()
      let code = posix_spawnp(&pid, command[0], &actions, &attributes, arguments, variables)
      if code == 0 { running.count += 1 }
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

  private func joinGroup(_ attributes: inout posix_spawnattr_t) {
    // What this program ignores, a command would inherit.
    var defaults = sigset_t()
    sigemptyset(&defaults)
    for number in [SIGTERM, SIGINT, SIGPIPE] { sigaddset(&defaults, number) }
    posix_spawnattr_setsigdefault(&attributes, &defaults)
    posix_spawnattr_setpgroup(&attributes, group.id)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF))
  }

  private func environment(_ item: WorkItem) -> [String: String] {
    let message = item.message
    let ours = [
      "ENGRAM_ATTEMPT": "\(item.attempt)", "ENGRAM_CONTENT_TYPE": message.contentType,
      "ENGRAM_ENVELOPE": message.envelopeID, "ENGRAM_FROM": message.from, "ENGRAM_HOME": home,
      "ENGRAM_MESSAGE": message.messageID, "ENGRAM_PRIORITY": message.priority,
      "ENGRAM_REDELIVERED": item.isRedelivered ? "1" : "0", "ENGRAM_THREAD": message.thread,
      "ENGRAM_TOKEN": "\(item.token)", "ENGRAM_TYPE": message.type,
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
