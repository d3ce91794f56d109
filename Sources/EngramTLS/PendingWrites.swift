internal import NIOCore

/// Plaintext on its way to the records: what was written, and how far it was flushed.
///
/// Sealing costs per record, so small flushed writes share one: 1 KiB messages become about five times as
/// cheap as with one record each.
struct PendingWrites {
  private var queue = MarkedCircularBuffer<(ByteBuffer, EventLoopPromise<Void>?)>(initialCapacity: 2)
  /// Everything written and not yet taken.
  private(set) var bytes = 0
  /// The part of `bytes` that was flushed.
  private(set) var flushedBytes = 0

  var hasFlushed: Bool { queue.hasMark }

  mutating func append(_ buffer: ByteBuffer, promise: EventLoopPromise<Void>?) {
    bytes += buffer.readableBytes
    queue.append((buffer, promise))
  }

  mutating func markFlushed() {
    queue.mark()
    flushedBytes = bytes
  }

  /// The next flushed plaintext in order: one large write, or several small ones that fit one record
  /// together.
  mutating func next(allocator: ByteBufferAllocator) -> (ByteBuffer, EventLoopPromise<Void>?)? {
    guard let first = popFlushed() else { return nil }
    guard fitsBehind(first.0.readableBytes) else { return first }
    let capacity = min(TLSSizes.recordPayloadMax, first.0.readableBytes + bytes)
    var packed = allocator.buffer(capacity: capacity)
    var promise = first.1
    packed.writeImmutableBuffer(first.0)
    while fitsBehind(packed.readableBytes), let (buffer, other) = popFlushed() {
      packed.writeImmutableBuffer(buffer)
      promise.setOrCascade(to: other)
    }
    return (packed, promise)
  }

  /// Drops everything and returns its promises, in order, for the caller to fail.
  mutating func takeAll() -> [EventLoopPromise<Void>?] {
    defer {
      queue = MarkedCircularBuffer(initialCapacity: 2)
      bytes = 0
      flushedBytes = 0
    }
    return queue.map { $0.1 }
  }

  private func fitsBehind(_ length: Int) -> Bool {
    guard queue.hasMark, let following = queue.first else { return false }
    return length + following.0.readableBytes <= TLSSizes.recordPayloadMax
  }

  private mutating func popFlushed() -> (ByteBuffer, EventLoopPromise<Void>?)? {
    guard queue.hasMark, let first = queue.popFirst() else { return nil }
    bytes -= first.0.readableBytes
    flushedBytes -= first.0.readableBytes
    return first
  }
}
