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
    // On connections of their own: each is answered, and each connection ends.
    let polls = (0..<6).map { _ in
      Task { try await planner.call("GET", planner.path + "/messages?wait=30&after=100000").status }
    }
    let arePolling = try await eventually { try await acme.metric("engram_http_long_polls_total") == 6 }
    #expect(arePolling)

    #expect(try await acme.stop() == .code(0))
    #expect(acme.log.contains("stopping") && acme.log.contains("stopped"))
    for poll in polls { #expect(try await poll.value == 204, "a long poll is answered, not cut") }
    // While the node is away every further dial fails, and that is what the peer's status shows then.
    let told = await eventually { globex.log.contains("shutting-down") }
    #expect(told, "the peer saw a broken link: \(globex.log)")

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
    #expect((left ?? []) == [])
  }

  @Test("a card that does not fit a pinned peer leaves the peer as it was")
  func cardsOfPinnedPeers() async throws {
    let (acme, globex) = try await Organisation.federation()
    func files() throws -> [String: Data] {
      let folder = acme.folder + "/peers.d"
      let names = try FileManager.default.contentsOfDirectory(atPath: folder)
      return try Dictionary(
        uniqueKeysWithValues: names.map {
          ($0, try Data(contentsOf: URL(fileURLWithPath: folder + "/" + $0)))
        })
    }
    let before = try files()
    let card = try await globex.card()
    // The same organisation, set up anew: another identity and another authority under the old name.
    let anew = try await Organisation("globex.example")
    let newCard = try await anew.card()
    let spoiled = [
      card.replacing("BEGIN CERTIFICATE", with: "BEGIN NOTHING"),
      card.replacing("127.0.0.1:", with: "127.0.0.1-"), newCard,
    ]
    for text in spoiled {
      let added = try await acme.admin("peer", "add", "-", input: text)
      #expect(added.exit == .code(1), "\(added.output)")
      #expect(try files() == before)
    }
    let refused = try await acme.admin("peer", "add", "-", input: newCard)
    for words in [globex.nodeID.description, anew.nodeID.description, "--replace"] {
      #expect(refused.errors.contains(words), "\(refused.errors)")
    }
    try await acme.connected(to: globex)
    _ = try await acme.admin("peer", "add", "-", input: card).expected()
    #expect(try files() == before, "the same card again changes nothing")

    // The control: asked for by name, the new card takes the old one's place, and survives a restart.
    _ = try await acme.admin("peer", "add", "-", "--replace", input: newCard).expected()
    #expect(try files() != before)
    let isCutOff = try await eventually { try await acme.peer(globex).state != "connected" }
    #expect(isCutOff)
    #expect(try await acme.stop() == .code(0))
    try await acme.start()
  }

  @Test("a second signal ends a node that still waits for a request")
  func impatience() async throws {
    let acme = try await Organisation.running("acme.example", settings: "\n[limits]\ndrain_seconds = 300\n")
    // Two requests in one write; when the first is counted, the node has the beginning of the second.
    let link = try await RawLink.connect(to: acme, as: nil, protocols: ["http/1.1"])
    let half =
      "POST /api/v1/agents/register HTTP/1.1\r\nHost: x\r\n"
      + "Content-Type: application/vnd.engram.registration\r\nContent-Length: 100\r\n\r\nhalf"
    await link.send(raw: Array(("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + half).utf8))
    let isCounted = try await eventually {
      try await acme.metric(#"engram_http_requests_total{method="GET",route="/healthz",status="200"}"#) == 1
    }
    #expect(isCounted)
    acme.running?.send(SIGTERM)
    let isStopping = await eventually { acme.log.contains("stopping") }
    #expect(isStopping)
    #expect(acme.running?.exit == nil, "the half request did not hold it up: the test shows nothing")
    acme.running?.send(SIGTERM)
    #expect(await acme.running?.end() == .code(143))
    await link.close()
    // The control: with nothing in progress the first signal is enough, and nothing acknowledged was lost.
    try await acme.start()
    #expect(try await acme.stop() == .code(0))
  }

  @Test("a renewed certificate is taken on SIGHUP, without a restart, and one that runs out is warned of")
  func reload() async throws {
    let acme = try await Organisation.running("acme.example")
    func days() async throws -> Double {
      let left = try await acme.metric(#"engram_certificate_expires_seconds{certificate="node"}"#)
      return try #require(left) / 86_400
    }
    #expect(try await days() > 360)
    #expect(!acme.log.contains("runs out soon"), "control")
    let renewed = try await Program.node.run(["renew", "--config", acme.config, "--days", "10", "--json"])
    struct Report: Decodable {
      let dnsNames: [String]
      let ipAddresses: [String]
    }
    let report: Report = try renewed.json()
    #expect(report.dnsNames.contains("acme.example") && report.ipAddresses.contains("127.0.0.1"))
    #expect(try await days() > 360, "files alone change nothing")
    acme.running?.send(SIGHUP)
    let isReloaded = try await eventually { try await days() < 11 }
    #expect(isReloaded)
    let isWarned = await eventually { acme.log.contains("a certificate runs out soon") }
    #expect(isWarned)
    #expect(acme.running?.exit == nil)

    // A certificate that cannot be used leaves the old one in place.
    try Data("nothing".utf8).write(to: URL(fileURLWithPath: acme.data + "/tls/node.pem"))
    acme.running?.send(SIGHUP)
    let isRefused = await eventually { acme.log.contains("was not reloaded") }
    #expect(isRefused)
    #expect(try await days() < 11)
    #expect(try await acme.stop() == .code(0))
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
