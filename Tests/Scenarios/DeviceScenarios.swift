import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import TestSupport
import Testing

extension CommandLinePerson {
  /// A home of its own for another device of this person's client, by the three commands that make one.
  fileprivate func addDevice(_ name: String, of organisation: Organisation) async throws -> CommandLinePerson
  {
    let device = CommandLinePerson(home: organisation.directory.file(name))
    let request = organisation.directory.file(name + ".request")
    let answer = organisation.directory.file(name + ".answer")
    let account = try #require(try await lines("whoami").first)
    let asked = try await device.run(
      "device", "request", "--address", try #require(account["address"] as? String), "--identity",
      try #require(account["identity_key"] as? String), "--node", "127.0.0.1:\(organisation.port)", "--ca",
      organisation.authority, "--no-passphrase", "--out", request)
    _ = try asked.expected()
    let approved = try await run("device", "approve", request, "--out", answer, input: "y\n")
    _ = try approved.expected()
    // Both show the same code.
    let code = try #require(Self.code(asked.errors))
    #expect(Self.code(approved.errors) == code)
    #expect(try await device.run("device", "accept", answer).expected().contains("this home is device"))
    return device
  }

  private static func code(_ text: String) -> Substring? {
    text.split(separator: "\n").first { $0.hasPrefix("comparison code: ") }
  }

  fileprivate func kid() async throws -> String {
    try #require(try await lines("whoami").first?["device"] as? String)
  }

  /// Bodies that come within a while, until there are so many, acknowledged.
  fileprivate func bodies(_ count: Int) async throws -> [String] {
    try await takeMail(count: count).compactMap { $0["body"] as? String }
  }
}

@Suite("clients with several devices, between two organisations", .serialized, .timeLimit(.minutes(5)))
struct DeviceScenarios {
  @Test("both devices get what another organisation sends, both are believed, and a revoked one gets no more")
  func byHand() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    func send(_ text: String, from sender: CommandLinePerson, to address: String) async throws -> String {
      let sent = try #require(try await sender.lines("send", "--to", address, "--text", text).first)
      #expect(sent["state"] as? String == "accepted")
      return try #require(sent["message_id"] as? String)
    }
    // Local, so that nobody has asked about the analyst before.
    let before = try await CommandLinePerson("before", of: globex)
    _ = try await send("before", from: before, to: "analyst@globex.example")
    let phone = try await analyst.addDevice("phone", of: globex)

    let message = try await send("to both", from: planner, to: "analyst@globex.example")
    #expect(try await phone.bodies(1) == ["to both"], "nothing from before it came")
    #expect(try await analyst.bodies(2) == ["before", "to both"])
    let isProcessed = try await eventually {
      let status = try #require(try await planner.lines("status", message).first)
      return status["state"] as? String == "processed"
    }
    #expect(isProcessed)
    _ = try await send("from the phone", from: phone, to: "planner@acme.example")
    let received = try #require(try await planner.takeMail().first)
    #expect(received["body"] as? String == "from the phone")
    #expect(try await received["device"] as? String == phone.kid())
    _ = try await send("from the phone, at home", from: phone, to: "before@globex.example")
    #expect(try await before.bodies(1) == ["from the phone, at home"])
    for person in [planner, before, phone, analyst] { #expect(try await person.lines("alarms").isEmpty) }

    let devices = try await analyst.lines("device", "list")
    #expect(devices.count == 2 && devices.allSatisfy { $0["state"] as? String == "active" })
    let notHere = try await phone.run("device", "revoke", analyst.kid(), "--yes")
    #expect(notHere.exit == .code(1) && notHere.errors.contains(analyst.home), "\(notHere.errors)")
    let kid = try await phone.kid()
    _ = try await analyst.run("device", "revoke", kid, "--yes").expected()
    let shutOut = try await phone.run("inbox")
    #expect(shutOut.exit == .code(4) && shutOut.errors.contains("device-inactive"), "\(shutOut.errors)")
    #expect(try await phone.run("send", "--to", "planner@acme.example", "--text", "x").exit != .code(0))
    // The planner still goes by the answer from before; what it seals for the phone fails, the rest arrives.
    let late = try await send("afterwards", from: planner, to: "analyst@globex.example")
    #expect(try await analyst.bodies(1) == ["afterwards"])
    let told = try await eventually {
      try await planner.lines("status", late).first?["state"] as? String == "processed"
    }
    #expect(told)
    // And with that it asked again.
    let afterwards = try await send("the analyst alone", from: planner, to: "analyst@globex.example")
    let status = try #require(try await planner.lines("status", afterwards).first)
    let recipients = try #require(status["recipients"] as? [[String: any Sendable]])
    #expect((recipients.first?["devices"] as? [any Sendable])?.count == 1)
  }

  @Test(
    "help on devices teaches by example", arguments: ["request", "approve", "accept", "list", "revoke"])
  func help(_ command: String) async throws {
    let all = try await Program.client.run(["device", "--help"]).expected()
    #expect(all.contains("  \(command) ") && all.contains("Three steps"))
    let one = try await Program.client.run(["device", command, "--help"]).expected()
    #expect(one.contains("engram device \(command) ") && one.contains("Example") && one.contains("--home"))
  }

  @Test("a request that somebody exchanged, or that nobody confirmed, makes no device")
  func refused() async throws {
    let acme = try await Organisation.running("acme.example")
    let planner = try await CommandLinePerson("planner", of: acme)
    let mallory = try await CommandLinePerson("mallory", of: acme)
    let key = try #require(try await planner.lines("whoami").first?["identity_key"] as? String)
    let request = acme.directory.file("request")
    func ask(_ home: String, address: String = "planner@acme.example", identity: String? = nil) async throws
      -> Finished
    {
      try await CommandLinePerson(home: acme.directory.file(home)).run(
        "device", "request", "--address", address, "--identity", identity ?? key, "--node",
        "127.0.0.1:\(acme.port)", "--ca", acme.authority, "--no-passphrase", "--out", request)
    }
    #expect(try await ask("n", address: "planner@globex.example").exit == .code(64))
    #expect(try await ask("n", identity: "abc").exit == .code(64))
    #expect(!FileManager.default.fileExists(atPath: acme.directory.file("n")), "the home was touched")
    _ = try await ask("phone").expected()
    let unsure = try await planner.run("device", "approve", request, input: "n\n")
    #expect(unsure.exit == .code(4) && unsure.errors.contains("not-confirmed"), "\(unsure.errors)")
    #expect(try await planner.run("device", "approve", request).exit == .code(64), "nobody to ask")
    let elsewhere = try await mallory.run("device", "approve", request, "--yes")
    #expect(elsewhere.exit == .code(4) && elsewhere.errors.contains("wrong-client"), "\(elsewhere.errors)")
    let phone = CommandLinePerson(home: acme.directory.file("phone"))
    let early = try await phone.run("inbox")
    #expect(early.exit == .code(1) && early.errors.contains("not-approved"), "\(early.errors)")
    #expect(try await planner.lines("device", "list").count == 1)
    _ = try await planner.run("device", "approve", request, "--yes").expected()
    #expect(try await planner.lines("device", "list").count == 2, "control")
  }

  @Test("devices that share a queue each get a part of what another organisation sends")
  func sharedQueue() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let worker = try await globex.member("worker")
    let second = try TestDevice(
      worker.address.text, device: "second", nowMs: nowMs(), others: [worker.device.kid], listVersion: 2)
    let added = try await worker.call(
      "POST", worker.path + "/devices", type: "application/vnd.engram.device",
      body: second.certificateItem.encoded())
    #expect(added.status == 201, "\(added.summary)")
    let helper = try Member(second, of: globex)
    try await helper.login()
    let published = try await helper.call(
      "PUT", helper.path + "/prekeys", type: "application/vnd.engram.prekeys", body: second.prekey.bytes)
    #expect(published.status == 204)
    let mode = try await worker.call(
      "PUT", worker.path + "/queue", type: "application/json", body: Array("{\"mode\":\"one\"}".utf8))
    #expect(mode.status == 200, "\(mode.summary)")
    let entry = try await planner.lookup(worker.address, signedBy: globex.nodeID)
    #expect(entry.bundles.count == 2)

    let devices = [worker.device, second].sorted { $0.kid < $1.kid }
    let sealed = try (0..<6).map { try planner.seal("task \($0)", for: devices) }
    #expect(try await planner.send(sealed.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    struct Queue: Decodable { let waiting: Int }
    let isThere = try await eventually {
      let answer = try await worker.call("GET", worker.path + "/queue")
      return try JSONDecoder().decode(Queue.self, from: Data(answer.body)).waiting == 6
    }
    #expect(isThere)
    var taken: [Kid: [String]] = [:]
    _ = try await eventually {
      for member in [worker, helper] {
        for work in try await member.lease(wait: 0, max: 1) {
          let text = try member.device.open(work.lease.envelope, from: planner.device).body
          taken[member.device.kid, default: []].append(String(decoding: text, as: UTF8.self))
          #expect(try await member.acknowledge(work).outcome == .accepted)
        }
      }
      return taken.values.reduce(0) { $0 + $1.count } >= 6
    }
    #expect(Set(taken.values.flatMap { $0 }) == Set((0..<6).map { "task \($0)" }))
    #expect(taken.values.allSatisfy { $0.count == 3 } && taken.count == 2, "\(taken)")
    // A revoked one gets nothing more, and the other goes on.
    let alone = try TestDevice(worker.address.text, nowMs: nowMs(), listVersion: 3)
    let revoked = try await worker.call(
      "PUT", worker.path + "/device-list", type: "application/vnd.engram.device-list", body: alone.list.bytes)
    #expect(revoked.status == 204, "\(revoked.summary)")
    #expect(try await planner.send(planner.seal("last", for: devices).bytes).outcome == .accepted)
    let last = try await eventually { try await worker.lease(wait: 1, max: 1).first }
    let outcome = try await worker.acknowledge(try #require(last))
    #expect(outcome.outcome == .accepted)
    #expect(try await helper.call("GET", helper.path + "/messages?lease=30").status == 401)
  }
}
