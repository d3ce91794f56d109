import Foundation
import TestSupport
import Testing

@Suite("files and templates, by hand, between two organisations", .serialized, .timeLimit(.minutes(5)))
struct SpoolScenarios {
  private let folder: TemporaryDirectory

  init() throws { folder = try TemporaryDirectory() }

  private func spool(_ name: String) throws -> String {
    let path = folder.file(name)
    for state in ["pending", "delivered", "processed", "expired"] {
      try FileManager.default.createDirectory(atPath: "\(path)/\(state)", withIntermediateDirectories: true)
    }
    return path
  }

  private func name(_ number: Int, priority: Int = 2) -> String {
    let digits = String(1_000_000_000_000 + number).dropFirst()
    return "p\(priority)_20260101T00000\(number)Z_00000000-0000-4000-8000-\(digits).json"
  }

  private func files(_ spool: String, _ state: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "\(spool)/\(state)").filter { !$0.hasPrefix(".") }
      .sorted()
  }

  private func read(_ spool: String, _ state: String, _ file: String) throws -> [String: any Sendable] {
    let data = try Data(contentsOf: URL(fileURLWithPath: "\(spool)/\(state)/\(file)"))
    return try #require(try JSONSerialization.jsonObject(with: data) as? [String: any Sendable])
  }

  @Test("a spool is imported here, watched there, answered, and exported with the same bodies")
  func roundTrip() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let worker = try await CommandLinePerson("worker", of: globex)
    let outgoing = try spool("outgoing")
    let binary = Data((0..<5_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
    func write(_ file: String, _ fields: [String: Any]) throws {
      let document = try JSONSerialization.data(
        withJSONObject: fields.merging(["to": "worker@globex.example"]) { $1 })
      try document.write(to: URL(fileURLWithPath: "\(outgoing)/pending/\(file)"))
    }
    try write(name(1), ["body": "Grüße\nan alle", "type": "TASK_REQUEST", "labels": ["project": "apollo"]])
    try write(name(2, priority: 5), ["body_base64": binary.base64EncodedString()])
    try write("p2_1_..%2F..%2Fetc%2Fpasswd.json", ["body": "x"])
    try write(name(3), ["body": "x", "colour": "red"])

    let rehearsed = try await planner.run("import", outgoing, "--dry-run", "--json")
    #expect(rehearsed.exit == .code(64) && rehearsed.output.contains("\"dry_run\":true"))
    let imported = try await planner.run("import", outgoing, "--json")
    #expect(imported.exit == .code(64), "two files were left")
    let summary = try #require(try CommandLinePerson.parse(imported.output).last)
    #expect(summary["sent"] as? Int == 2 && summary["left"] as? Int == 2)
    #expect(imported.output.contains("spool-name") && imported.output.contains("spool-unknown-key"))
    #expect(try files(outgoing, "pending") == [name(3), "p2_1_..%2F..%2Fetc%2Fpasswd.json"].sorted())
    try await secondImport(outgoing, by: planner)

    try await watched(by: worker, for: planner)
    try await exported(by: worker, and: planner, binary)
  }

  /// Both messages arrive as files; moving them acknowledges them.
  private func watched(by worker: CommandLinePerson, for planner: CommandLinePerson) async throws {
    let incoming = folder.file("incoming")
    let watch = try ChildProcess(
      Program.client.path, ["watch", incoming, "--interval", "50", "--home", worker.home],
      log: folder.file("watch"))
    let hasArrived = await eventually { (try? files(incoming, "delivered").count) == 2 }
    #expect(hasArrived)
    for file in try files(incoming, "delivered") {
      try FileManager.default.moveItem(
        atPath: "\(incoming)/delivered/\(file)", toPath: "\(incoming)/processed/\(file)")
    }
    let isProcessed = try await eventually {
      _ = try await planner.lines("inbox")
      return try await planner.lines("search", "--state", "processed").count == 2
    }
    #expect(isProcessed)
    watch.send(SIGTERM)
    _ = await watch.end()
  }

  private func exported(
    by worker: CommandLinePerson, and planner: CommandLinePerson, _ binary: Data
  ) async throws {
    let exported = folder.file("exported")
    let count = try #require(try await worker.lines("export", exported).first)
    #expect(count["processed"] as? Int == 2 && count["pending"] as? Int == 0)
    let received = try files(exported, "processed").map { try read(exported, "processed", $0) }
    #expect(Set(received.compactMap { $0["from"] as? String }) == ["planner@acme.example"])
    let text = try #require(received.first { $0["body"] != nil })
    #expect(text["body"] as? String == "Grüße\nan alle" && text["type"] as? String == "TASK_REQUEST")
    #expect((text["labels"] as? [String: String]) == ["project": "apollo"])
    let bytes = try #require(received.first { $0["body_base64"] != nil })
    #expect(bytes["body_base64"] as? String == binary.base64EncodedString())

    let own = folder.file("own")
    #expect(try await planner.lines("export", own).first?["processed"] as? Int == 2)
    let ids = try files(own, "processed").compactMap { try read(own, "processed", $0)["id"] as? String }
    #expect(Set(ids) == Set([1, 2].map { "00000000-0000-4000-8000-00000000000\($0)" }))
  }

  /// The same files again, as after a crash before they were moved.
  private func secondImport(_ spool: String, by person: CommandLinePerson) async throws {
    let sent = try await person.lines("outbox").count
    #expect(try files(spool, "imported").count == 2)
    for file in try files(spool, "imported") {
      try FileManager.default.moveItem(
        atPath: "\(spool)/imported/\(file)", toPath: "\(spool)/pending/\(file)")
    }
    let again = try await person.run("import", spool, "--json")
    let summary = try #require(try CommandLinePerson.parse(again.output).last)
    #expect(summary["sent"] as? Int == 0 && summary["already_sent"] as? Int == 2)
    #expect(try await person.lines("outbox").count == sent)
  }

  @Test("a template is shared by the clients of a node, filled in on the sender's machine, and sent")
  func templates() async throws {
    let (acme, globex) = try await Organisation.federation()
    let author = try await CommandLinePerson("author", of: acme)
    let planner = try await CommandLinePerson("planner", of: acme)
    let worker = try await CommandLinePerson("worker", of: globex)
    let file = folder.file("review.json")
    func put(_ body: String, by person: CommandLinePerson) async throws -> Finished {
      let document: [String: Any] = [
        "name": "review", "type": "TASK_REQUEST", "priority": "HIGH", "body": body,
        "parameters": [["name": "what"], ["name": "pull", "type": "integer"]],
      ]
      try JSONSerialization.data(withJSONObject: document).write(to: URL(fileURLWithPath: file))
      return try await person.run("template", "put", file, "--json")
    }
    _ = try await put("Review {{what}}#{{pull}}", by: author).expected()
    let second = try await put("Check {{what}}#{{pull}} & say <yes>", by: author).expected()
    #expect(try CommandLinePerson.parse(second).first?["version"] as? Int == 2)
    let foreign = try await put("mine", by: planner)
    #expect(foreign.exit == .code(4) || foreign.exit == .code(64))
    #expect(try await planner.lines("template", "list").map { $0["version"] as? Int } == [2])
    let shown = try await planner.run("template", "show", "review", "--template-version", "1").expected()
    #expect(shown.contains("Review"))

    let values = ["--param", "what=a<b>", "--param", "pull=7"]
    let rendered = try await Program.client.run(
      ["template", "render", "review"] + values + ["--home", planner.home]
    ).expected()
    #expect(rendered == "Check a<b>#7 & say <yes>")
    let send = ["send", "--to", "worker@globex.example", "--template", "review", "--home", planner.home]
    for bad in [
      ["--param", "what=x"], values + ["--param", "colour=red"], ["--param", "what=x", "--param", "pull=x"],
    ] {
      let refused = try await Program.client.run(send + bad)
      #expect(
        refused.exit == .code(64) && refused.errors.contains("template-invalid"), "\(bad): \(refused.errors)")
    }
    #expect(try await planner.lines("outbox").isEmpty, "nothing was kept")
    _ = try await Program.client.run(send + values).expected()
    let old = try await Program.client.run(send + values + ["--template-version", "1", "--priority", "LOW"])
    _ = try old.expected()
    let received = try await worker.takeMail(count: 2)
    #expect(
      Set(received.compactMap { $0["body"] as? String }) == ["Check a<b>#7 & say <yes>", "Review a<b>#7"])
    #expect(received.allSatisfy { $0["type"] as? String == "TASK_REQUEST" })
    #expect(Set(received.compactMap { $0["priority"] as? String }) == ["HIGH", "LOW"])
  }
}
