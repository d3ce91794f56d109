import EngramCore
import EngramWire
import Foundation
import NIOCore
import NIOPosix
import Synchronization

/// `WorkTraffic` with its event loop, for code that runs elsewhere.
struct WorkLoop: Sendable {
  let loop: any EventLoop
  private let box: NIOLoopBoundBox<WorkTraffic?>

  init(_ plan: WorkTraffic.Plan, on loop: any EventLoop) async throws {
    let box = NIOLoopBoundBox.makeEmptyBox(valueType: WorkTraffic.self, eventLoop: loop)
    (self.loop, self.box) = (loop, box)
    try await loop.submit { box.value = WorkTraffic(plan) }.get()
  }

  func on<T: Sendable>(_ body: @escaping @Sendable (WorkTraffic) -> T) async throws -> T {
    try await loop.submit { [box] in
      guard let traffic = box.value else { throw BenchError("traffic has not begun") }
      return body(traffic)
    }.get()
  }

  // MARK: - Connections

  /// Numbers of senders, and of consumers, count from 0 in the order in which they are opened.
  func openSender(
    _ number: Int, _ node: Organisation, _ device: Device, _ session: String, takesReceipts: Bool = true
  ) async throws -> WebSocketConnection {
    let link = try await openLink(node, device, session, loop) { [box] in
      box.value?.received($0, sender: number)
    }
    try await on { $0.add(sender: link, takesReceipts: takesReceipts) }
    return link
  }

  func openConsumer(
    _ number: Int, _ node: Organisation, _ device: Device, _ session: String, book: Int = 0, prefetch: Int
  ) async throws -> WebSocketConnection {
    let link = try await openLink(node, device, session, loop) { [box] in
      box.value?.received($0, consumer: number)
    }
    try await on { $0.add(consumer: link, book: book, prefetch: prefetch) }
    return link
  }

  /// A connection that will be both, under the same number; `add` both when all are open.
  func openBoth(
    _ number: Int, _ node: Organisation, _ device: Device, _ session: String
  ) async throws -> WebSocketConnection {
    try await openLink(node, device, session, loop) { [box] in
      box.value?.received($0, sender: number, consumer: number)
    }
  }

  // MARK: - Waiting

  func counters() async throws -> WorkCounters { try await on { $0.counters } }

  /// Asks every 5 ms, for `seconds` at most, and ends at once when something went wrong.
  func wait(_ what: String, seconds: Double = 60, _ condition: @escaping @Sendable (WorkTraffic) -> Bool)
    async throws
  {
    let deadline = monotonicNs() + UInt64(seconds * 1e9)
    while try await !on(condition) {
      let counters = try await counters()
      try judge(counters)
      guard monotonicNs() < deadline else {
        throw BenchError("waited \(decimal(seconds, 0)) s in vain until \(what): \(counters)")
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  func judge(_ counters: WorkCounters) throws {
    guard counters.refused == 0, counters.malformedFrames == 0 else {
      throw BenchError(
        "\(counters.refused) sends or settlements refused, \(counters.malformedFrames) frames malformed, "
          + "last code \(counters.lastCode)")
    }
    guard counters.doubles == 0 else { throw BenchError("\(counters.doubles) messages came twice") }
    guard counters.misordered == 0 else {
      throw BenchError("\(counters.misordered) messages came out of the order of priority")
    }
  }

  /// Nothing was lost, nothing came twice, nothing out of order, and what came last is genuine: message n of
  /// `senders[n % senders.count]`.
  func check(_ numbers: Range<Int>, senders: [Device], home: Organisation) async throws {
    try judge(try await counters())
    let missing = try await on { $0.incomplete(numbers) }
    guard missing == 0 else { throw BenchError("\(missing) messages have not had all their deliveries") }
    let (outcomes, items) = try await on { ($0.lastOutcomes, $0.lastItems) }
    if outcomes.readableBytes > 0 { try checkReceipt(outcomes, senders, home) }
    try checkLease(items, senders)
  }

  private func checkReceipt(_ frame: ByteBuffer, _ senders: [Device], _ home: Organisation) throws {
    guard case .outcomes(_, let outcomes) = try RealtimeFrame(parsing: Array(frame.readableBytesView)[...]),
      let bytes = outcomes.last?.receipt
    else { throw BenchError("no outcomes came") }
    try SampleCheck.accepted(bytes, by: home, from: senders)
  }

  private func checkLease(_ frame: ByteBuffer, _ senders: [Device]) throws {
    guard case .items(let items) = try RealtimeFrame(parsing: Array(frame.readableBytesView)[...]),
      let item = items.last(where: { $0.kind == .leased })
    else { throw BenchError("no leased messages came") }
    let lease = try LeasedEnvelope(parsing: item.payload[...])
    try SampleCheck.genuine(lease.envelope, from: senders)
    guard lease.token > 0, lease.attempt == 1 else { throw BenchError("a lease is not a first attempt") }
  }
}

/// Set once, from any thread.
final class StopSign: Sendable {
  private let value = Atomic(false)
  var isSet: Bool { value.load(ordering: .acquiring) }
  func set() { value.store(true, ordering: .releasing) }
}

/// Calls `body` with 0, 1, … at a constant rate from `startNs` on, from a thread of its own, whatever becomes
/// of the calls.
/// - Returns: how many calls were made before `stop` was set.
func pace(
  _ count: Int, startNs: UInt64, intervalNs: UInt64, stop: StopSign = StopSign(),
  _ body: @escaping @Sendable (Int) -> Void
) async -> Int {
  await withCheckedContinuation { continuation in
    let thread = Thread {
      var made = 0
      while made < count {
        let due = startNs + UInt64(made) * intervalNs
        if due > monotonicNs() { sleepUntil(ns: due) }
        if stop.isSet { break }
        body(made)
        made += 1
      }
      continuation.resume(returning: made)
    }
    thread.start()
  }
}

func sleep(untilNs: UInt64) async throws {
  let now = monotonicNs()
  if untilNs > now { try await Task.sleep(for: .nanoseconds(Int64(untilNs - now))) }
}
