import EngramCore
import EngramSealing
import Foundation
import TestSupport

/// Rounds of load, cut, restart and comparison against one node on one disk.
final class PowerCutRun {
  struct Settings {
    var folder: String
    var rounds: Int
    var seed: UInt64

    /// From the environment, which `scripts/powercut` prepares; nil in an ordinary test run.
    static let current: Settings? = {
      let variables = ProcessInfo.processInfo.environment
      guard let folder = variables["ENGRAM_POWERCUT"] else { return nil }
      return Settings(
        folder: folder, rounds: variables["ENGRAM_POWERCUT_ROUNDS"].flatMap(Int.init) ?? 5,
        seed: variables["ENGRAM_POWERCUT_SEED"].flatMap(UInt64.init) ?? 1)
    }()
  }

  struct Tally: Sendable {
    var acknowledged = 0
    var taken = 0
    var lost = 0
    var repeated = 0
    var invented = 0
    /// Clients that had registered and were unknown after the cut.
    var forgotten = 0
  }

  private static let senders = 4
  private static let batch = 8
  /// From the first message to the cut, in milliseconds: after some commits, and before the kernel writes
  /// pages back by itself (5 s for the journal), which would hide a missing fsync.
  private static let cutMs: ClosedRange<UInt64> = 200...2_500

  private let settings: Settings
  private let mode: String
  private let disk: CuttableDisk
  private let node: Organisation
  private let book = LoadBook()
  private var random: SeededGenerator

  /// - Parameter mode: how commits reach the disk: `full`, or `normal`, the control.
  init(_ settings: Settings, mode: String) async throws {
    (self.settings, self.mode) = (settings, mode)
    random = SeededGenerator(seed: settings.seed)
    disk = try await CuttableDisk(in: settings.folder, name: mode, megabytes: 512)
    node = try await Organisation("acme.example", in: disk.mountPoint + "/node")
    // Setting up is not what is tested.
    sync()
  }

  func run() async throws -> Tally {
    var tally = Tally()
    try await start()
    let recipient = try await node.member("recipient")
    _ = try await node.stop()
    for round in 1...settings.rounds { try await self.round(round, recipient, &tally) }
    _ = try await node.stop()
    try await disk.unmount()
    return tally
  }

  private func start() async throws { try await node.start(["--synchronous", mode]) }

  private func round(_ number: Int, _ recipient: Member, _ tally: inout Tally) async throws {
    try await start()
    try await recipient.login()
    let sender = try await node.member("sender-\(number)")
    let before = (book.acknowledgedCount, book.takenCount)
    let cutMs = random.next() % (Self.cutMs.upperBound - Self.cutMs.lowerBound) + Self.cutMs.lowerBound
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<Self.senders { group.addTask { [book] in await Self.send(sender, recipient, book) } }
      group.addTask { [book] in await Self.take(recipient, book) }
      try await Task.sleep(for: .milliseconds(Int(cutMs)))
      try disk.cut()
      // Whatever the node still acknowledges now is a lie, and is to be found out.
      try await Task.sleep(for: .milliseconds(300))
      group.cancelAll()
    }
    let ending = await end()
    let counts = (book.acknowledgedCount - before.0, book.takenCount - before.1)
    try await disk.unmount()
    try await disk.mount()
    let (verdict, isKnown) = try await compare(sender, recipient)
    tally.add(counts, verdict, isKnown)
    print(
      """
      powercut: \(mode) round \(number): cut after \(cutMs) ms, \(counts.0) acknowledged, \(counts.1) taken, \
      \(verdict.lost) lost, \(verdict.repeated) repeated\(isKnown ? "" : ", the new client forgotten"); \
      the node \(ending)
      """)
  }

  /// A node whose disk is gone ends by itself or goes on refusing; either way it is over now.
  private func end() async -> String {
    guard let child = node.running else { return "was not running" }
    let own = await child.end(within: .milliseconds(500))
    child.send(SIGKILL)
    _ = await child.end()
    return own.map { "ended with \($0)" } ?? "refused work until it was killed"
  }

  /// Restarts, empties the mailbox, sends again what had no answer, and empties it again.
  private func compare(_ sender: Member, _ recipient: Member) async throws -> (LoadBook.Verdict, Bool) {
    try await start()
    try await recipient.login()
    var verdict = book.settle(found: try await recipient.drainAll().ids)
    var isKnown = true
    do {
      try await sender.login()
      let unanswered = book.unanswered.map { ($0, $1) }
      for start in stride(from: 0, to: unanswered.count, by: 100) {
        let batch = unanswered[start..<min(start + 100, unanswered.count)]
        _ = book.answered(batch.map(\.0), try await sender.send(batch.map(\.1)))
      }
      let second = book.settle(found: try await recipient.drainAll().ids)
      verdict.lost += second.lost
      verdict.repeated += second.repeated
      verdict.invented += second.invented
    } catch is Unexpected { isKnown = false }
    _ = try await node.stop()
    return (verdict, isKnown)
  }

  // MARK: - Load

  private static func send(_ sender: Member, _ recipient: Member, _ book: LoadBook) async {
    while !Task.isCancelled {
      guard let sealed = try? (0..<batch).map({ _ in try sender.seal("under load", to: [recipient]) }) else {
        return
      }
      book.sending(sealed.map { ($0.id, $0.bytes) })
      guard let outcomes = try? await sender.send(sealed.map(\.bytes)),
        book.answered(sealed.map(\.id), outcomes) > 0
      else { return }
    }
  }

  /// Takes less than what comes, so that every cut finds messages in the mailbox.
  private static func take(_ recipient: Member, _ book: LoadBook) async {
    while !Task.isCancelled {
      guard let items = try? await recipient.items(max: 8, wait: 1), !items.isEmpty else { continue }
      var harvest = Harvest()
      guard (try? harvest.add(items)) != nil else { return }
      book.taking(harvest.ids)
      guard let outcomes = try? await recipient.acknowledge(items) else { return }
      guard outcomes.allSatisfy({ $0.outcome == .accepted }) else { return }
      book.took(harvest.ids)
    }
  }
}

extension PowerCutRun.Tally {
  fileprivate mutating func add(_ counts: (Int, Int), _ verdict: LoadBook.Verdict, _ isKnown: Bool) {
    acknowledged += counts.0
    taken += counts.1
    lost += verdict.lost
    repeated += verdict.repeated
    invented += verdict.invented
    forgotten += isKnown ? 0 : 1
  }
}
