import EngramCore
import EngramCrypto
import TestSupport
import Testing

@testable import EngramClient

@Suite("Reading order of a thread")
struct ThreadOrderTests {
  private func id(_ number: UInt8) -> EnvelopeID {
    EnvelopeID([UInt8](repeating: number, count: 32)) ?? .zero
  }
  private func device(_ number: UInt8) -> Kid { Kid([UInt8](repeating: number, count: 16)) ?? .zero }

  private func entry(
    _ number: UInt8, by sender: UInt8, place: UInt64, at ms: UInt64, answers parent: UInt8? = nil
  ) -> ThreadEntry {
    ThreadEntry(
      id: id(number), parent: parent.map(id), senderKid: device(sender), place: place, createdMs: ms)
  }

  private func order(_ entries: [ThreadEntry]) -> [UInt8] {
    threadOrder(entries).map { entries[$0.index].id.bytes[0] }
  }

  @Test("messages of several senders stand by date")
  func byDate() {
    #expect(order([]) == [])
    #expect(
      order([
        entry(1, by: 1, place: 1, at: 30), entry(2, by: 2, place: 1, at: 10),
        entry(3, by: 3, place: 1, at: 20),
      ])
        == [2, 3, 1])
    #expect(
      order([entry(2, by: 2, place: 1, at: 10), entry(1, by: 1, place: 1, at: 10)]) == [1, 2], "then by id")
  }

  @Test("a sender's signed chain stands above its dates")
  func chainAboveDates() {
    let (first, second) = (entry(1, by: 1, place: 4, at: 99), entry(2, by: 1, place: 5, at: 10))
    #expect(order([second, first]) == [1, 2])
    #expect(order([entry(1, by: 1, place: 5, at: 99), second]) == [1, 2], "control: by id where places tie")
    #expect(
      order([entry(1, by: 3, place: 4, at: 99), second]) == [2, 1], "control: another sender's date counts")
  }

  @Test("an answer stands after what it answers, whatever their dates, at its depth")
  func answers() {
    let entries = [
      entry(1, by: 1, place: 1, at: 50), entry(2, by: 2, place: 1, at: 10, answers: 1),
      entry(3, by: 1, place: 2, at: 5, answers: 2), entry(4, by: 3, place: 1, at: 60),
    ]
    let ordered = threadOrder(entries.reversed())
    let reversed = Array(entries.reversed())
    #expect(ordered.map { reversed[$0.index].id.bytes[0] } == [1, 2, 3, 4])
    #expect(ordered.map(\.depth) == [0, 1, 2, 0])
  }

  @Test("an answer to something that is not here stands where its date puts it")
  func missingParent() {
    let entries = [entry(1, by: 1, place: 1, at: 20), entry(2, by: 2, place: 1, at: 10, answers: 9)]
    #expect(order(entries) == [2, 1])
    #expect(threadOrder(entries).map(\.depth) == [0, 0])
  }

  @Test("contradictions are cut by date, and every message is shown once")
  func contradictions() {
    // Its chain says 1 before 2, its parent links 2 before 1; and a message that answers itself.
    let entries = [
      entry(1, by: 1, place: 1, at: 10, answers: 2), entry(2, by: 1, place: 2, at: 20),
      entry(3, by: 2, place: 1, at: 30, answers: 3),
    ]
    #expect(order(entries).sorted() == [1, 2, 3] && order(entries) == [3, 1, 2])
  }

  @Test("the same messages give the same order however they came", arguments: 0..<20)
  func stable(_ seed: Int) {
    var random = SeededGenerator(seed: UInt64(seed) + 1)
    var places: [UInt8: UInt64] = [:]
    let entries = (1...60).map { number in
      let sender = UInt8.random(in: 1...4, using: &random)
      places[sender, default: 0] += 1
      let parent =
        number > 1 && Bool.random(using: &random) ? UInt8.random(in: 1..<UInt8(number), using: &random) : nil
      return entry(
        UInt8(number), by: sender, place: places[sender] ?? 0, at: .random(in: 0...50, using: &random),
        answers: parent)
    }
    let expected = order(entries)
    #expect(expected.sorted() == Array(1...60))
    let position = Dictionary(uniqueKeysWithValues: expected.enumerated().map { ($1, $0) })
    for entry in entries {
      guard let own = position[entry.id.bytes[0]] else { continue }
      if let parent = entry.parent { #expect(position[parent.bytes[0]].map { $0 < own } == true) }
      for other in entries where other.senderKid == entry.senderKid && other.place < entry.place {
        #expect(position[other.id.bytes[0]].map { $0 < own } == true)
      }
    }
    for _ in 0..<3 { #expect(order(entries.shuffled(using: &random)) == expected) }
  }

  @Test("the thread of an answer is its parent's; foreign, cyclic and unknown parents are refused")
  func judgeParents() throws {
    let (own, other): (ThreadID, ThreadID) = (
      try #require(ThreadID(randomBytes(16))), try #require(ThreadID(randomBytes(16)))
    )
    let known: [EnvelopeID: (thread: ThreadID, parent: EnvelopeID?)] = [
      id(1): (own, nil), id(2): (own, id(1)), id(3): (own, id(9)),
      id(4): (own, id(5)), id(5): (own, id(4)), id(6): (own, id(6)),
    ]
    func judge(_ parent: UInt8, _ chosen: ThreadID?) throws -> Result<ThreadID, ErrorCode> {
      try threadOfAnswer(to: id(parent), chosen: chosen) { known[$0] }
    }
    #expect(try judge(2, nil) == .success(own) && judge(2, own) == .success(own))
    #expect(try judge(3, nil) == .success(own), "an ancestor that is not here is no fault")
    #expect(try judge(2, other) == .failure(.parentInvalid), "foreign")
    #expect(
      try judge(4, nil) == .failure(.parentInvalid) && judge(6, own) == .failure(.parentInvalid), "cyclic")
    #expect(try judge(9, nil) == .failure(.parentInvalid), "unknown, and no thread to put it into")
    #expect(try judge(9, other) == .success(other), "expired here, answered all the same")
  }
}
