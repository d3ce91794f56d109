import ArgumentParser
import EngramCore
import Foundation

struct ClientCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "client", abstract: "Invite, list and disable the clients of this node.",
    subcommands: [InviteCommand.self, ListCommand.self, DisableCommand.self])
  @ParentCommand var admin: AdminCommand

  struct InviteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "invite", abstract: "Make a one-time invite for a new client.",
      discussion: """
        The token is shown once; the node keeps only its digest. Pass it on over a private channel.

        Example:
          engram-node admin client invite planner --hours 24
        """)
    @ParentCommand var client: ClientCommand
    @OptionGroup var options: AdminOptions
    @Argument(help: "The client's name: [a-z0-9][a-z0-9._-]{0,62}.") var name: String
    @Option(help: "How long the invite may be used, in hours: 1 to 720.") var hours: UInt64 = 7 * 24

    private struct Request: Encodable {
      var name: String
      var ttlHours: UInt64
    }
    private struct Answer: Codable {
      var token: String
      var expiresMs: UInt64
      var nodeId: String
    }

    func run() async throws {
      try await reporting {
        try checkClientName(name)
        guard (1...720).contains(hours) else {
          throw Failure(.usage, "--hours is 1 to 720", hint: "720 hours are 30 days")
        }
        let connection = try AdminConnection(client.admin.options, options)
        let request = Request(name: name, ttlHours: hours)
        let answer = try await connection.send("POST", "clients/invite", body: request, as: Answer.self)
        if connection.json { return printJSON(answer) }
        print("invite for \(name), once, until \(timeText(answer.expiresMs)):\n\n  \(answer.token)\n")
        print("next, on the client's machine:")
        print("  engram init --node HOST:PORT --ca ca.pem --invite \(answer.token)")
      }
    }
  }

  struct ListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "list", abstract: "All clients of this node.",
      discussion: """
        Example:
          engram-node admin client list --json
        """)
    @ParentCommand var client: ClientCommand
    @OptionGroup var options: AdminOptions

    private struct Answer: Decodable {
      var clients: [Client]
    }
    private struct Client: Decodable {
      var address: String
      var devices: [String]
      var disabled: Bool
      var createdMs: UInt64
      var waiting: Int
    }

    func run() async throws {
      try await reporting {
        let connection = try AdminConnection(client.admin.options, options)
        let data = try await connection.raw("GET", "clients")
        if connection.json { return print(String(decoding: data, as: UTF8.self)) }
        let clients = try connection.decode(data, as: Answer.self).clients
        guard !clients.isEmpty else {
          return print("no clients yet; `admin client invite NAME` makes an invite")
        }
        printTable(
          ["ADDRESS", "STATE", "DEVICES", "WAITING", "SINCE"],
          clients.map {
            [
              $0.address, $0.disabled ? "disabled" : "active", "\($0.devices.count)", "\($0.waiting)",
              timeText($0.createdMs),
            ]
          })
      }
    }
  }

  struct DisableCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "disable",
      abstract: "Shut a client out: its sessions end at once and nothing of it is accepted.",
      discussion: """
        It cannot be enabled again.

        Example:
          engram-node admin client disable planner --yes
        """)
    @ParentCommand var client: ClientCommand
    @OptionGroup var options: AdminOptions
    @Argument(help: "The client's name.") var name: String
    @Flag(name: .shortAndLong, help: "Do not ask.") var yes = false

    func run() async throws {
      try await reporting {
        try checkClientName(name)
        let connection = try AdminConnection(client.admin.options, options)
        guard yes || confirm("disable \(name)? It cannot be enabled again. [y/N] ") else {
          throw Failure(.failed, "nothing was changed")
        }
        try await connection.raw("POST", "clients/\(name)/disable")
        say("\(name) is disabled", done: "disabled", json: connection.json)
      }
    }
  }
}

/// Before the node is asked: a name with a blank or a slash could not even be put into a request.
private func checkClientName(_ name: String) throws(Failure) {
  guard !isLocalName(name) else { return }
  throw Failure(
    .usage, "this cannot be a client's name",
    hint: "1 to 63 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit; without @node")
}

/// Asks on the terminal; without one the answer is no.
func confirm(_ question: String) -> Bool {
  guard isatty(STDIN_FILENO) == 1 else {
    writeError("hint: --yes answers the question when there is no terminal")
    return false
  }
  FileHandle.standardError.write(Data(question.utf8))
  return readLine().map { ["y", "yes"].contains($0.lowercased()) } ?? false
}
