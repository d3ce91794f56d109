import EngramCore
import Testing

@Suite("Settlements and leased items")
struct SettlementTests {
  /// A settlement's fields as they stand on the wire, with whatever values a test wants.
  private func wire(verb: UInt8, delay: UInt32 = 0, code: UInt16 = 0, receipt: [UInt8] = []) -> [UInt8] {
    fields { w in
      w.list {
        $0.field(UInt64(7))
        $0.field(UInt64(1) << 32 | 9)
        $0.field(verb)
        $0.field(delay)
        $0.field(code)
        $0.field(receipt)
      }
    }
  }

  private func verdict(_ bytes: [UInt8]) -> CodecError? {
    do throws(CodecError) {
      return try Settlement.encode(Settlement.decode(bytes[...])) == bytes ? nil : .truncated
    } catch { return error }
  }

  @Test("each verb carries what it needs and nothing else")
  func verbs() throws {
    #expect(verdict(wire(verb: 1, receipt: [1])) == nil)
    #expect(verdict(wire(verb: 1)) == .nonCanonical, "an ack states what was done")
    #expect(verdict(wire(verb: 1, delay: 1, receipt: [1])) == .nonCanonical)
    #expect(verdict(wire(verb: 1, code: 419, receipt: [1])) == .nonCanonical)
    #expect(verdict(wire(verb: 2)) == nil)
    #expect(verdict(wire(verb: 2, delay: .max, code: 419)) == nil)
    #expect(verdict(wire(verb: 2, receipt: [1])) == .nonCanonical)
    #expect(verdict(wire(verb: 3, code: 419)) == nil)
    #expect(verdict(wire(verb: 3, receipt: [1])) == nil)
    #expect(verdict(wire(verb: 3, delay: 1)) == .nonCanonical)
    #expect(verdict(wire(verb: 4)) == nil)
    #expect(verdict(wire(verb: 4, delay: 1)) == .nonCanonical)
    #expect(verdict(wire(verb: 4, code: 419)) == .nonCanonical)
    #expect(verdict(wire(verb: 4, receipt: [1])) == .nonCanonical)
    #expect(verdict(wire(verb: 0)) == .unknownValue)
    #expect(verdict(wire(verb: 5)) == .unknownValue)
    #expect(verdict(wire(verb: 2, code: 999)) == .unknownValue)
    let backoff = try Settlement.decode(wire(verb: 2, delay: .max)[...])
    #expect(backoff == [Settlement(seq: 7, token: 1 << 32 | 9, .nack(delayMs: nil, code: .none))])
  }

  @Test("a batch of settlements is bounded as every batch is")
  func bounds() throws {
    let one = Settlement(seq: 1, token: 2, .renew)
    let most = Settlement.encode([Settlement](repeating: one, count: Limits.envelopesPerBatchMax))
    #expect(try Settlement.decode(most[...]).count == Limits.envelopesPerBatchMax)
    #expect(throws: CodecError.tooLarge) { try Settlement.decode((most + Settlement.encode([one]))[...]) }
    let long = [UInt8](repeating: 0, count: Limits.receiptBytesMax + 1)
    #expect(verdict(wire(verb: 1, receipt: long)) == .tooLarge)
  }

  @Test("the largest envelope fits into a leased item")
  func largest() throws {
    let envelope = [UInt8](repeating: 5, count: Limits.envelopeBytesMax)
    let leased = LeasedEnvelope(token: 1, attempt: 1, leaseMs: 30_000, envelope: envelope)
    let item = MailboxItem(kind: .leased, seq: 1, payload: leased.encoded())
    let again = try MailboxItem.decode(MailboxItem.encode([item])[...])
    #expect(try LeasedEnvelope(parsing: again[0].payload[...]) == leased)
    let over = LeasedEnvelope(token: 1, attempt: 1, leaseMs: 0, envelope: envelope + [5]).encoded()
    #expect(throws: CodecError.tooLarge) { try LeasedEnvelope(parsing: over[...]) }
  }

  @Test("a consumer asks for at least one message and for a lease of one second to twelve hours, or none")
  func consume() {
    func problem(_ prefetch: UInt32, _ visibilityMs: UInt32) -> ErrorCode {
      ConsumeRequest(prefetch: prefetch, visibilityMs: visibilityMs).problem
    }
    #expect(problem(1, 0) == .none)
    #expect(problem(1_000, 43_200_000) == .none)
    #expect(problem(0, 0) == .nonCanonical)
    #expect(problem(1, 999) == .nonCanonical)
    #expect(problem(1_001, 0) == .tooLarge)
    #expect(problem(1, 43_200_001) == .tooLarge)
  }

  @Test("a consume frame with an unknown flag is refused")
  func flags() throws {
    let known = RealtimeFrame.consume(ConsumeRequest(prefetch: 3, countsDisconnects: true)).encoded()
    #expect(
      try RealtimeFrame(parsing: known[...]) == .consume(ConsumeRequest(prefetch: 3, countsDisconnects: true))
    )
    let unknown = known.dropLast() + [2]
    #expect(throws: CodecError.unknownValue) { try RealtimeFrame(parsing: ArraySlice(unknown)) }
  }
}
