internal import CZstd
internal import EngramCore

/// One zstd frame with its content size declared (RFC 8878 section 3.1.1), bounded output.
enum Compression {
  /// The library's default level: 3 is where its speed and ratio curve bends.
  private static let level: Int32 = 3

  static func compress(_ input: [UInt8]) -> [UInt8]? {
    let bound = ZSTD_compressBound(input.count)
    var failed = false
    let output = [UInt8](unsafeUninitializedCapacity: bound) { buffer, count in
      let written = ZSTD_compress(buffer.baseAddress, bound, input, input.count, level)
      failed = ZSTD_isError(written) != 0
      count = failed ? 0 : written
    }
    return failed ? nil : output
  }

  /// nil unless the input is exactly one frame whose declared size is at most `max` and true.
  static func decompress(_ input: [UInt8], max: Int) -> [UInt8]? {
    guard ZSTD_findFrameCompressedSize(input, input.count) == input.count else { return nil }
    let declared = ZSTD_getFrameContentSize(input, input.count)
    guard declared <= UInt64(max) else { return nil }
    var written = 0
    let output = [UInt8](unsafeUninitializedCapacity: Int(declared)) { buffer, count in
      written = ZSTD_decompress(buffer.baseAddress, Int(declared), input, input.count)
      count = ZSTD_isError(written) == 0 ? written : 0
    }
    return output.count == Int(declared) && ZSTD_isError(written) == 0 ? output : nil
  }
}
