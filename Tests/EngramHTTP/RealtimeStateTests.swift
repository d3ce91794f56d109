import EngramCore
import NIOCore
import NIOWebSocket
import Testing

@testable import EngramHTTP

@Suite("pushing within credit")
struct PushWindowTests {
  private func items(_ seqs: UInt64..., certificate: Bool = false) -> [MailboxItem] {
    (certificate ? [MailboxItem(kind: .certificate, seq: 0, payload: [])] : [])
      + seqs.map { MailboxItem(kind: .envelope, seq: $0, payload: []) }
  }

  @Test("nothing is read without credit, and exactly the credit with it")
  func credit() {
    var window = PushWindow()
    #expect(window.nextRead() == nil)
    window.grant(3)
    #expect(window.nextRead() == .init(after: 0, maxCount: 3))
    window.finishRead(items(4, 9))
    #expect(window.nextRead() == .init(after: 9, maxCount: 1))
    window.finishRead(items(10))
    #expect(window.nextRead() == nil)
    window.grant(1)
    #expect(window.nextRead() == .init(after: 10, maxCount: 1))
  }

  @Test("certificates cost no credit")
  func certificates() {
    var window = PushWindow()
    window.grant(2)
    _ = window.nextRead()
    window.finishRead(items(1, certificate: true))
    #expect(window.credit == 1)
  }

  @Test("one read at a time; work that comes meanwhile leads to another")
  func oneAtATime() {
    var window = PushWindow()
    window.grant(10)
    #expect(window.nextRead() != nil)
    window.noteWork()
    #expect(window.nextRead() == nil)
    window.finishRead([])
    #expect(window.nextRead() == .init(after: 0, maxCount: 10))
    window.finishRead([])
    #expect(window.nextRead() == nil)
  }

  @Test("nothing is read while the socket takes no bytes")
  func writability() {
    var window = PushWindow()
    window.grant(1)
    window.setWritable(false)
    #expect(window.nextRead() == nil)
    window.setWritable(true)
    #expect(window.nextRead() != nil)
  }

  @Test("credit stops growing instead of running over")
  func saturation() {
    var window = PushWindow()
    for _ in 0..<3 { window.grant(.max) }
    #expect(window.credit == HTTPLimits.creditMax)
  }
}

@Suite("sends keep their order")
struct SendLineTests {
  @Test("a verdict that comes early waits for those before it")
  func order() {
    var line = SendLine<String>()
    let tickets = (0..<4).map { line.add(request: UInt32($0), bytes: Int($0)) }
    #expect(line.finish(tickets[2], "c").isEmpty)
    #expect(line.finish(tickets[0], "a").map(\.request) == [0])
    #expect(line.finish(tickets[1], "b").map(\.verdict) == ["b", "c"])
    let late = line.add(request: 9, bytes: 0)
    #expect(line.finish(late, "e").isEmpty)
    #expect(line.finish(tickets[3], "d").map(\.request) == [3, 9])
  }
}

@Suite("fragments of a message")
struct MessageAssemblyTests {
  @Test("a mask comes off as RFC 6455 section 5.3 says, whatever the length")
  func unmasking() {
    for length in 0..<40 {
      var data = ByteBuffer(bytes: (0..<(length + 3)).map { UInt8(truncatingIfNeeded: $0 &* 7) })
      data.moveReaderIndex(forwardBy: 3)
      let frame = WebSocketFrame(fin: true, opcode: .binary, maskKey: [1, 2, 3, 250], data: data)
      #expect(frame.payload == frame.unmaskedData)
      // Control: the mask changes something.
      #expect(length == 0 || frame.payload != data)
    }
  }

  private func frame(_ opcode: WebSocketOpcode, _ text: String, fin: Bool) -> WebSocketFrame {
    WebSocketFrame(fin: fin, opcode: opcode, data: ByteBuffer(string: text))
  }

  @Test("are put together, and a whole message passes as it is")
  func assembly() {
    var assembly = MessageAssembly(bytesMax: 6, fragmentsMax: 3)
    #expect(assembly.add(frame(.binary, "abcdef", fin: true)) == .message(ByteBuffer(string: "abcdef")))
    #expect(assembly.add(frame(.binary, "ab", fin: false)) == .incomplete)
    #expect(assembly.add(frame(.continuation, "", fin: false)) == .incomplete)
    #expect(assembly.add(frame(.continuation, "cdef", fin: true)) == .message(ByteBuffer(string: "abcdef")))
    #expect(assembly.add(frame(.binary, "x", fin: true)) == .message(ByteBuffer(string: "x")))
  }

  @Test("beyond the size or the number allowed are refused")
  func bounds() {
    var size = MessageAssembly(bytesMax: 3, fragmentsMax: 9)
    #expect(size.add(frame(.binary, "abcd", fin: true)) == .violation(.messageTooLarge))
    #expect(size.add(frame(.binary, "ab", fin: false)) == .incomplete)
    #expect(size.add(frame(.continuation, "cd", fin: true)) == .violation(.messageTooLarge))
    var number = MessageAssembly(bytesMax: 99, fragmentsMax: 2)
    #expect(number.add(frame(.binary, "", fin: false)) == .incomplete)
    #expect(number.add(frame(.continuation, "", fin: false)) == .incomplete)
    #expect(number.add(frame(.continuation, "", fin: true)) == .violation(.messageTooLarge))
  }

  @Test("out of place are a breach of the protocol")
  func misplaced() {
    var assembly = MessageAssembly(bytesMax: 9, fragmentsMax: 9)
    #expect(assembly.add(frame(.continuation, "a", fin: true)) == .violation(.protocolError))
    #expect(assembly.add(frame(.binary, "a", fin: false)) == .incomplete)
    #expect(assembly.add(frame(.binary, "b", fin: true)) == .violation(.protocolError))
  }
}
