import EngramCore
import EngramCrypto
import EngramSealing
import EngramWire
import Foundation
import TestSupport
import Testing

/// A file system of a few megabytes, where the data directory goes. Needs root.
private final class SmallDisk {
  let path: String
  private let ballast: String

  /// nil when this user may not mount.
  init?(at path: String, megabytes: Int) async throws {
    (self.path, ballast) = (path, path + "/ballast")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    guard geteuid() == 0 else { return nil }
    let mounted = try await runTool(
      "/usr/bin/mount", ["-t", "tmpfs", "-o", "size=\(megabytes)m,mode=0700", "none", path])
    guard mounted.succeeded else { return nil }
  }

  /// Goes away once nobody uses it any more.
  func detach() { umount2(path, Int32(MNT_DETACH)) }

  /// Leaves so many bytes free, down to the last block.
  func fill(leavingBytes: UInt64) throws {
    _ = FileManager.default.createFile(atPath: ballast, contents: nil)
    let file = try #require(FileHandle(forWritingAtPath: ballast))
    defer { try? file.close() }
    var block = 1 << 20
    while block >= 4_096, freeBytes > leavingBytes {
      do { try file.write(contentsOf: Data(count: block)) } catch { block /= 2 }
    }
  }

  private var freeBytes: UInt64 {
    var status = statvfs()
    return statvfs(path, &status) == 0 ? UInt64(status.f_bavail) * UInt64(status.f_frsize) : 0
  }

  func free() throws { try FileManager.default.removeItem(atPath: ballast) }
}

@Suite("the disk is full", .serialized, .timeLimit(.minutes(5)))
struct DiskFullScenarios {
  /// Somebody else fills the disk at once, or the node does so itself, with its log and database at their largest.
  @Test(
    "new work is refused, reads and drains go on, and what was acknowledged is there afterwards",
    arguments: [0, 40])
  func fullDisk(megabytesLeft: Int) async throws {
    let directory = try TemporaryDirectory()
    guard let disk = try await SmallDisk(at: directory.file("node/data"), megabytes: 128) else {
      // Nothing to assert without the right to mount; the run says so.
      print("note: the disk-full scenario needs root, to mount a small tmpfs; it was not run")
      return
    }
    defer { disk.detach() }
    let acme = try await Organisation("acme.example", in: directory.file("node"))
    try await acme.start()
    let (planner, analyst) = (try await acme.member("planner"), try await acme.member("analyst"))
    let early = try (0..<20).map { try planner.seal("early \($0)", to: [analyst]) }
    #expect(try await planner.send(early.map(\.bytes)).allSatisfy { $0.outcome == .accepted })

    try disk.fill(leavingBytes: UInt64(megabytesLeft) << 20)
    let (accepted, refusal) = try await sendUntilRefused(planner, to: analyst)
    #expect(refusal.outcome == .later && refusal.code == .storageFull, "\(refusal)")
    let ready = try await HTTPClient(endpoint: acme.endpoint).send(WireRequest("GET", "/readyz"))
    #expect(ready.status == 503)

    // Reads go on, and what was read can be acknowledged: that is how space comes back without an operator.
    let kept = Set((early + accepted).map(\.id))
    var harvest = Harvest()
    try harvest.add(try await analyst.items(max: 10))
    #expect(!harvest.ids.isEmpty)
    let drained = try await analyst.drain(within: .seconds(20)) { $0.ids.count >= kept.count }
    #expect(Set(drained.ids) == kept && drained.ids.count == kept.count)

    try disk.free()
    let late = try planner.seal("late", to: [analyst])
    let outcome = try await eventually { try await planner.send(late.bytes).outcome != .later }
    #expect(outcome, "the node did not recover")
    let rest = try await analyst.drain { $0.ids.contains(late.id) }
    #expect(rest.ids == [late.id])
    let again = try await HTTPClient(endpoint: acme.endpoint).send(WireRequest("GET", "/readyz"))
    #expect(again.status == 200)
    _ = try await acme.stop()
  }

  /// Fills what the log may still overwrite, up to the first refusal.
  private func sendUntilRefused(
    _ sender: Member, to recipient: Member
  ) async throws -> ([SealedEnvelope], ItemOutcome) {
    let text = String(repeating: "x", count: 60_000)
    var accepted: [SealedEnvelope] = []
    for _ in 0..<2_000 {
      let sealed = try sender.seal(text, to: [recipient])
      let outcome = try await sender.send(sealed.bytes)
      guard outcome.outcome == .accepted else { return (accepted, outcome) }
      accepted.append(sealed)
    }
    throw Unexpected("the disk did not fill up")
  }
}
