import EngramCore
import EngramFederation
import NIOCore
import NIOEmbedded
import Testing

@Suite("Frames on the wire")
struct FrameCodecTests {
  private func decode(_ chunks: [[UInt8]]) throws -> [LinkFrame] {
    let channel = EmbeddedChannel(handler: ByteToMessageHandler(FrameDecoder()))
    var frames: [LinkFrame] = []
    for chunk in chunks {
      try channel.writeInbound(ByteBuffer(bytes: chunk))
      while let frame = try channel.readInbound(as: LinkFrame.self) { frames.append(frame) }
    }
    _ = try? channel.finish()
    return frames
  }

  @Test("frames survive any cutting of the stream")
  func cutting() throws {
    let frames: [(FrameType, [UInt8])] = [
      (.ping, []), (.deliver, [1, 2, 3]), (.goodbye, Array(repeating: 4, count: 300)),
    ]
    let bytes = frames.flatMap { type, payload in
      Array(encodeFrame(type, payload, allocator: ByteBufferAllocator()).readableBytesView)
    }
    let expected = frames.map { LinkFrame(type: $0.0.rawValue, payload: $0.1[...]) }
    #expect(try decode([bytes]) == expected)
    #expect(try decode(bytes.map { [$0] }) == expected)
  }

  @Test("a length over the bound is refused before anything behind it arrives")
  func tooLarge() throws {
    #expect(throws: FrameError.tooLarge(limitBytes: Limits.frameBytesMax)) { try decode([[0, 16, 0, 1]]) }
    #expect(try decode([[0, 16, 0, 0]]).isEmpty, "the control: exactly the bound may come")
  }

  @Test("a frame without a type is refused")
  func empty() throws {
    #expect(throws: FrameError.empty) { try decode([[0, 0, 0, 0]]) }
  }
}

@Suite("Backoff")
struct BackoffTests {
  @Test("the bound doubles up to the cap and starts over after a success")
  func bounds() {
    var backoff = Backoff(minMs: 200, maxMs: 60_000)
    var bounds: [UInt64] = []
    for _ in 0..<12 {
      bounds.append(backoff.boundMs)
      _ = backoff.next(random: 0)
    }
    #expect(bounds == [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000, 60_000])
    backoff.reset()
    #expect(backoff.boundMs == 200)
  }

  @Test("a wait lies between 1 and the bound, and never overflows")
  func jitter() {
    var backoff = Backoff(minMs: 200, maxMs: 60_000)
    #expect(backoff.next(random: 0) == 1)
    #expect(backoff.next(random: 399) == 400)
    for _ in 0..<200 { #expect((1...60_000).contains(backoff.next(random: .max))) }
  }
}
