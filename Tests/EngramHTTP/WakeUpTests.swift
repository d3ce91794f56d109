import Testing

@testable import EngramHTTP

@Suite("a long poll is woken")
struct WakeUpTests {
  @Test("by what rang before it waited, once")
  func before() async {
    let wakeUp = WakeUp()
    wakeUp.ring()
    wakeUp.ring()
    await wakeUp.wait()
    async let second: Void = wakeUp.wait()
    wakeUp.ring()
    await second
  }

  @Test("by whichever of many rings first")
  func many() async {
    let wakeUp = WakeUp()
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await wakeUp.wait() }
      for _ in 0..<50 { group.addTask { wakeUp.ring() } }
    }
  }

  @Test("a budget gives out no more than it has")
  func budget() {
    let budget = ByteBudget(bytes: 10)
    #expect(budget.take(6))
    #expect(!budget.take(5))
    #expect(budget.take(4))
    budget.give(6)
    #expect(budget.take(5))
  }
}
