import Foundation
import Synchronization

@testable import EngramClient

/// Two clients that know each other, and an empty spool of the first one.
struct SpoolFixture {
  let world: TestWorld
  let alice: EngramClient
  let bob: EngramClient
  let spool: String

  init() async throws {
    (world, alice, bob) = try await correspondents()
    spool = world.folder + "/spool"
    _ = try SpoolFolder(spool, creates: true)
  }
}

/// A suite about the spool of its fixture.
protocol SpoolTesting {
  var fixture: SpoolFixture { get }
}

extension SpoolTesting {
  var world: TestWorld { fixture.world }
  var alice: EngramClient { fixture.alice }
  var bob: EngramClient { fixture.bob }
  var spool: String { fixture.spool }

  func name(_ number: Int, priority: Int = 2) -> String {
    let digits = String(1_000_000_000_000 + number).dropFirst()
    return "p\(priority)_\(1_767_225_600_000 + number)_00000000-0000-4000-8000-\(digits).json"
  }

  func path(_ file: String, _ state: String = "pending") -> String { "\(spool)/\(state)/\(file)" }

  func write(_ file: String, _ json: String, _ state: String = "pending") throws {
    try json.write(toFile: path(file, state), atomically: false, encoding: .utf8)
  }

  func message(_ text: String, more: String = "") -> String {
    #"{"to": "bob@globex.example", "body": "\#(text)"\#(more)}"#
  }

  func files(_ state: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: spool + "/" + state).sorted()
  }

  /// Imports and returns what was said about each file; one that is not UTF-8 is "?".
  func run(
    keepsFiles: Bool = false, isRehearsal: Bool = false, with client: EngramClient? = nil
  ) async throws -> (summary: SpoolImportSummary, outcomes: [String: String]) {
    let said = Mutex<[String: String]>([:])
    let summary = try await (client ?? alice).importSpool(
      spool, keepsFiles: keepsFiles, isRehearsal: isRehearsal
    ) { report in
      said.withLock {
        $0[report.file ?? "?"] =
          switch report.outcome {
          case .sent: "sent"
          case .alreadySent: "already-sent"
          case .left(let problem): problem.name
          }
      }
    }
    return (summary, said.withLock { $0 })
  }

  func texts(_ client: EngramClient) async throws -> [String] {
    try await client.receive().map { String(decoding: $0.body, as: UTF8.self) }
  }
}
