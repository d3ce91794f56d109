import Testing

/// Run by `make test-powercut`; an ordinary test run leaves it out, since it needs root and a loop device.
@Suite(
  "the power is cut under load", .serialized, .enabled(if: PowerCutRun.Settings.current != nil),
  .timeLimit(.minutes(10)))
struct PowerCutTests {
  @Test("nothing that was acknowledged is lost, and nothing that was taken comes back")
  func full() async throws {
    let tally = try await run("full")
    #expect(tally.acknowledged > 0 && tally.taken > 0, "there was no load")
    #expect(tally.lost == 0 && tally.repeated == 0 && tally.invented == 0 && tally.forgotten == 0)
  }

  @Test("the control: without an fsync for each commit, the same cuts lose acknowledged messages")
  func normal() async throws {
    let tally = try await run("normal")
    #expect(tally.acknowledged > 0, "there was no load")
    #expect(
      tally.lost > 0, "the cuts lose nothing that was not synced: they would not notice a missing fsync")
  }

  private func run(_ mode: String) async throws -> PowerCutRun.Tally {
    let settings = try #require(PowerCutRun.Settings.current)
    let tally = try await PowerCutRun(settings, mode: mode).run()
    print(
      """
      powercut: \(mode): \(settings.rounds) rounds, \(tally.acknowledged) acknowledged, \
      \(tally.taken) taken, \(tally.lost) lost, \(tally.repeated) repeated, \
      \(tally.forgotten) clients forgotten
      """)
    return tally
  }
}
