import Foundation
import TestSupport
import Testing

/// Runs the built command, as a person or a script would.
@Suite("The engram command")
struct CommandLineTests {
  private struct Outcome {
    var status: Int32
    var out: String
    var err: String
  }

  private let folder = FileManager.default.temporaryDirectory.appending(path: "engram-\(UUID().uuidString)")
    .path

  private func engram(_ arguments: [String], environment: [String: String] = [:]) throws -> Outcome {
    // Test bundle and products are built into one folder.
    let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let process = Process()
    process.executableURL = URL(filePath: tests).deletingLastPathComponent().appending(path: "engram")
    process.arguments = arguments
    process.environment = ["HOME": folder, "PATH": "/usr/bin:/bin"].merging(environment) { $1 }
    let (out, err) = (Pipe(), Pipe())
    (process.standardOutput, process.standardError, process.standardInput) = (out, err, FileHandle.nullDevice)
    try process.run()
    let outBytes = out.fileHandleForReading.readDataToEndOfFile()
    let errBytes = err.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Outcome(
      status: process.terminationStatus, out: String(decoding: outBytes, as: UTF8.self),
      err: String(decoding: errBytes, as: UTF8.self))
  }

  @Test("the version is printed, and nothing else")
  func version() throws {
    let outcome = try engram(["--version"])
    #expect(outcome.status == 0 && outcome.out == "0.1.0\n" && outcome.err.isEmpty)
  }

  @Test(
    "help teaches by example and names the exit codes",
    arguments: [
      "init", "send", "reply", "inbox", "search", "history", "outbox", "status", "cancel", "receipts",
      "verify", "gaps", "trust", "directory", "alarms", "whoami",
      "agents", "heartbeat", "import", "export", "watch", "work",
    ])
  func help(_ command: String) throws {
    let all = try engram(["--help"])
    #expect(all.status == 0 && all.out.contains("Exit codes") && all.out.contains("  \(command) "))
    let one = try engram([command, "--help"])
    #expect(one.status == 0 && one.out.contains("engram \(command) ") && one.out.contains("Example"))
    #expect(one.out.contains("--home") && one.out.contains("--json"))
  }

  @Test("help on templates teaches by example", arguments: ["put", "list", "show", "render"])
  func templateHelp(_ command: String) throws {
    let all = try engram(["template", "--help"])
    #expect(all.status == 0 && all.out.contains("  \(command) ") && all.out.contains("--param"))
    let one = try engram(["template", command, "--help"])
    #expect(one.status == 0 && one.out.contains("Example") && one.out.contains("--home"))
  }

  @Test("help on queues teaches by example, and the shell completes options", arguments: ["show", "mode"])
  func queueHelp(_ command: String) throws {
    let all = try engram(["queue", "--help"])
    #expect(all.status == 0 && all.out.contains("  \(command) ") && all.out.contains("queue mode one"))
    let one = try engram(["queue", command, "--help"])
    #expect(one.status == 0 && one.out.contains("Example") && one.out.contains("--json"))
    #expect(try engram(["queue", "mode", "all"]).status == 64)
    let script = try engram(["--generate-completion-script", "bash"])
    #expect(script.out.contains("--prefetch") && script.out.contains("--retry-after"))
  }

  @Test("work without a command, or with impossible bounds, is a usage error")
  func workUsage() throws {
    for words in [
      ["work"], ["work", "--prefetch", "0", "--", "true"], ["work", "--prefetch", "1001", "--", "true"],
      ["work", "--visibility", "13h", "--", "true"], ["work", "--max", "0", "--", "true"],
    ] { #expect(try engram(words).status == 64, "\(words)") }
  }

  @Test(
    "help on schedules teaches by example", arguments: ["add", "list", "remove", "run"])
  func scheduleHelp(_ command: String) throws {
    let all = try engram(["schedule", "--help"])
    #expect(all.status == 0 && all.out.contains("  \(command) ") && all.out.contains("--cron"))
    let one = try engram(["schedule", command, "--help"])
    #expect(one.status == 0 && one.out.contains("engram schedule \(command)") && one.out.contains("Example"))
  }

  @Test(
    "every command explains itself and all of its options, has an example, --json and --home, and completes")
  func allCommands() throws {
    let leaves = try DescribedCommand.leaves(of: try engram(["--experimental-dump-help"]).out)
    #expect(leaves.count > 30 && leaves.contains { $0.path == "engram schedule add" }, "the control")
    for (path, command) in leaves {
      #expect(command.abstract?.hasSuffix(".") == true, "\(path)")
      #expect(command.discussion?.contains("\(path)") == true, "\(path) has no example")
      for option in ["json", "home", "passphrase-file"] {
        #expect(command.options.contains { $0.label == option }, "\(path) --\(option)")
      }
      for argument in command.options {
        #expect(argument.abstract?.isEmpty == false, "\(path): \(argument.label) is not explained")
        if argument.isPath
          || ["state", "type", "priority"].contains(argument.label) && argument.kind == "option"
        {
          #expect(argument.isCompleted, "\(path): \(argument.label) is not completed")
        }
      }
    }
  }

  @Test(
    "help on topics teaches by example, the shell completes them, and wildcards are explained",
    arguments: ["subscribe", "unsubscribe", "list", "members", "publish", "forget"])
  func topicHelp(_ command: String) throws {
    let all = try engram(["topic", "--help"])
    #expect(all.status == 0 && all.out.contains("  \(command) ") && all.out.contains("'orders.*'"))
    let one = try engram(["topic", command, "--help"])
    #expect(one.status == 0 && one.out.contains("engram topic \(command) ") && one.out.contains("Example"))
    #expect(one.out.contains("--home") && one.out.contains("--json"))
    for shell in ["bash", "zsh", "fish"] {
      #expect(try engram(["--generate-completion-script", shell]).out.contains(command), "\(shell)")
    }
  }

  @Test(
    "mistakes on the command line end with 64 and say what is wrong",
    arguments: [
      ["send"], ["send", "--to", "a@acme.example", "--text", "x", "--file", "y"],
      ["send", "--to", "a@acme.example", "--ttl", "soon"], ["inbox", "--max", "0"], ["fly"], ["trust"],
      ["status"], ["verify"], ["verify", "00", "--proof", "f"], ["verify", "--proof", "f", "--export", "g"],
      ["reply", "00", "--quote", "--quote-lines", "1"], ["reply", "00", "--quote-lines", "3-2"],
      ["reply", "00", "--all", "--to", "a@acme.example"], ["search", "--state", "lost"],
      ["search", "--since", "soon"], ["send", "--to", "a@acme.example", "--text", "x", "--label", "novalue"],
      ["send", "--to", "a@acme.example", "--text", "x", "--label", "k=1", "--label", "k=2"],
      ["send", "--to", "a@acme.example", "--text", "x", "--not-before", "later"], ["thread", "show"],
      ["init", "--node", "h:1", "--ca", "x"],
      ["topic", "publish"], ["topic", "fly"],
      ["schedule", "add", "--to", "a@acme.example", "--text", "x"],
      ["schedule", "add", "--cron", "0 9 * * *"],
      ["schedule", "add", "--cron", "0 9 * * *", "--to", "a@acme.example", "--missed", "twice"],
      ["schedule", "add", "--cron", "0 9 * * *", "--to", "a@acme.example", "--not-before", "+1h"],
      ["topic", "publish", "a", "--text", "x", "--file", "y"], ["heartbeat", "--state", "asleep"],
      ["send", "--broadcast", "--to", "a@acme.example", "--text", "x"],
      ["send", "--broadcast", "--wait-processed", "--text", "x"],
      ["init", "--node", "h:1", "--ca", "x", "--invite", "t", "--no-passphrase", "--passphrase-file", "f"],
    ])
  func usage(_ arguments: [String]) throws {
    let outcome = try engram(arguments)
    #expect(outcome.status == 64 && !outcome.err.isEmpty && outcome.out.isEmpty)
  }

  @Test(
    "without a home every command ends with 1 and a hint",
    arguments: [
      ["whoami"], ["inbox"], ["outbox"], ["send", "--to", "a@acme.example", "--text", "x"], ["alarms"],
      ["trust", "a@acme.example"], ["directory", "a@acme.example"], ["receipts", "00"], ["status", "00"],
      ["verify", "00"], ["cancel", "00"], ["reply", "00", "--text", "x"], ["thread", "list"],
      ["thread", "show", "00"], ["search"], ["history"], ["gaps"],
      ["schedule", "list"], ["schedule", "run"], ["schedule", "remove", "00"],
      ["schedule", "add", "--cron", "0 9 * * *", "--to", "a@acme.example", "--text", "x"],
      ["agents"], ["heartbeat"], ["topic", "list"], ["topic", "subscribe", "a"], ["topic", "members", "a"],
      ["topic", "publish", "a", "--text", "x"], ["send", "--broadcast", "--text", "x"],
    ])
  func noHome(_ arguments: [String]) throws {
    let outcome = try engram(arguments)
    #expect(outcome.status == 1)
    #expect(outcome.err.hasPrefix("error: there is no account in this home (not-initialised)\nhint: "))
  }

  @Test(
    "subcommands of thread teach too, and completion scripts know every command", arguments: ["list", "show"])
  func threads(_ command: String) throws {
    let one = try engram(["thread", command, "--help"])
    #expect(one.status == 0 && one.out.contains("engram thread \(command)") && one.out.contains("Example"))
    for shell in ["bash", "zsh", "fish"] {
      let script = try engram(["--generate-completion-script", shell])
      #expect(script.status == 0 && script.out.contains("verify") && script.out.contains("TASK_REQUEST"))
    }
  }

  @Test("a home is taken from --home, else from ENGRAM_HOME, else ~/.engram")
  func homes() throws {
    // An empty key file in each place tells by its error that it was found.
    for name in ["option", "variable", ".engram"] {
      try FileManager.default.createDirectory(atPath: folder + "/" + name, withIntermediateDirectories: true)
    }
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let environment = ["ENGRAM_HOME": folder + "/variable"]
    func found(_ arguments: [String], _ environment: [String: String]) throws -> Bool {
      try engram(arguments, environment: environment).err.contains("(key-file)")
    }
    #expect(try !found(["whoami"], environment), "control: there is no key file yet")
    for name in ["option", "variable", ".engram"] {
      _ = FileManager.default.createFile(atPath: folder + "/\(name)/client.key", contents: Data("x\n".utf8))
      switch name {
      case "option":
        #expect(try found(["whoami", "--home", folder + "/option"], environment))
        #expect(try !found(["whoami"], environment))
      case "variable":
        #expect(try found(["whoami"], environment))
        #expect(try !found(["whoami"], [:]))
      default: #expect(try found(["whoami"], [:]))
      }
    }
  }

  @Test("init with an unreadable CA file, or a node that nobody runs, says so")
  func initFailures() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let arguments = [
      "init", "--node", "127.0.0.1:1", "--invite", "AAAA", "--no-passphrase", "--home", folder,
    ]
    let missing = try engram(arguments + ["--ca", "/nowhere.pem"])
    #expect(missing.status == 64 && missing.err.contains("(ca-file)"))
    let noPassphrase = try engram(
      ["init", "--node", "127.0.0.1:1", "--invite", "AAAA", "--home", folder, "--ca", "/nowhere.pem"])
    #expect(noPassphrase.status == 64 && noPassphrase.err.contains("ENGRAM_PASSPHRASE_FILE"))
  }
}
