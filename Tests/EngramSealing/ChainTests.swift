import EngramCore
import EngramCrypto
import EngramSealing
import TestSupport
import Testing

@Suite("Chains of one pair of devices")
struct ChainTests {
  /// What a recipient's store keeps: place → (envelope, predecessor that it named).
  struct Record {
    var seen: [UInt64: (id: EnvelopeID, previous: EnvelopeID)] = [:]

    func judge(_ position: ChainPosition, _ id: EnvelopeID) -> ChainVerdict {
      judgeChain(position, id: id, highest: seen.keys.max() ?? 0) { seen[$0] }
    }

    @discardableResult
    mutating func take(_ position: ChainPosition, _ id: EnvelopeID) -> ChainVerdict {
      let verdict = judge(position, id)
      if verdict != .duplicate, verdict != .fork { seen[position.seq] = (id, position.previous) }
      return verdict
    }
  }

  private func id(_ number: UInt8) -> EnvelopeID {
    EnvelopeID([UInt8](repeating: number, count: 32)) ?? .zero
  }
  private func at(_ seq: UInt64, after previous: EnvelopeID) -> ChainPosition {
    ChainPosition(seq: seq, previous: previous)
  }

  @Test("messages in order are in order, and the same one again is a duplicate")
  func inOrder() {
    var record = Record()
    #expect(record.take(.first, id(1)) == .inOrder)
    #expect(record.take(at(2, after: id(1)), id(2)) == .inOrder)
    #expect(record.take(at(2, after: id(1)), id(2)) == .duplicate)
    #expect(record.take(.first, id(1)) == .duplicate)
  }

  @Test("a dropped message shows as a gap with its numbers, and closes when it comes")
  func gap() {
    var record = Record()
    record.take(.first, id(1))
    #expect(record.take(at(4, after: id(3)), id(4)) == .gap(missing: 2...3))
    #expect(record.take(at(3, after: id(2)), id(3)) == .inOrder)
    #expect(record.take(at(2, after: id(1)), id(2)) == .inOrder)
    #expect(record.take(at(5, after: id(4)), id(5)) == .inOrder)
    var fresh = Record()
    #expect(fresh.take(at(2, after: id(1)), id(2)) == .gap(missing: 1...1))
  }

  @Test("two envelopes in one place are a fork")
  func fork() {
    var record = Record()
    record.take(.first, id(1))
    record.take(at(2, after: id(1)), id(2))
    #expect(record.judge(at(2, after: id(1)), id(9)) == .fork)
    #expect(record.judge(.first, id(9)) == .fork)
  }

  @Test("a predecessor that is not the one seen is a fork, from either side")
  func wrongPredecessor() {
    var record = Record()
    record.take(.first, id(1))
    #expect(record.judge(at(2, after: id(9)), id(2)) == .fork)
    record.take(at(3, after: id(2)), id(3))
    #expect(record.judge(at(2, after: id(1)), id(9)) == .fork, "its successor named another predecessor")
    #expect(record.judge(at(2, after: id(1)), id(2)) == .inOrder, "control: the right one fits")
  }

  @Test("place 0, a first place with a predecessor, and a later one without are refused")
  func malformedPlaces() {
    let record = Record()
    #expect(record.judge(at(0, after: .zero), id(1)) == .fork)
    #expect(record.judge(at(1, after: id(1)), id(2)) == .fork)
    #expect(record.judge(at(2, after: .zero), id(2)) == .fork)
  }

  @Test("the highest place there is does not overflow anything")
  func highestPlace() {
    var record = Record()
    #expect(record.take(at(.max, after: id(1)), id(2)) == .gap(missing: 1...(UInt64.max - 1)))
    #expect(record.take(.first, id(1)) == .inOrder)
    #expect(record.take(at(.max, after: id(1)), id(2)) == .duplicate)
    #expect(record.take(at(.max, after: id(1)), id(3)) == .fork)
  }

  @Test("a replayed envelope opens again, and the chain calls it a duplicate")
  func replay() throws {
    let (alice, bob) = (try TestDevice("alice@acme.example"), try TestDevice("bob@beta.example"))
    let first = try sealText("one", from: alice, to: [bob])
    let second = try sealText("two", from: alice, to: [bob], at: at(2, after: first.id))
    var record = Record()
    for (bytes, verdict) in [
      (first.bytes, ChainVerdict.inOrder), (second.bytes, .inOrder), (first.bytes, .duplicate),
    ] {
      let message = try bob.open(bytes, from: alice)
      #expect(record.take(message.chain, message.id) == verdict)
    }
    let forked = try bob.open(
      sealText("another two", from: alice, to: [bob], at: at(2, after: first.id)).bytes, from: alice)
    #expect(record.judge(forked.chain, forked.id) == .fork)
  }
}
