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

  /// Sends, and gives the message id.
  func send(_ text: String, to address: String, _ options: String...) async throws -> String {
    let arguments = ["send", "--to", address, "--text", text, "--json", "--home", home] + options
    let sent = try Self.parse(try await Program.client.run(arguments).expected()).first
    return try #require(sent?["message_id"] as? String)
  }

  /// Where a message stands, as a word.
  func state(of message: String) async throws -> String? {
    try await lines("status", message).first?["state"] as? String
  }

  /// Waits until a message stands there.
  func waits(for state: String, of message: String) async throws -> Bool {
    try await eventually { try await self.state(of: message) == state }
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
