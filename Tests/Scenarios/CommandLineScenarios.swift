import EngramCore
import Foundation
import TestSupport
import Testing

@Suite("two people with the engram command", .serialized, .timeLimit(.minutes(5)))
struct CommandLineScenarios {
  /// A client's home folder, used through the program alone.
  private struct Person {
    let home: String

    func run(_ arguments: String..., input: String? = nil) async throws -> Finished {
      try await Program.client.run(arguments + ["--home", home], input: input)
    }

    /// Lines of JSON.
    func lines(_ arguments: String..., input: String? = nil) async throws -> [[String: any Sendable]] {
      let text = try await Program.client.run(arguments + ["--json", "--home", home], input: input).expected()
      return try text.split(separator: "\n").map { line in
        let value = try JSONSerialization.jsonObject(with: Data(line.utf8))
        return try #require(value as? [String: any Sendable])
      }
    }
  }

  private func join(_ name: String, _ organisation: Organisation) async throws -> Person {
    struct Invite: Decodable { let token: String }
    let invite: Invite = try await organisation.admin("--json", "client", "invite", name).json()
    let person = Person(home: organisation.directory.file(name))
    _ = try await person.run(
      "init", "--node", "127.0.0.1:\(organisation.port)", "--ca", organisation.authority, "--invite",
      invite.token, "--no-passphrase"
    ).expected()
    return person
  }

  @Test("from invite to receipts, by hand, between two organisations")
  func byHand() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await join("planner", acme)
    let analyst = try await join("analyst", globex)
    let account = try #require(try await planner.lines("whoami").first)
    #expect(account["address"] as? String == "planner@acme.example")
    #expect(account["node_id"] as? String == acme.nodeID.description)

    let mine = try #require(try await planner.lines("trust", "analyst@globex.example").first)
    let yours = try #require(try await analyst.lines("trust", "planner@acme.example").first)
    let number = try #require(mine["safety_number"] as? String)
    #expect(number == yours["safety_number"] as? String && number.split(separator: " ").count == 12)

    let sent = try #require(
      try await planner.lines("send", "--to", "analyst@globex.example", "--text", "due on Friday").first)
    #expect(sent["state"] as? String == "accepted")
    let message = try #require(sent["message_id"] as? String)
    // Without --ack a message is shown, and stays.
    let shown = try await analyst.lines("inbox", "--wait", "20s")
    #expect(shown.compactMap { $0["message_id"] as? String } == [message])
    let inbox = try await eventually {
      let lines = try await analyst.lines("inbox", "--ack")
      return lines.isEmpty ? nil : lines
    }
    let received = try #require(inbox?.first)
    #expect(received["from"] as? String == "planner@acme.example")
    #expect(received["body"] as? String == "due on Friday")
    #expect(try await analyst.lines("inbox", "--ack").isEmpty, "acknowledged messages came again")

    let isProcessed = try await eventually {
      let states = try await planner.lines("receipts", message).compactMap { $0["state"] as? String }
      return Set(states).isSuperset(of: ["accepted", "admitted", "processed"])
    }
    #expect(isProcessed)
    #expect(try await planner.lines("alarms").isEmpty)
  }

  @Test("a body comes from standard input or a file, and back, unchanged")
  func bodies() async throws {
    let acme = try await Organisation.running("acme.example")
    let planner = try await join("planner", acme)
    let analyst = try await join("analyst", acme)
    _ = try await planner.lines("send", "--to", "analyst@acme.example", input: "from a pipe\n")
    var generator = SeededGenerator(seed: 9)
    let binary = Data(generator.bytes(300_000))
    let file = acme.directory.file("report.bin")
    try binary.write(to: URL(fileURLWithPath: file))
    _ = try await planner.lines("send", "--to", "analyst@acme.example", "--file", file)
    let received = try await analyst.lines("inbox", "--ack")
    #expect(received.count == 2)
    // Standard input is bytes unless it is said to be text.
    let bodies = received.compactMap { line in
      (line["body"] as? String).map { Data($0.utf8) }
        ?? (line["body_base64"] as? String).flatMap { Data(base64Encoded: $0) }
    }
    #expect(bodies == [Data("from a pipe\n".utf8), binary])
  }

  @Test("what goes wrong is said with its exit code")
  func exitCodes() async throws {
    let acme = try await Organisation.running("acme.example")
    let planner = try await join("planner", acme)
    let documented = try await Program.client.run(["--help"]).expected()
    func expect(_ code: Int32, _ ended: Finished) {
      #expect(ended.exit == .code(code), "\(ended.exit) \(ended.errors)")
      #expect(documented.contains("\(code)  "), "\(code) is not documented")
    }
    let send = ["send", "--home", planner.home, "--text", "x", "--to"]
    expect(64, try await Program.client.run(send + ["not-an-address"]))
    expect(4, try await Program.client.run(send + ["nobody@acme.example"]))
    expect(1, try await Program.client.run(["whoami", "--home", acme.directory.file("nowhere")]))
    _ = try await join("analyst", acme)
    _ = try await planner.run("send", "--to", "analyst@acme.example", "--text", "first").expected()
    _ = try await acme.stop()
    expect(6, try await Program.client.run(send + ["analyst@acme.example"]))
    expect(3, try await planner.run("inbox"))
  }
}
