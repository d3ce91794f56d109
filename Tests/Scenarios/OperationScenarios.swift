import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import TestSupport
import Testing

@Suite("an administrator runs a node", .serialized, .timeLimit(.minutes(5)))
struct OperationScenarios {
  @Test("SIGTERM lets finish what is in progress, says goodbye to the peer, and ends with 0")
  func termination() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let analyst = try await globex.member("analyst")
    let sealed = try (0..<50).map { try planner.seal("note \($0)", to: [analyst]) }
    #expect(try await planner.send(sealed.map(\.bytes)).allSatisfy { $0.outcome == .accepted })
    async let poll = planner.call("GET", planner.path + "/messages?wait=30&after=100000")
    let isPolling = try await eventually { try await acme.metric("engram_http_long_polls_total") ?? 0 > 0 }
    #expect(isPolling)

    #expect(try await acme.stop() == .code(0))
    #expect(acme.log.contains("stopping") && acme.log.contains("stopped"))
    #expect(try await poll.status == 204, "a long poll is answered, not cut")
    let told = try await eventually { try await globex.peer(acme).lastError?.name == "shutting-down" }
    // While the node is away every further dial fails, and that is what is shown then.
    #expect(told || globex.log.contains("shutting-down"), "the peer saw a broken link: \(globex.log)")

    try await acme.start()
    try await acme.connected(to: globex)
    let received = try await analyst.drain { $0.ids.count >= 50 }
    #expect(received.ids.count == 50 && Set(received.ids) == Set(sealed.map(\.id)))
  }

  @Test("a rogue peer hears shutting-down before the link ends")
  func farewell() async throws {
    let acme = try await Organisation.running("acme.example")
    let rogue = try await RoguePeer(against: acme)
    let link = try await rogue.established()
    #expect(try await acme.stop() == .code(0))
    #expect(await link.link.goodbye() == .shuttingDown)
  }

  @Test("whatever the node writes is for its owner alone")
  func permissions() async throws {
    let (acme, globex) = try await Organisation.federation()
    let planner = try await acme.member("planner")
    let analyst = try await globex.member("analyst")
    #expect(try await planner.send(try planner.seal("x", to: [analyst]).bytes).outcome == .accepted)
    let walk = try #require(FileManager.default.enumerator(atPath: acme.folder))
    var seen: [String] = []
    while let path = walk.nextObject() as? String {
      let mode = try #require(walk.fileAttributes?[.posixPermissions] as? Int)
      let isDirectory = walk.fileAttributes?[.type] as? FileAttributeType == .typeDirectory
      // Certificates are public; the folders around them are not.
      let expected =
        isDirectory ? 0o700 : path.hasSuffix("tls/ca.pem") || path.hasSuffix("tls/node.pem") ? 0o644 : 0o600
      #expect(mode == expected, "\(path) has mode \(String(mode, radix: 8))")
      seen.append(path)
    }
    for path in ["data/node.db", "data/node.db-wal", "data/admin.sock", "peers.d/globex.example.toml"] {
      #expect(seen.contains(path), "\(path) is not there: \(seen)")
    }
    let info = try FileManager.default.attributesOfItem(atPath: acme.folder)
    #expect(info[.posixPermissions] as? Int == 0o700)
  }

  @Test("a peer that was added is there after a restart, and one that was removed is not")
  func peers() async throws {
    let (acme, globex) = try await Organisation.federation()
    #expect(try await acme.stop() == .code(0))
    try await acme.start()
    try await acme.connected(to: globex)
    #expect(try await acme.status().peers.map(\.name) == ["globex.example"])

    let unasked = try await acme.admin("peer", "remove", "globex.example")
    #expect(unasked.exit == .code(1) && unasked.errors.contains("--yes"), "\(unasked.errors)")
    _ = try await acme.admin("peer", "remove", "globex.example", "--yes").expected()
    #expect(try await acme.status().peers.isEmpty)
    let refused = try await eventually { try await globex.peer(acme).state != "connected" }
    #expect(refused)
    #expect(try await acme.stop() == .code(0))
    try await acme.start()
    #expect(try await acme.status().peers.isEmpty)
  }

  @Test("a card that somebody changed on the way is refused, and changes nothing")
  func spoiledCards() async throws {
    let acme = try await Organisation.running("acme.example")
    let globex = try await Organisation("globex.example")
    let card = try await globex.card()
    let spoiled = [
      card.replacing("BEGIN CERTIFICATE", with: "BEGIN NOTHING"),
      card.replacing("engram-node:", with: "engram-node:a"),
      card.replacing("globex.example", with: "acme.example"),
      card.replacing("127.0.0.1:", with: "127.0.0.1-"),
      "{}", "not json",
    ]
    for text in spoiled {
      let added = try await acme.admin("peer", "add", "-", input: text)
      #expect(added.exit == .code(1) && !added.errors.isEmpty, "\(text.prefix(80)): \(added.output)")
    }
    #expect(try await acme.status().peers.isEmpty)
    let left = try? FileManager.default.contentsOfDirectory(atPath: acme.folder + "/peers.d")
    #expect((left ?? []).filter { $0.hasSuffix(".toml") } == [])
  }

  @Test("a disabled client loses its WebSocket at once, and gets no new session")
  func disabling() async throws {
    let acme = try await Organisation.running("acme.example")
    let bystanders = try await Bystanders(of: acme)
    let planner = try await acme.member("planner")
    let opening = try await WebSocketConnection.connect(
      endpoint: acme.endpoint, path: planner.path + "/realtime",
      headers: [WireHeader("Authorization", "Bearer \(planner.session)")])
    guard case .open(let socket) = opening else { throw Unexpected("no WebSocket: \(opening)") }

    let sealed = try planner.seal("over the WebSocket", to: [bystanders.recipient])
    try await socket.send(binary: RealtimeFrame.send(request: 7, envelopes: [sealed.bytes[...]]).encoded())
    var messages = socket.messages.makeAsyncIterator()
    let answer = try RealtimeFrame(parsing: try #require(await messages.next())[...])
    guard case .outcomes(7, let outcomes) = answer else { throw Unexpected("\(answer)") }
    #expect(outcomes.map(\.outcome) == [.accepted])
    #expect(try await bystanders.recipient.drain { !$0.ids.isEmpty }.ids == [sealed.id])

    _ = try await acme.admin("client", "disable", "planner", "--yes").expected()
    #expect(await socket.end() == .closed(code: 4401, reason: ""))
    #expect(try await planner.call("GET", planner.path + "/messages").status == 401)
    let token = planner.device.token(node: acme.nodeID, nowMs: nowMs())
    let refused = try await planner.openSession(token)
    #expect(refused.status == 403 && refused.code == ErrorCode.clientDisabled.rawValue, "\(refused.summary)")
    try await bystanders.expectUnharmed(after: "a client was disabled")
  }
}
