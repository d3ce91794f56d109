import Foundation
import Synchronization

package enum TestTime {
  /// 2026-01-01T00:00:00Z in milliseconds: where every test starts unless it says otherwise.
  package static let startMs: UInt64 = 1_767_225_600_000
  package static let minuteMs: UInt64 = 60_000
  package static let hourMs: UInt64 = 60 * minuteMs
  package static let dayMs: UInt64 = 24 * hourMs
}

/// A clock that stands still until a test turns it. Offers what `EngramNode.Clock` asks for; a test target
/// that needs the conformance declares it in one line.
package final class ManualClock: Sendable {
  private let now: Mutex<UInt64>
  package init(_ startMs: UInt64 = TestTime.startMs) { now = Mutex(startMs) }
  package func nowMs() -> UInt64 { now.withLock { $0 } }
  package func advance(ms: UInt64) { now.withLock { $0 += ms } }
  package func set(ms: UInt64) { now.withLock { $0 = ms } }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same seed gives the same test, on every machine.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64
  package init(seed: UInt64) { state = seed }

  /// A seed from a name (FNV-1a, 64 bits), so that "alice@acme.example" always has the same keys.
  package init(name: String) {
    state = name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  package mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}

/// A shared source of seeded bytes; offers what `EngramNode.RandomSource` asks for.
package final class SeededRandom: Sendable {
  private let generator: Mutex<SeededGenerator>
  package init(seed: UInt64 = 1) { generator = Mutex(SeededGenerator(seed: seed)) }
  package func bytes(_ count: Int) -> [UInt8] { generator.withLock { $0.bytes(count) } }
}

/// A directory that goes away with its owner.
package final class TemporaryDirectory: Sendable {
  package let path: String

  package init() throws {
    path =
      FileManager.default.temporaryDirectory
      .appendingPathComponent("engram-test-\(UUID().uuidString.lowercased())").path
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
  }

  package func file(_ name: String) -> String { "\(path)/\(name)" }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
