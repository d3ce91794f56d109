import Foundation
import TestSupport
import Testing

/// Somebody who uses the `engram` program and nothing else.
struct CommandLinePerson {
  let home: String

  /// Whoever has this home, registered or not.
  init(home: String) { self.home = home }

  /// Registers with an invite of the organisation's administrator.
  init(_ name: String, of organisation: Organisation) async throws {
    struct Invite: Decodable { let token: String }
    let invite: Invite = try await organisation.admin("--json", "client", "invite", name).json()
    home = organisation.directory.file(name)
    _ = try await run(
      "init", "--node", "127.0.0.1:\(organisation.port)", "--ca", organisation.authority, "--invite",
      invite.token, "--no-passphrase"
    ).expected()
  }

  func run(_ arguments: String..., input: String? = nil) async throws -> Finished {
    try await Program.client.run(arguments + ["--home", home], input: input)
  }

  /// What a command prints with `--json`, line by line.
  func lines(_ arguments: String...) async throws -> [[String: any Sendable]] {
    let text = try await Program.client.run(arguments + ["--json", "--home", home]).expected()
    return try Self.parse(text)
  }

  static func parse(_ text: String) throws -> [[String: any Sendable]] {
    try text.split(separator: "\n").map { line in
      let value = try JSONSerialization.jsonObject(with: Data(line.utf8))
      return try #require(value as? [String: any Sendable])
    }
  }

  /// Messages that come within a while, acknowledged.
  func takeMail(count: Int = 1) async throws -> [[String: any Sendable]] {
    var taken: [[String: any Sendable]] = []
    _ = try await eventually {
      taken += try await lines("inbox", "--ack")
      return taken.count >= count
    }
    #expect(taken.count == count)
    return taken
  }
}
