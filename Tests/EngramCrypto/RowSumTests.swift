import EngramCore
import Testing

@testable import EngramCrypto

private enum Row {}

@Suite("Sums of rows")
struct RowSumTests {
  private func sum(_ bytes: [UInt8], key: (UInt64, UInt64) = (1, 0)) -> Identifier16<Row> {
    bytes.withUnsafeBytes { rowSum($0, key: key) }
  }

  @Test("the reference values of SipHash-2-4-128 come out")
  func vectors() {
    // Key 00…0f; the values for the empty input and for one zero byte, from the authors' vectors.h.
    let key: (UInt64, UInt64) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
    #expect(sum([], key: key).description == "a3817f04ba25a8e66df67214c7550293")
    #expect(sum([0], key: key).description == "da87c1d86b99af44347659119b22fc45")
  }

  @Test("every single flipped bit changes the sum, at every length and alignment of the end")
  func flips() {
    for length in [1, 3, 4, 7, 8, 9, 31, 32, 33, 100] {
      let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37) }
      let whole = sum(bytes)
      #expect(sum(bytes) == whole, "the control: the same bytes, the same value")
      #expect(sum(bytes, key: (2, 0)) != whole)
      for bit in 0..<(8 * length) {
        var flipped = bytes
        flipped[bit / 8] ^= 1 << (bit % 8)
        #expect(sum(flipped) != whole)
      }
    }
  }
}
