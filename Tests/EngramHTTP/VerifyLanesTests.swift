import EngramCore
import EngramCrypto
import EngramNode
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import EngramHTTP

@Suite("verification on the event loops")
struct VerifyLanesTests {
  /// Notes which envelopes were checked on which loop, and refuses each with a code that tells it from the
  /// others.
  private final class Notes: Sendable {
    struct Check {
      let loop: ObjectIdentifier?
      let first: UInt8
    }
    let checks = Mutex<[Check]>([])

    func check(_ bytes: [UInt8]) -> Result<VerifiedEnvelope, ErrorCode> {
      let loop = MultiThreadedEventLoopGroup.currentEventLoop.map { ObjectIdentifier($0) }
      checks.withLock { $0.append(Check(loop: loop, first: bytes[0])) }
      return .failure(ErrorCode.allCases[Int(bytes[0]) % ErrorCode.allCases.count])
    }
  }

  private let source = Source.peer(try! NodeName("globex.example"))

  private func verify(_ lanes: VerifyLanes, count: Int, on loop: any EventLoop) async -> Verdicts {
    await withCheckedContinuation { continuation in
      lanes.verify((0..<count).map { [UInt8($0 % 256)] }, from: source, on: loop) {
        precondition(loop.inEventLoop, "the completion belongs on the caller's loop")
        continuation.resume(returning: $0)
      }
    }
  }

  @Test("verdicts come in the batch's order, on the caller's loop", arguments: [0, 1, 16, 17, 250])
  func order(count: Int) async {
    let notes = Notes()
    let group = MultiThreadedEventLoopGroup.singleton
    let lanes = VerifyLanes(group: group) { bytes, _ in notes.check(bytes) }
    let verdicts = await verify(lanes, count: count, on: group.next())
    let codes = verdicts.map { verdict -> ErrorCode? in
      if case .failure(let code) = verdict { return code }
      return nil
    }
    #expect(codes == (0..<count).map { ErrorCode.allCases[$0 % ErrorCode.allCases.count] })
  }

  @Test("a large batch is shared out over all loops; a small one stays on its own")
  func spreading() async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
    let loops = Array(group.makeIterator())
    let large = Notes()
    _ = await verify(
      VerifyLanes(group: group) { bytes, _ in large.check(bytes) }, count: 64, on: loops[1])
    let byLoop = large.checks.withLock { Dictionary(grouping: $0, by: \.loop).mapValues(\.count) }
    #expect(byLoop == [ObjectIdentifier(loops[0]): 32, ObjectIdentifier(loops[1]): 32])
    let small = Notes()
    _ = await verify(
      VerifyLanes(group: group) { bytes, _ in small.check(bytes) }, count: 16, on: loops[1])
    #expect(small.checks.withLock { $0.allSatisfy { $0.loop == ObjectIdentifier(loops[1]) } })
    try await group.shutdownGracefully()
  }

  @Test("other work of the loop comes between turns")
  func turns() async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = group.next()
    let run = Mutex(0)
    let longest = Mutex(0)
    let lanes = VerifyLanes(group: group) { _, _ in
      let length = run.withLock {
        $0 += 1
        return $0
      }
      longest.withLock { $0 = max($0, length) }
      return .failure(.malformed)
    }
    // A task that is due whenever the loop is free ends a run of checks.
    let interruption = loop.scheduleRepeatedTask(initialDelay: .zero, delay: .nanoseconds(1)) { _ in
      run.withLock { $0 = 0 }
    }
    async let first = verify(lanes, count: 100, on: loop)
    async let second = verify(lanes, count: 100, on: loop)
    _ = await (first, second)
    interruption.cancel()
    #expect(longest.withLock { $0 } <= HTTPLimits.verificationsPerTurn)
    try await group.shutdownGracefully()
  }
}
