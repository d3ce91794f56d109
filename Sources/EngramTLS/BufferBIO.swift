internal import COpenSSL
internal import NIOCore

/// The transport that OpenSSL sees: reads take from `inbound`, writes append to `outbound`, nothing blocks.
///
/// Both buffers hold no storage while they are empty, which is what keeps idle connections small.
final class BufferBIO {
  private(set) var inbound = ByteBuffer()
  private(set) var outbound = ByteBuffer()

  /// A BIO over this object, for `SSL_set_bio` to own; it borrows `self`, which must outlive it.
  func makeBIO() -> OpaquePointer? {
    guard let method = Self.method, let bio = BIO_new(method) else { return nil }
    BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
    return bio
  }

  /// Adds ciphertext from the channel.
  func receive(_ bytes: ByteBuffer) {
    if inbound.readableBytes == 0 {
      inbound = bytes
    } else {
      inbound.writeImmutableBuffer(bytes)
    }
  }

  /// Ciphertext for the channel; empty when there is none.
  func takeOutbound() -> ByteBuffer {
    defer { outbound = ByteBuffer() }
    return outbound
  }

  /// Makes room once for what is about to be sealed; growing by doubling costs as much as sealing.
  func reserveOutbound(_ bytes: Int) {
    outbound.reserveCapacity(minimumWritableBytes: bytes)
  }

  /// Gives the storage of a consumed input back.
  func releaseInbound() {
    if inbound.readableBytes == 0 { inbound = ByteBuffer() }
  }

  private func read(into target: UnsafeMutablePointer<CChar>, count: Int) -> Int {
    let taken = min(count, inbound.readableBytes)
    inbound.readWithUnsafeReadableBytes { source in
      if let base = source.baseAddress {
        UnsafeMutableRawPointer(target).copyMemory(from: base, byteCount: taken)
      }
      return taken
    }
    return taken
  }

  private func write(_ bytes: UnsafeRawBufferPointer) {
    outbound.writeBytes(bytes)
  }

  // Written once before its first use and only read afterwards; OpenSSL treats methods as constants.
  private nonisolated(unsafe) static let method: OpaquePointer? = {
    guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "byte buffers") else {
      return nil
    }
    BIO_meth_set_create(method) { bio in
      BIO_set_init(bio, 1)
      return 1
    }
    BIO_meth_set_destroy(method) { _ in 1 }
    BIO_meth_set_write(method) { bio, bytes, count in
      BufferBIO.behind(bio).write(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
      return count
    }
    BIO_meth_set_read(method) { bio, target, count in
      eng_BIO_clear_retry_flags(bio)
      guard let target, count > 0 else { return 0 }
      let taken = BufferBIO.behind(bio).read(into: target, count: Int(count))
      if taken > 0 { return Int32(taken) }
      eng_BIO_set_retry_read(bio)
      return -1
    }
    BIO_meth_set_ctrl(method) { bio, command, _, _ in
      switch command {
      case BIO_CTRL_FLUSH: 1
      case BIO_CTRL_PENDING: BufferBIO.behind(bio).inbound.readableBytes
      default: 0
      }
    }
    return method
  }()

  private static func behind(_ bio: OpaquePointer?) -> BufferBIO {
    Unmanaged<BufferBIO>.fromOpaque(BIO_get_data(bio)).takeUnretainedValue()
  }
}
