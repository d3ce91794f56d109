import EngramCore
import EngramNode
import Foundation

/// A WebSocket client by hand (RFC 6455), which can also break every rule.
final class RawWebSocket: Sendable {
  struct Frame: Equatable {
    var opcode: UInt8
    var fin: Bool
    var payload: [UInt8]

    /// Of a close frame.
    var closeCode: Int? { opcode == 8 && payload.count >= 2 ? Int(payload[0]) << 8 | Int(payload[1]) : nil }
  }

  let connection: RawConnection

  private init(_ connection: RawConnection) { self.connection = connection }

  static func request(_ path: String, bearer: String?, version: String = "13") -> RawRequest {
    .get(
      path, bearer: bearer,
      headers: [
        ("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", version),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
      ])
  }

  static func open(_ edge: TestEdge, _ address: Address, bearer: String) async throws -> RawWebSocket {
    let connection = try await edge.connect()
    let response = try await connection.ask(request("/api/v1/agents/\(address)/realtime", bearer: bearer))
    // The answer to the sample nonce in RFC 6455 section 1.3.
    guard response.status == 101, response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    else {
      throw RawError.malformed
    }
    return RawWebSocket(connection)
  }

  func send(
    opcode: UInt8 = 2, fin: Bool = true, _ payload: [UInt8], masked: Bool = true, reserved: UInt8 = 0
  ) async throws {
    var frame: [UInt8] = [(fin ? 0x80 : 0) | reserved | opcode]
    let mask: UInt8 = masked ? 0x80 : 0
    switch payload.count {
    case ..<126: frame.append(mask | UInt8(payload.count))
    case ..<65_536: frame += [mask | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
    default: frame += [mask | 127] + withUnsafeBytes(of: UInt64(payload.count).bigEndian) { Array($0) }
    }
    let key: [UInt8] = [0x1a, 0x2b, 0x3c, 0x4d]
    frame += masked ? key + payload.enumerated().map { $0.element ^ key[$0.offset & 3] } : payload
    try await connection.send(frame)
  }

  func send(_ frame: RealtimeFrame) async throws { try await send(frame.encoded()) }

  func next() async throws -> Frame {
    let head = try await connection.take(2)
    var length = Int(head[1] & 0x7f)
    if length >= 126 {
      length = try await connection.take(length == 126 ? 2 : 8).reduce(0) { $0 << 8 | Int($1) }
    }
    return Frame(
      opcode: head[0] & 15, fin: head[0] & 0x80 != 0, payload: try await connection.take(length))
  }

  func realtime() async throws -> RealtimeFrame {
    let frame = try await next()
    guard frame.opcode == 2 else { throw RawError.malformed }
    return try RealtimeFrame(parsing: frame.payload[...])
  }

  /// The problem and the close code with which the node ends the connection.
  func end() async throws -> (ErrorCode, Int) {
    guard case .problem(let code) = try await realtime(), let close = try await next().closeCode else {
      throw RawError.malformed
    }
    return (code, close)
  }
}
