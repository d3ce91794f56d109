import EngramCore
import EngramCrypto
import EngramSealing
import Foundation
import TestSupport
import Testing

@Suite("one message, one effect", .serialized, .timeLimit(.minutes(5)))
struct OnceScenarios {
  @Test("an id that is used again with other bytes is refused and audited, at home and from a peer")
  func reusedID() async throws {
    let acme = try await Organisation.running("acme.example")
    let planner = try await acme.member("planner")
    let analyst = try await acme.member("analyst")
    let rogue = try await RoguePeer(against: acme)
    let link = try await rogue.established()
    try await link.introduce(rogue.mole)

    let own = try planner.seal("own", to: [analyst]).bytes
    let foreign = try sealText("foreign", from: rogue.mole, to: [analyst.device], nowMs: nowMs()).bytes
    func spoil(_ bytes: [UInt8], _ device: TestDevice) throws -> [UInt8] {
      try resigned(bytes, by: device) { $0.priority = .critical }
    }
    #expect(try await planner.send(own).outcome == .accepted)
    #expect(try await link.outcome(of: foreign, seq: 1).outcome == .accepted)
    // The control: the same bytes again are a duplicate, no offence.
    #expect(try await planner.send(own).outcome == .duplicate)
    #expect(try await link.outcome(of: foreign, seq: 2).outcome == .duplicate)
    let other = try await planner.send(try spoil(own, planner.device))
    #expect(other.outcome == .refused && other.code == .messageIDReused)
    let foreignOther = try spoil(foreign, rogue.mole)
    let refused = try await link.outcome(of: foreignOther, seq: 3)
    #expect(refused.outcome == .refused && refused.code == .messageIDReused)
    // The same id by another device is another message.
    #expect(try await planner.send(try planner.seal("more", to: [analyst]).bytes).outcome == .accepted)

    #expect(try await analyst.drainAll().ids.count == 3)
    #expect(try await acme.metric("engram_id_reused_total") == 2)
    _ = try await acme.stop()
    let reused = try acme.auditLeaves().filter { $0.action == .idReused }
    #expect(reused.map(\.actor) == ["planner@acme.example", "mole@rogue.example"])
    let spoiled = try EnvelopeDigests(of: UnverifiedEnvelope(parsing: foreignOther)).id
    #expect(reused.last?.envelope == spoiled && reused.allSatisfy { $0.code == .messageIDReused })
    #expect(try acme.auditLeaves().count { $0.action == .accepted } == 3, "control: duplicates leave nothing")
  }

  @Test("what is on its way when a peer moves to another address arrives once, by the new route")
  func rerouted() async throws {
    let (acme, globex) = try await Organisation.federation()
    let (planner, analyst) = (try await acme.member("planner"), try await globex.member("analyst"))
    let sealed = try (0..<60).map { try planner.seal("message \($0)", to: [analyst]) }
    for message in sealed.prefix(20) {
      #expect(try await planner.send(message.bytes).outcome == .accepted)
    }
    _ = try await analyst.drain { $0.ids.contains(sealed[0].id) }
    // It stops answering with messages in flight, and dies.
    globex.pause()
    for message in sealed[20..<40] { #expect(try await planner.send(message.bytes).outcome == .accepted) }
    globex.resume()
    try await globex.kill()
    for message in sealed[40...] { #expect(try await planner.send(message.bytes).outcome == .accepted) }

    let moved = try freePort()
    let path = globex.config
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let changed = text.replacingOccurrences(of: ":\(globex.port)", with: ":\(moved)")
    #expect(changed != text)
    try Data(changed.utf8).write(to: URL(fileURLWithPath: path))
    try await globex.start()
    try await acme.pin(globex, endpoint: "127.0.0.1:\(moved)")
    try await acme.connected(to: globex)

    // The client of the moved node needs its new port too; what it held back is told apart by id.
    let there = try Member(analyst.device, of: globex, port: moved)
    try await there.login()
    let wanted = Set(sealed.map(\.id))
    let told = try await planner.drain { harvest in
      wanted.isSubset(of: harvest.receipts(by: globex.nodeID.key).map(\.envelope))
    }
    #expect(!told.receipts.isEmpty)
    let received = try await there.drainAll()
    #expect(received.ids.count == Set(received.ids).count, "nothing came twice")
    #expect(received.ids.contains(sealed[59].id) && received.ids.contains(sealed[30].id))
    // The control: what is not acknowledged does come again, and would be seen.
    let again = try planner.seal("again", to: [analyst])
    #expect(try await planner.send(again.bytes).outcome == .accepted)
    var harvest = Harvest()
    _ = try await eventually {
      try harvest.add(try await there.items())
      return harvest.ids.count == 2
    }
    #expect(harvest.ids == [again.id, again.id])
    _ = try await globex.stop()
    let admitted = try globex.auditLeaves().filter { $0.action == .accepted }.compactMap(\.envelope)
    #expect(admitted.filter(wanted.contains).count == 60, "each was taken once")
  }

  @Test("a client that sends the same again sends it once, and other words under its id not at all")
  func sameWords() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await CommandLinePerson("planner", of: acme)
    let analyst = try await CommandLinePerson("analyst", of: globex)
    let id = String(repeating: "ab", count: 16)
    let send = ["send", "--to", "analyst@globex.example", "--message-id", id, "--home", planner.home]
    for _ in 0..<3 { _ = try await Program.client.run(send + ["--text", "once"]).expected() }
    for other in [["--text", "twice"], ["--text", "once", "--priority", "HIGH"]] {
      let refused = try await Program.client.run(send + other)
      #expect(refused.exit == .code(64) && refused.errors.contains("message-id-reused"))
    }
    #expect(try await analyst.takeMail().map { $0["body"] as? String } == ["once"])

    // A copy of the home knows nothing of what the other sent: there the node refuses.
    let copy = planner.home + "-copy"
    let late = String(repeating: "cd", count: 16)
    try FileManager.default.copyItem(atPath: planner.home, toPath: copy)
    _ = try await planner.send("from the home", to: "analyst@globex.example", "--message-id", late)
    let refused = try await Program.client.run(
      ["send", "--to", "analyst@globex.example", "--message-id", late, "--text", "x", "--home", copy])
    #expect(refused.exit == .code(4) && refused.errors.contains("304"))
    #expect(try await analyst.takeMail().map { $0["body"] as? String } == ["from the home"])
    _ = try await acme.stop()
    #expect(try acme.auditLeaves().count { $0.action == .idReused } == 1)
  }
}
