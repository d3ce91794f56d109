import EngramCore

/// A number of a query, in the one spelling it has: digits, no sign, no zeros in front.
func queryNumber<T: FixedWidthInteger>(_ text: Substring) throws(Problem) -> T {
  guard let number = T(text), number >= 0, "\(number)" == text else { throw Problem(.malformed) }
  return number
}

/// How many are wanted: at least one; more than there may be is lowered to that.
func queryCount(_ text: Substring, max: Int) throws(Problem) -> Int {
  let count: Int = try queryNumber(text)
  guard count > 0 else { throw Problem(.malformed) }
  return min(count, max)
}
