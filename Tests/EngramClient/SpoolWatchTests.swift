import EngramClientStore
import EngramCore
import Foundation
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import EngramClient

@Suite("Spools, written and watched")
struct SpoolWatchTests: SpoolTesting {
  let fixture: SpoolFixture

  init() async throws { fixture = try await SpoolFixture() }

  @Test("an export holds what was sent and received with the same bodies, each in its state")
  func exporting() async throws {
    let binary = (0...255).map { UInt8($0) }
    _ = try await alice.send(to: [bob.address], body: binary, contentType: "application/octet-stream")
    _ = try await bob.send(to: [alice.address], body: Array("Grüße".utf8))
    let received = try #require(try await alice.receive().first)
    let out = world.folder + "/out"
    let summary = try await alice.exportSpool(out)
    #expect(summary.written == [.pending: 1, .delivered: 1] && summary.total == 2)
    func read(_ state: String) throws -> SpoolDocument {
      let file = try #require(try FileManager.default.contentsOfDirectory(atPath: "\(out)/\(state)").first)
      let bytes = try Data(contentsOf: URL(filePath: "\(out)/\(state)/\(file)"))
      return try SpoolDocument(parsing: Array(bytes), name: try SpoolName(parsing: file))
    }
    #expect(try read("pending").body == binary)
    let incoming = try read("delivered")
    #expect(
      incoming.body == Array("Grüße".utf8) && incoming.from == bob.address
        && incoming.direction == .incoming)

    try await alice.acknowledge([received.envelopeID])
    let again = try await alice.exportSpool(out)
    #expect(again.written == [.pending: 1, .processed: 1])
    #expect(try FileManager.default.contentsOfDirectory(atPath: out + "/delivered").isEmpty, "it moved")
    let mode = try FileManager.default.attributesOfItem(atPath: out)[.posixPermissions]
    #expect(mode as? Int == 0o700)
  }

  @Test("an export takes the filters of a search, and writes the receipts that were verified")
  func filtered() async throws {
    var options = SendOptions()
    options.labels = ["project": "apollo"]
    _ = try await alice.send(to: [bob.address], body: Array("first".utf8), options: options)
    _ = try await alice.send(to: [bob.address], body: Array("second".utf8))
    let question = try #require(try await bob.receive().first { $0.labels.isEmpty == false })
    try await bob.acknowledge([question.envelopeID])
    _ = try await alice.receive()
    func count(_ adjust: (inout SearchQuery) -> Void) async throws -> Int {
      var query = SearchQuery()
      adjust(&query)
      let out = world.folder + "/out-\(UInt64.random(in: 0 ... .max))"
      return try await alice.exportSpool(out, query: query).total
    }
    let nowMs = alice.core.nowMs()
    #expect(try await count { $0.labels = [("project", "apollo")] } == 1)
    #expect(try await count { $0.labels = [("project", "gemini")] } == 0)
    #expect(try await count { $0.state = .processed } == 1)
    #expect(try await count { $0.state = .cancelled } == 0)
    #expect(try await count { $0.sinceMs = nowMs + 1 } == 0)
    #expect(try await count { $0.untilMs = nowMs + 1 } == 2)
    #expect(try await count { $0.thread = question.thread } == 1)
    #expect(try await count { _ in } == 2, "the control")

    let out = world.folder + "/out"
    _ = try await alice.exportSpool(out)
    let file = try #require(try FileManager.default.contentsOfDirectory(atPath: out + "/processed").first)
    let json = try String(contentsOfFile: "\(out)/processed/\(file)", encoding: .utf8)
    #expect(json.contains(#""state" : "processed""#) && json.contains(#""by" : "bob@globex.example""#))
  }

  @Test("receipts that a file claims are kept with it and change nothing")
  func claimedReceipts() async throws {
    let claim = #", "state": "processed", "receipts": [{"state": "processed", "by": "bob@globex.example"}]"#
    try write(name(1), message("x", more: claim))
    var watch = SpoolWatch(client: alice, folder: try SpoolFolder(spool, creates: true)) { _ in }
    await watch.round()
    #expect(try files("pending") == [name(1)], "nobody but the file says that it was processed")
    #expect(try await texts(bob) == ["x"])
    try await bob.acknowledge([try #require(try await bob.history())])
    await watch.round()
    let moved = try String(contentsOfFile: path(name(1), "processed"), encoding: .utf8)
    #expect(moved.contains("\"receipts\""), "what the file said is still in it")
  }

  @Test("a file is seen as soon as it is complete, though the next sweep is an hour away")
  func bell() async throws {
    let log = SpoolLog()
    let task = Task { [alice, spool] in
      try await alice.watchSpool(spool, intervalMs: 3_600_000) { log.add($0) }
    }
    defer { task.cancel() }
    func seen(_ wanted: [String]) async {
      let isSeen = await eventually { log.outgoing == wanted }
      #expect(isSeen, "\(log.outgoing) instead of \(wanted)")
    }
    // Renamed into the folder; it was there before the watch or was rung for, both are right.
    try write(".new", message("renamed"))
    #expect(rename(path(".new"), path(name(1))) == 0)
    await seen(["sent"])
    // Written in place, in two parts, with another file in between that makes the watch look.
    let json = message("in two parts")
    let file = open(path(name(2)), O_WRONLY | O_CREAT, 0o600)
    #expect(Glibc.write(file, json, 10) == 10)
    try write(name(3), message("between"))
    await seen(["sent", "spool-not-json", "sent"])
    let rest = String(json.dropFirst(10))
    #expect(Glibc.write(file, rest, rest.utf8.count) == rest.utf8.count)
    close(file)
    await seen(["sent", "spool-not-json", "sent", "sent"])
    #expect(Set(try await texts(bob)) == ["renamed", "between", "in two parts"])
  }

  @Test("without notifications of the system the sweep finds what there is")
  func sweep() async throws {
    let task = Task { [alice, spool] in
      try await alice.watchSpool(spool, intervalMs: 20, listens: false) { _ in }
    }
    defer { task.cancel() }
    try write(name(1), message("swept"))
    let isSent = await eventually { world.acme.state.withLock { $0.posted.count } == 1 }
    #expect(isSent)
    #expect(try await texts(bob) == ["swept"])
  }

  @Test("a watched spool sends, receives, acknowledges and follows its messages")
  func watching() async throws {
    let events = Mutex<[String]>([])
    let folder = try SpoolFolder(spool, creates: true)
    var watch = SpoolWatch(client: alice, folder: folder) { event in
      events.withLock {
        switch event {
        case .outgoing(let report): $0.append("out \(report.outcome == .sent)")
        case .moved(_, let state): $0.append("moved \(state)")
        case .arrived(_, let from): $0.append("arrived \(from)")
        case .acknowledged: $0.append("acknowledged")
        case .trouble(let error): $0.append("trouble \(error.name)")
        }
      }
    }
    try write(name(1), message("question"))
    await watch.round()
    #expect(try await texts(bob) == ["question"])
    #expect(try files("pending") == [name(1)], "nobody has processed it yet")
    let question = try #require(try await bob.history())
    try await bob.acknowledge([question])
    _ = try await bob.send(to: [alice.address], body: Array("answer".utf8))
    await watch.round()
    #expect(try files("pending").isEmpty && files("processed") == [name(1)])
    let file = try #require(try files("delivered").first)
    #expect(try String(contentsOfFile: path(file, "delivered"), encoding: .utf8).contains("\"answer\""))
    try FileManager.default.moveItem(atPath: path(file, "delivered"), toPath: path(file, "processed"))
    await watch.round()
    await watch.round()
    #expect(
      events.withLock { $0 } == [
        "out true", "arrived bob@globex.example", "moved processed", "acknowledged",
      ])
    #expect(world.acme.waiting(for: alice.core.account.kid).filter { $0.kind == .envelope }.isEmpty)
  }

  @Test("a node that is away is said to be, and the watch goes on when it is back")
  func trouble() async throws {
    let names = Mutex<[String]>([])
    var watch = SpoolWatch(client: alice, folder: try SpoolFolder(spool, creates: true)) { event in
      if case .trouble(let error) = event { names.withLock { $0.append(error.name) } }
    }
    world.acme.set { $0.isReachable = false }
    await watch.round()
    #expect(names.withLock { !$0.isEmpty && $0.allSatisfy { $0 == "unreachable" } })
    world.acme.set { $0.isReachable = true }
    try write(name(1), message("late"))
    await watch.round()
    #expect(try await texts(bob) == ["late"])
  }
}

/// What became of files of `pending`, in order.
private final class SpoolLog: Sendable {
  private let lines = Mutex<[String]>([])
  var outgoing: [String] { lines.withLock { $0 } }

  func add(_ event: SpoolEvent) {
    guard case .outgoing(let report) = event else { return }
    let line =
      switch report.outcome {
      case .left(let problem): problem.name
      case .alreadySent, .sent: "sent"
      }
    lines.withLock { $0.append(line) }
  }
}

extension EngramClient {
  /// The newest received message that is kept.
  fileprivate func history() async throws -> String? {
    try await search(SearchQuery(), limit: 1).items.first { !$0.isOwn }?.envelopeID
  }
}
