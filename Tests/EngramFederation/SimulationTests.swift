import EngramCore
import EngramFederation
import Testing

@Suite("Two nodes in bad weather")
struct SimulationTests {
  @Test("every message takes effect exactly once, and none that was acknowledged is lost", arguments: 1...30)
  func exactlyOnce(seed: UInt64) throws {
    let simulation = try Simulation(seed: seed)
    simulation.run(steps: 1_500)
    #expect(simulation.isDone)
    #expect(simulation.sent.count > 50)
    #expect(simulation.violations.isEmpty)
    #expect(simulation.receiptViolations.isEmpty)
    #expect(simulation.rollbackReports == 0, "nobody was rolled back")
    // Honest machines never accuse each other.
    #expect(simulation.ends.isEmpty)
  }

  @Test("the same storms deliver twice when the receiver does not deduplicate: the test can fail")
  func control() throws {
    var violations = 0
    var cuts = 0
    for seed in 1...20 as ClosedRange<UInt64> {
      let simulation = try Simulation(seed: seed, deduplicates: false)
      simulation.run(steps: 1_500)
      violations += simulation.violations.count
      cuts += simulation.cuts
    }
    #expect(cuts > 50)
    #expect(violations > 10)
  }
}
