/// Asks again and again until there is an answer, within a generous bound.
package func eventually<T>(within bound: Duration = .seconds(60), _ answer: () async throws -> T?)
  async rethrows
  -> T?
{
  let deadline = ContinuousClock.now + bound
  repeat {
    if let value = try await answer() { return value }
    try? await Task.sleep(for: .milliseconds(10))
  } while ContinuousClock.now < deadline
  return try await answer()
}

package func eventually(within bound: Duration = .seconds(60), _ holds: () async throws -> Bool)
  async rethrows
  -> Bool
{
  try await eventually(within: bound) { try await holds() ? true : nil } ?? false
}
