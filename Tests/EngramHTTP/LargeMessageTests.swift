import EngramCore
import EngramSealing
import TestSupport
import Testing

@testable import EngramHTTP

/// One connection is one stream of bytes (RFC 9112, and RFC 6455 section 5.4: messages are not interleaved),
/// so what stands behind a large message on the same connection waits. On any other it does not.
@Suite("large messages over TLS")
struct LargeMessageTests {
  private enum Way: CaseIterable {
    case post, realtime
  }

  /// Sizes of what waits for bob, by number.
  private func arrived(_ edge: TestEdge, _ bob: TestDevice) async throws -> [Int] {
    let bearer = try await edge.session(bob)
    var (sizes, after) = ([Int](), UInt64(0))
    while true {
      let answer = try await edge.once(
        .get("/api/v1/agents/\(bob.address)/messages?after=\(after)", bearer: bearer))
      let items = answer.status == 200 ? try MailboxItem.decode(answer.body[...]) : []
      guard let last = items.map(\.seq).max(), last > after else { return sizes }
      sizes += items.filter { $0.kind == .envelope }.map(\.payload.count)
      after = last
    }
  }

  private func post(_ envelope: [UInt8], from alice: TestDevice, _ edge: TestEdge) async throws -> RawRequest
  {
    .post(
      "/api/v1/agents/\(alice.address)/messages", "application/vnd.engram.envelopes",
      fields { $0.field(envelope) }, bearer: try await edge.session(alice))
  }

  /// A data frame whose mask changes nothing.
  private func frame(opcode: UInt8, fin: Bool, _ payload: ArraySlice<UInt8>) -> [UInt8] {
    let length = withUnsafeBytes(of: UInt64(payload.count).bigEndian) { Array($0) }
    return [(fin ? 0x80 : 0) | opcode, 0xff] + length + [0, 0, 0, 0] + payload
  }

  @Test(
    "a small message passes a large one of the same device that is still coming in", arguments: Way.allCases)
  private func comingIn(way: Way) async throws {
    try await withEdge { edge in
      let alice = try await edge.enrol("alice@acme.example")
      let bob = try await edge.enrol("bob@acme.example")
      let text = String(repeating: "0123456789", count: 1_000_000)
      let large = try sealText(text, from: alice, to: [bob]).bytes
      let small = try sealText("small", from: alice, to: [bob]).bytes
      let socket = try await RawWebSocket.open(edge, alice.address, bearer: try await edge.session(alice))
      let whole: [UInt8]
      switch way {
      case .post: whole = try await post(large, from: alice, edge).bytes
      case .realtime:
        let message = RealtimeFrame.send(request: 1, envelopes: [large[...]]).encoded()
        let half = message.count / 2
        whole =
          frame(opcode: 2, fin: false, message[..<half]) + frame(opcode: 0, fin: true, message[half...])
      }
      let connection = way == .post ? try await edge.connect() : socket.connection
      try await connection.send(Array(whole[..<(whole.count * 3 / 4)]))
      #expect(try await edge.once(post(small, from: alice, edge)).status == 200)
      #expect(try await arrived(edge, bob) == [small.count])
      try await connection.send(Array(whole[(whole.count * 3 / 4)...]))
      switch way {
      case .post: #expect(try await connection.response().status == 200)
      case .realtime:
        guard case .outcomes(_, let outcomes) = try await socket.realtime() else { throw RawError.malformed }
        #expect(outcomes.map(\.outcome) == [.accepted])
      }
      // The control: what is sent when all of it is there comes behind it.
      let last = try sealText("last", from: alice, to: [bob]).bytes
      #expect(try await edge.once(post(last, from: alice, edge)).status == 200)
      #expect(try await arrived(edge, bob) == [small.count, large.count, last.count])
    }
  }
}
