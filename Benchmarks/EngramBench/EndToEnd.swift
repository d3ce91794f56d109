import Dispatch
import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import NIOCore
import Synchronization

/// Everything that both clients do, with what the nodes do between them: the sender seals and signs while the
/// clock runs and verifies every receipt; the recipient verifies, opens, compares, judges the chain, signs a
/// receipt and acknowledges. Both clients keep their state in memory: what a client's own database costs is
/// not in here.
///
/// A message takes a place in the window until the sender has verified the recipient device's receipt about
/// it.
struct EndToEnd {
  let stage: Stage
  let options: BenchOptions
  let loop: any EventLoop

  func run(batch: Int, window: Int) async throws -> Figures {
    let progress = Progress(window: window)
    let reader = Reader(stage: stage, progress: progress)
    let sealer = try Sealer(stage: stage, progress: progress, bodyBytes: options.bodyBytes, batch: batch)
    let senderLink = try await stage.senderLink(on: loop) { sealer.received($0) }
    let recipientLink = try await stage.recipientLink(on: loop) { reader.received($0) }
    sealer.start(on: senderLink)
    reader.start(on: recipientLink)
    defer { progress.stop() }

    try await Task.sleep(for: .seconds(options.warmup))
    let (first, before) = (MachineSample(pids: stage.pids), progress.counts)
    try await Task.sleep(for: .seconds(options.duration))
    let (last, after) = (MachineSample(pids: stage.pids), progress.counts)
    progress.stop()
    try await waitUntil("every message that was sent has its device's receipt") {
      if let failure = progress.failure { throw BenchError(failure) }
      return progress.counts.sealed == progress.counts.processed
    }
    await senderLink.close()
    await recipientLink.close()
    return figures(first, last, before, after, progress.latencies(from: before.opened, to: after.opened))
  }

  private func figures(
    _ first: MachineSample, _ last: MachineSample, _ before: Progress.Counts, _ after: Progress.Counts,
    _ latencies: [UInt32]
  ) -> Figures {
    var figures = costFigures(first, last, names: stage.names, messages: after.processed - before.processed)
    let seconds = figures["seconds"] ?? .nan
    figures.merge(latencyFigures(latencies)) { $1 }
    figures["accepted_per_s"] = Double(after.accepted - before.accepted) / seconds
    figures["delivered_per_s"] = Double(after.opened - before.opened) / seconds
    figures["admitted_per_s"] = Double(after.admitted - before.admitted) / seconds
    figures["processed_per_s"] = Double(after.processed - before.processed) / seconds
    return figures
  }
}

/// What both sides of an end-to-end run have done, and the window between them.
final class Progress: Sendable {
  struct Counts: Sendable {
    var sealed = 0
    var accepted = 0
    var opened = 0
    var admitted = 0
    var processed = 0
  }

  private struct State {
    var counts = Counts()
    var latencies: [UInt32] = []
    var failure: String?
    var isStopped = false
  }

  private let state = Mutex(State())
  private let room: DispatchSemaphore

  init(window: Int) { room = DispatchSemaphore(value: window) }

  var counts: Counts { state.withLock { $0.counts } }
  var failure: String? { state.withLock { $0.failure } }
  var isStopped: Bool { state.withLock { $0.isStopped } }

  /// µs from before sealing to after opening, of the messages opened in that range.
  func latencies(from first: Int, to last: Int) -> [UInt32] {
    state.withLock { Array($0.latencies[first..<last]) }
  }

  func update(_ body: (inout Counts) -> Void) { state.withLock { body(&$0.counts) } }

  func opened(latenciesMicros: [UInt32]) {
    state.withLock { state in
      state.counts.opened += latenciesMicros.count
      state.latencies += latenciesMicros
    }
  }

  func fail(_ what: String) {
    state.withLock { $0.failure = $0.failure ?? what }
    stop()
  }

  func stop() {
    state.withLock { $0.isStopped = true }
    // Wakes a sealer that waits for room.
    room.signal()
  }

  func takeRoom() { room.wait() }
  /// False when the window is full.
  func takeRoomNow() -> Bool { room.wait(timeout: .now()) == .success }
  func giveRoom(_ count: Int) { for _ in 0..<count { room.signal() } }
}
