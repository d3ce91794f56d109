import Foundation
import NIOCore

struct SeenFrame: Sendable, Equatable {
  var opcode: UInt8
  var payload: [UInt8]
  var wasMasked: Bool
}

/// What the server side of a WebSocket does.
enum WebSocketScript: Sendable {
  /// Ends TCP, without any notice, at the first frame.
  case dropOnMessage
  /// Sends messages back and answers pings and close frames.
  case echo
  /// Messages of that many bytes, the next when the socket took the one before, until all are sent.
  case flood(messages: Int, bytes: Int)
  /// Never answers anything.
  case mute
  /// Writes these bytes right behind the handshake.
  case raw([UInt8])
  /// Shakes hands with a wrong key.
  case wrongKey
}

/// The server side of RFC 6455 by hand, over bytes.
final class WebSocketPeer {
  private let script: WebSocketScript
  private let log: ScriptedServer.Log

  init(_ script: WebSocketScript, _ log: ScriptedServer.Log) {
    self.script = script
    self.log = log
  }

  /// One unmasked frame.
  static func frame(_ opcode: UInt8, _ payload: [UInt8], fin: Bool = true) -> [UInt8] {
    var bytes = ByteBuffer()
    bytes.writeInteger((fin ? 0x80 : 0) | opcode)
    switch payload.count {
    case ..<126: bytes.writeInteger(UInt8(payload.count))
    case ..<65536:
      bytes.writeInteger(UInt8(126))
      bytes.writeInteger(UInt16(payload.count))
    default:
      bytes.writeInteger(UInt8(127))
      bytes.writeInteger(UInt64(payload.count))
    }
    bytes.writeBytes(payload)
    return Array(bytes.readableBytesView)
  }

  static func close(_ code: UInt16, _ reason: String) -> [UInt8] {
    frame(8, [UInt8(code >> 8), UInt8(code & 255)] + Array(reason.utf8))
  }

  func accept(_ context: ChannelHandlerContext, key: String) {
    var proof = SHA1.hash(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
    if case .wrongKey = script { proof[0] ^= 1 }
    let head =
      "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
      + "sec-websocket-accept: \(Data(proof).base64EncodedString())\r\n\r\n"
    var bytes = ByteBuffer(string: head)
    if case .raw(let behind) = script { bytes.writeBytes(behind) }
    context.writeAndFlush(NIOAny(bytes), promise: nil)
    if case .flood(let messages, let size) = script { flood(context, messages, size) }
  }

  private func flood(_ context: ChannelHandlerContext, _ left: Int, _ size: Int) {
    guard left > 0 else { return }
    let bytes = ByteBuffer(bytes: Self.frame(2, [UInt8](repeating: UInt8(left & 255), count: size)))
    context.writeAndFlush(NIOAny(bytes)).assumeIsolated().whenSuccess { [self] in
      log.update { $0.sentBytes += size }
      flood(context, left - 1, size)
    }
  }

  func read(_ context: ChannelHandlerContext, _ input: inout ByteBuffer) {
    while let (frame, isFinal) = Self.nextFrame(&input) {
      log.update { $0.frames.append(frame) }
      if case .dropOnMessage = script { return ScriptHandler.closeWithoutNotice(context) }
      guard case .echo = script else { continue }
      switch frame.opcode {
      case 8:
        context.writeAndFlush(NIOAny(ByteBuffer(bytes: Self.frame(8, frame.payload))), promise: nil)
        context.close(promise: nil)
      case 0, 1, 2:
        let bytes = Self.frame(frame.opcode, frame.payload, fin: isFinal)
        context.writeAndFlush(NIOAny(ByteBuffer(bytes: bytes)), promise: nil)
      case 9:
        context.writeAndFlush(NIOAny(ByteBuffer(bytes: Self.frame(10, frame.payload))), promise: nil)
      default: break
      }
    }
  }

  private static func nextFrame(_ input: inout ByteBuffer) -> (SeenFrame, Bool)? {
    var rest = input
    guard let first = rest.readInteger(as: UInt8.self), let second = rest.readInteger(as: UInt8.self) else {
      return nil
    }
    var length = Int(second & 0x7f)
    if length == 126 {
      guard let long = rest.readInteger(as: UInt16.self) else { return nil }
      length = Int(long)
    } else if length == 127 {
      guard let long = rest.readInteger(as: UInt64.self) else { return nil }
      length = Int(long)
    }
    let isMasked = second & 0x80 != 0
    let mask = isMasked ? rest.readBytes(length: 4) : [0, 0, 0, 0]
    guard let mask, var payload = rest.readBytes(length: length) else { return nil }
    for index in payload.indices { payload[index] ^= mask[index & 3] }
    input = rest
    return (SeenFrame(opcode: first & 15, payload: payload, wasMasked: isMasked), first & 0x80 != 0)
  }
}

/// FIPS 180-4 section 6.1, for the handshake of RFC 6455 alone.
enum SHA1 {
  static func hash(_ message: [UInt8]) -> [UInt8] {
    var state: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]
    var padded = message + [0x80]
    while padded.count % 64 != 56 { padded.append(0) }
    withUnsafeBytes(of: UInt64(message.count * 8).bigEndian) { padded += $0 }
    for start in stride(from: 0, to: padded.count, by: 64) {
      compress(&state, padded[start..<(start + 64)])
    }
    return state.flatMap { word in withUnsafeBytes(of: word.bigEndian) { Array($0) } }
  }

  private static func compress(_ state: inout [UInt32], _ block: ArraySlice<UInt8>) {
    var words = stride(from: block.startIndex, to: block.endIndex, by: 4).map { index in
      block[index..<(index + 4)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    }
    for index in 16..<80 {
      words.append(rotate(words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16], 1))
    }
    var (a, b, c, d, e) = (state[0], state[1], state[2], state[3], state[4])
    for (index, word) in words.enumerated() {
      let (mixed, constant): (UInt32, UInt32) =
        switch index {
        case ..<20: ((b & c) | (~b & d), 0x5a82_7999)
        case ..<40: (b ^ c ^ d, 0x6ed9_eba1)
        case ..<60: ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc)
        default: (b ^ c ^ d, 0xca62_c1d6)
        }
      let next = rotate(a, 5) &+ mixed &+ e &+ constant &+ word
      (e, d, c, b, a) = (d, c, rotate(b, 30), a, next)
    }
    for (index, value) in [a, b, c, d, e].enumerated() { state[index] &+= value }
  }

  private static func rotate(_ word: UInt32, _ bits: UInt32) -> UInt32 {
    word << bits | word >> (32 - bits)
  }
}
