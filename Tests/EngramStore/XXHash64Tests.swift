import Testing

@testable import EngramStore

@Suite("XXH64")
struct XXHash64Tests {
  private func hash(_ bytes: [UInt8], seed: UInt64 = 0) -> UInt64 {
    bytes.withUnsafeBytes { xxHash64($0, seed: seed) }
  }

  @Test(
    "the published values come out, below and above a stripe of 32 bytes",
    arguments: [
      ("", 0xef46_db37_51d8_e999), ("a", 0xd24e_c4f1_a98c_6e5b), ("abc", 0x44bc_2cf5_ad77_0999),
      ("The quick brown fox jumps over the lazy dog", 0x0b24_2d36_1fda_71bc),
    ] as [(String, UInt64)])
  func vectors(text: String, expected: UInt64) { #expect(hash(Array(text.utf8)) == expected) }

  @Test("every single flipped bit changes the value, at every length and alignment of the end")
  func flips() {
    for length in [1, 3, 4, 7, 8, 31, 32, 33, 63, 100] {
      let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37) }
      let whole = hash(bytes, seed: 1)
      #expect(hash(bytes, seed: 1) == whole, "the control: the same bytes, the same value")
      #expect(hash(bytes, seed: 2) != whole)
      for bit in 0..<(8 * length) {
        var flipped = bytes
        flipped[bit / 8] ^= 1 << (bit % 8)
        #expect(hash(flipped, seed: 1) != whole)
      }
    }
  }
}
