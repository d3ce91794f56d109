package import EngramCore
package import NIOCore

/// Bytes that cannot be a frame of this protocol; nothing after them can be understood.
package enum FrameError: Error, Equatable, Sendable {
  /// A frame holds at least its type.
  case empty
  case tooLarge(limitBytes: Int)

  package var code: ErrorCode { self == .empty ? .malformed : .tooLarge }
}

/// Cuts the stream into frames, `length u32 | type u8 | payload`. The length is judged as soon as its four
/// bytes are there, before anything is buffered for it.
package struct FrameDecoder: NIOSingleStepByteToMessageDecoder {
  package typealias InboundOut = LinkFrame

  package init() {}

  package mutating func decode(buffer: inout ByteBuffer) throws -> LinkFrame? {
    guard let field = buffer.getInteger(at: buffer.readerIndex, as: UInt32.self) else { return nil }
    let length = Int(field)
    guard length > 0 else { throw FrameError.empty }
    guard length <= Limits.frameBytesMax else { throw FrameError.tooLarge(limitBytes: Limits.frameBytesMax) }
    guard buffer.readableBytes >= 4 + length else { return nil }
    buffer.moveReaderIndex(forwardBy: 4)
    guard let type = buffer.readInteger(as: UInt8.self), let payload = buffer.readBytes(length: length - 1)
    else {
      return nil
    }
    return LinkFrame(type: type, payload: payload[...])
  }

  /// A frame that the end of the stream cut is no frame.
  package mutating func decodeLast(buffer: inout ByteBuffer, seenEOF: Bool) throws -> LinkFrame? {
    try decode(buffer: &buffer)
  }
}

/// `length u32 | type u8 | payload`
package func encodeFrame(_ type: FrameType, _ payload: [UInt8], allocator: ByteBufferAllocator) -> ByteBuffer
{
  var buffer = allocator.buffer(capacity: payload.count + 5)
  buffer.writeInteger(UInt32(payload.count + 1))
  buffer.writeInteger(type.rawValue)
  buffer.writeBytes(payload)
  return buffer
}
