import Foundation
import Synchronization
import TestSupport

/// A program that was started by a test. Standard output and error go to files, so that nothing it says can
/// block it. It never outlives its owner, nor the test process.
final class ChildProcess: Sendable {
  enum Exit: Equatable, Sendable {
    case code(Int32)
    case signal(Int32)
  }

  struct CannotStart: Error { let program: String, errno: Int32 }

  let pid: pid_t
  private let outputPath: String
  private let errorsPath: String
  private let ended = Mutex<Exit?>(nil)

  /// - Parameters:
  ///   - log: where both streams go: `log.out` and `log.err`, appended to.
  ///   - input: a file for standard input.
  init(
    _ program: String, _ arguments: [String], log: String, environment: [String: String] = [:],
    input: String = "/dev/null"
  ) throws {
    (outputPath, errorsPath) = (log + ".out", log + ".err")
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
    for (descriptor, path) in [(Int32(1), outputPath), (2, errorsPath)] {
      posix_spawn_file_actions_addopen(&actions, descriptor, path, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    }
    let inherited = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("ENGRAM_") }
    let variables = inherited.merging(environment) { $1 }.map { "\($0.key)=\($0.value)" }
    let words = ([program] + arguments).map { strdup($0) } + [nil]
    let settings = variables.map { strdup($0) } + [nil]
    defer { for pointer in words + settings { free(pointer) } }
    var pid: pid_t = 0
    let result = posix_spawn(&pid, program, &actions, nil, words, settings)
    guard result == 0 else { throw CannotStart(program: program, errno: result) }
    self.pid = pid
    Self.living.withLock { _ = $0.insert(pid) }
    _ = Self.reaper
  }

  deinit {
    send(SIGKILL)
    while exit == nil { usleep(1_000) }
  }

  var output: String { text(outputPath) }
  var errors: String { text(errorsPath) }

  private func text(_ path: String) -> String {
    String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
  }

  /// How it ended; nil while it runs.
  var exit: Exit? {
    ended.withLock { ended in
      if let ended { return ended }
      var status: Int32 = 0
      guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
      Self.living.withLock { _ = $0.remove(pid) }
      // wait(2): the low seven bits are the signal, the next byte the code.
      ended = status & 0x7f == 0 ? .code((status >> 8) & 0xff) : .signal(status & 0x7f)
      return ended
    }
  }

  /// A process that has ended and been waited for is left alone: its number may be somebody else's by now.
  func send(_ signal: Int32) {
    ended.withLock { if $0 == nil { kill(pid, signal) } }
  }

  func end(within bound: Duration = .seconds(60)) async -> Exit? {
    await eventually(within: bound) { exit }
  }

  // Should the test process end before its children were stopped, they end with it.
  private static let living = Mutex<Set<pid_t>>([])
  private static let reaper: Void = {
    atexit {
      ChildProcess.living.withLock { for pid in $0 { kill(pid, SIGKILL) } }
    }
  }()
}

/// Milliseconds since 1970, of the clock that the nodes use too.
func nowMs() -> UInt64 { UInt64(Date.now.timeIntervalSince1970 * 1_000) }
