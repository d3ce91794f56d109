import Foundation
import TestSupport
import Testing

/// A client's home folder, used through the program alone.
struct Person {
  let home: String

  /// Invited by the organisation's administrator and registered by the program.
  static func join(_ name: String, _ organisation: Organisation) async throws -> Person {
    struct Invite: Decodable { let token: String }
    let invite: Invite = try await organisation.admin("--json", "client", "invite", name).json()
    let person = Person(home: organisation.directory.file(name))
    _ = try await person.run(
      "init", "--node", "127.0.0.1:\(organisation.port)", "--ca", organisation.authority, "--invite",
      invite.token, "--no-passphrase"
    ).expected()
    return person
  }

  func run(_ arguments: String..., input: String? = nil) async throws -> Finished {
    try await Program.client.run(arguments + ["--home", home], input: input)
  }

  /// Lines of JSON.
  func lines(_ arguments: String..., input: String? = nil) async throws -> [[String: any Sendable]] {
    try await lines(arguments, input: input)
  }

  func lines(_ arguments: [String], input: String? = nil) async throws -> [[String: any Sendable]] {
    let text = try await Program.client.run(arguments + ["--json", "--home", home], input: input).expected()
    return try text.split(separator: "\n").map { line in
      let value = try JSONSerialization.jsonObject(with: Data(line.utf8))
      return try #require(value as? [String: any Sendable])
    }
  }
}
