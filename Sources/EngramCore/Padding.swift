/// The Padmé length for `count` bytes (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
/// Communication with PURBs", PoPETs 2019, section 4), with a floor of 256: leaks O(log log n) bits of length
/// and adds at most 12 %.
package func paddedLength(of count: Int) -> Int {
  guard count > Limits.paddedBytesMin else { return Limits.paddedBytesMin }
  let exponent = Int.bitWidth - 1 - count.leadingZeroBitCount
  let significant = Int.bitWidth - exponent.leadingZeroBitCount
  let mask = (1 << (exponent - significant)) - 1
  return (count + mask) & ~mask
}

/// True for the lengths that `paddedLength` returns: anything else is a second encoding of the same body.
package func isPaddedLength(_ count: Int) -> Bool {
  count <= Limits.envelopeBytesMax && paddedLength(of: count) == count
}
