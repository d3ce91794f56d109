import EngramClient
import Foundation
import TestSupport
import Testing

/// Somebody who sends tasks, an agent whose workers take them, and a folder where workers leave traces.
struct Workplace {
  let boss: CommandLinePerson
  let agent: CommandLinePerson
  /// Where the agent lives.
  let organisation: Organisation
  /// Where the boss does. Ends with the last reference, as the other one.
  private let home: Organisation
  let address: String

  /// Both at one organisation.
  static func alone() async throws -> Workplace {
    let acme = try await Organisation.running("acme.example")
    return try await Workplace(of: acme, at: acme)
  }

  /// The boss at another organisation than the agent.
  static func federated() async throws -> Workplace {
    let (acme, globex) = try await Organisation.federation()
    return try await Workplace(of: acme, at: globex)
  }

  private init(of home: Organisation, at organisation: Organisation) async throws {
    boss = try await CommandLinePerson("boss", of: home)
    agent = try await CommandLinePerson("agent", of: organisation)
    (self.home, self.organisation, address) = (home, organisation, "agent@\(organisation.name)")
  }

  func file(_ name: String) -> String { organisation.directory.file(name) }

  // MARK: - Tasks

  /// One task.
  /// - Returns: its message id.
  @discardableResult
  func send(_ text: String, _ arguments: String...) async throws -> String {
    let words = ["send", "--to", address, "--text", text] + arguments + ["--json", "--home", boss.home]
    let sent = try await Program.client.run(words).expected()
    return try #require(try CommandLinePerson.parse(sent).first?["message_id"] as? String)
  }

  /// Tasks `0` to `count - 1`, their numbers as bodies.
  func send(count: Int) async throws {
    let client = try EngramClient.open(home: boss.home)
    let tasks = (0..<count).map { index in
      var options = SendOptions()
      options.type = "TASK_REQUEST"
      return OutgoingMessage(to: [address], body: Array("\(index)".utf8), options: options)
    }
    let sent = try await client.sendBatch(tasks)
    await client.close()
    try #require(sent.allSatisfy { $0.state == .accepted })
  }

  func state(of message: String) async throws -> String? {
    try await boss.lines("status", message).first?["state"] as? String
  }

  func becomes(_ state: String, _ message: String) async throws -> Bool {
    try await eventually { try await self.state(of: message) == state }
  }

  // MARK: - Workers

  /// Starts `engram work` with a shell script as its command, and leaves it to run.
  func worker(_ name: String, _ arguments: [String], _ script: String) throws -> Worker {
    Worker(
      child: try ChildProcess(
        Program.client.path,
        ["work", "--json", "--home", agent.home] + arguments + ["--", "sh", "-c", script],
        log: file("worker-" + name)))
  }

  /// Runs `engram work` to its end.
  func work(_ name: String, _ arguments: [String], _ script: String) async throws -> Worker {
    let worker = try worker(name, arguments, script)
    let exit = await worker.child.end()
    #expect(exit == .code(0), "\(worker.child.errors.suffix(400))")
    return worker
  }

  func queue() async throws -> [String: any Sendable] { try #require(try await agent.lines("queue").first) }

  /// What commands appended to a file, by lines.
  func lines(_ name: String) -> [String] {
    let text = String(decoding: FileManager.default.contents(atPath: file(name)) ?? Data(), as: UTF8.self)
    return text.split(separator: "\n").map(String.init)
  }

  func numbers(_ name: String) -> [Int] { lines(name).compactMap { Int($0) } }

  func touch(_ name: String) throws { try Data().write(to: URL(fileURLWithPath: file(name))) }
}

/// A running `engram work --json`.
struct Worker {
  let child: ChildProcess

  /// What it said about messages so far.
  var reports: [[String: any Sendable]] {
    let whole = child.output.hasSuffix("\n") ? child.output : child.output + "\n"
    let lines = whole.split(separator: "\n").filter { $0.hasSuffix("}") }
    return (try? CommandLinePerson.parse(lines.joined(separator: "\n"))) ?? []
  }

  func count(_ outcome: String) -> Int { reports.count { $0["outcome"] as? String == outcome } }
  var attempts: [Int] { reports.compactMap { $0["attempt"] as? Int } }

  /// As a service manager does it.
  func stop() async {
    child.send(SIGTERM)
    let exit = await child.end()
    #expect(exit == .code(0), "\(child.errors.suffix(400))")
  }
}
