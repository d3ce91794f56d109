import EngramClientStore
import EngramCore
import Foundation
import Synchronization
import Testing

@testable import EngramClient

@Suite("Spools")
struct SpoolTests: SpoolTesting {
  let fixture: SpoolFixture

  init() async throws { fixture = try await SpoolFixture() }

  @Test("what waits is sent, urgent first, then old, and leaves; a second import sends nothing")
  func importing() async throws {
    try write(name(3, priority: 1), message("low"))
    try write(name(2), message("second"))
    try write(name(1), message("first"))
    try write(
      name(9, priority: 5), message("at once", more: #", "type": "TASK_REQUEST", "labels": {"a": "b"}"#))
    let (summary, _) = try await run()
    #expect(summary.sent == 4 && summary.left == 0)
    let received = try await bob.receive()
    #expect(
      received.map { String(decoding: $0.body, as: UTF8.self) } == ["at once", "first", "second", "low"])
    #expect(
      received[0].type == "TASK_REQUEST" && received[0].priority == "CRITICAL"
        && received[0].labels == ["a": "b"])
    #expect(received[1].messageID == "00000000000040008000000000000001", "the UUID is the message id")
    #expect(try files("pending").isEmpty && files("imported").count == 4)

    for file in try files("imported") {
      try FileManager.default.moveItem(atPath: path(file, "imported"), toPath: path(file))
    }
    let again = try await run(keepsFiles: true)
    #expect(again.summary.sent == 0 && again.summary.alreadySent == 4)
    #expect(try files("pending").count == 4)
    #expect(try await bob.receive().isEmpty)
    #expect(world.acme.state.withLock { $0.posted.count } == 4)
  }

  @Test("a rehearsal sends nothing and moves nothing")
  func rehearsal() async throws {
    try write(name(1), message("x"))
    try write("readme.txt", "x")
    try write(name(2), message("x", more: #", "type": "SHOUT""#))
    let (summary, outcomes) = try await run(isRehearsal: true)
    #expect(summary.sent == 1 && summary.left == 2 && outcomes[name(1)] == "sent")
    #expect(try files("pending").count == 3)
    #expect(world.acme.state.withLock { $0.posted.isEmpty })
    #expect(try await run().summary.sent == 1, "the control")
  }

  @Test("whatever is not a file of a spool is named and left, and the others are sent all the same")
  func hostileFiles() async throws {
    let secret = world.folder + "/secret"
    try message("secret").write(toFile: secret, atomically: true, encoding: .utf8)
    try FileManager.default.createSymbolicLink(atPath: path(name(1)), withDestinationPath: secret)
    #expect(link(secret, path(name(2))) == 0)
    #expect(mkfifo(path(name(3)), 0o600) == 0)
    #expect(mkdir(path(name(4)), 0o700) == 0)
    try write("p2_1_passwd.json", message("x"))
    try write(name(5), message("x", more: #", "colour": 1"#))
    try write(name(6), message("x", more: #", "id": "\#(UUID().uuidString)""#))
    try write(name(7), message("x", more: #", "priority": 5"#))
    try write(name(8), message("x", more: #", "body_base64": "AA==""#))
    try write(name(9), message("x", more: #", "type": "SHOUT""#))
    try write(name(10), message("x", more: #", "expires": 1000"#))
    try write(name(11), message("x", more: #", "from": "bob@globex.example""#))
    try write(name(12), #"{"to": "nobody", "body": "x"}"#)
    try write(name(13), #"{"to": "nobody@globex.example", "body": "x"}"#)
    try Data([0x7B, 0xFF, 0x7D]).write(to: URL(filePath: path(name(14))))
    let large = open(path(name(15)), O_WRONLY | O_CREAT, 0o600)
    #expect(ftruncate(large, off_t(SpoolLimits.fileBytesMax) + 1) == 0)
    close(large)
    let nameless = Array(path("p2_1_").utf8CString.dropLast()) + [CChar(bitPattern: 0xFF), 0]
    close(open(nameless, O_WRONLY | O_CREAT, 0o600))
    try write(name(16), message("good"))
    try write(".p2_half-written.json", "{")

    let (summary, outcomes) = try await run()
    #expect(
      outcomes == [
        name(1): "spool-not-a-file", name(2): "spool-not-a-file", name(3): "spool-not-a-file",
        name(4): "spool-not-a-file", "p2_1_passwd.json": "spool-name", name(5): "spool-unknown-key",
        name(6): "spool-contradiction", name(7): "spool-contradiction", name(8): "spool-bad-value",
        name(9): "bad-type", name(10): "expired", name(11): "spool-bad-value", name(12): "bad-address",
        name(13): "unknown-recipient", name(14): "spool-not-utf8", name(15): "spool-too-large",
        "?": "spool-not-utf8", name(16): "sent",
      ])
    #expect(summary.sent == 1 && summary.left == 17)
    #expect(try await texts(bob) == ["good"])
    #expect(try files("imported") == [name(16)])
    for number in 1...15 { #expect(lstatExists(path(name(number))), "\(number) stays") }
    #expect(try String(contentsOfFile: secret, encoding: .utf8) == message("secret"))
  }

  private func lstatExists(_ path: String) -> Bool {
    var info = stat()
    return lstat(path, &info) == 0
  }

  @Test("a folder that is a symbolic link, and one that is no spool, are refused whole")
  func badFolders() async throws {
    try FileManager.default.moveItem(atPath: spool + "/pending", toPath: world.folder + "/elsewhere")
    try FileManager.default.createSymbolicLink(
      atPath: spool + "/pending", withDestinationPath: world.folder + "/elsewhere")
    let error = await #expect(throws: EngramError.self) { try await run() }
    #expect(error?.name == "spool-folder")
    let none = await #expect(throws: EngramError.self) {
      try await alice.importSpool(world.folder + "/alice")
    }
    #expect(none?.name == "spool-folder")
  }

  @Test("a message that the node refused is said to be so, and stays, however often it is met")
  func refusedByNode() async throws {
    try write(name(1), message("x"))
    world.acme.set { $0.refusal = .noRoute }
    for _ in 1...2 { #expect(try await run().outcomes[name(1)] == "no-route") }
    #expect(try files("pending") == [name(1)])
  }

  @Test("an import that lost its connection goes on where it was")
  func interrupted() async throws {
    for number in 1...3 { try write(name(number), message("\(number)")) }
    world.acme.set { $0.answersToLose = 100 }
    _ = try? await run(keepsFiles: true)
    world.acme.set { $0.answersToLose = 0 }
    let client = try world.reopen("alice", at: world.acme)
    _ = try await run(with: client)
    try await client.resendOutbox()
    #expect(try await texts(bob) == ["1", "2", "3"])
    #expect(try files("pending").isEmpty)
  }

  @Test("the same message id sends once and tells what became of it; one that is none is refused")
  func messageID() async throws {
    var options = SendOptions()
    options.messageID = String(repeating: "ab", count: 16)
    let first = try await alice.send(to: [bob.address], body: [1], options: options)
    let second = try await alice.send(to: [bob.address], body: [1], options: options)
    #expect(first.state == .accepted && second.state == .accepted && first.envelopeID == second.envelopeID)
    #expect(first.messageID == options.messageID)
    let reused = await #expect(throws: EngramError.self) {
      try await alice.send(to: [bob.address], body: [2], options: options)
    }
    #expect(reused?.code == 304, "other words would be lost without one")
    let message = OutgoingMessage(to: [bob.address], body: [1], options: options)
    #expect(try await alice.sendBatch([message, message]).allSatisfy { $0.envelopeID == first.envelopeID })
    #expect(try await bob.receive().map(\.body) == [[1]])
    options.messageID = String(repeating: "cd", count: 16)
    let other = OutgoingMessage(to: [bob.address], body: [4], options: options)
    _ = try await alice.sendBatch([other, other])
    #expect(try await bob.receive().map(\.body) == [[4]], "twice in one batch is once, too")
    for bad in ["", "ab", String(repeating: "z", count: 32)] {
      options.messageID = bad
      let error = await #expect(throws: EngramError.self) {
        try await alice.send(to: [bob.address], body: [5], options: options)
      }
      #expect(error?.name == "bad-message-id")
    }
  }
}
