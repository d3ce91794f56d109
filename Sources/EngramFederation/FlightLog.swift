import EngramCore

/// Sent and not yet answered rows.
struct FlightLog: Sendable {
  struct Flight: Sendable {
    let bytes: Int
    let sender: Kid
    let isLarge: Bool
  }

  private var flights: [UInt64: Flight] = [:]
  /// Of those that fit into a frame.
  private(set) var byteCount = 0
  /// Of those that went in parts.
  private(set) var largeByteCount = 0

  var count: Int { flights.count }

  mutating func append(seq: UInt64, _ flight: Flight) {
    flights[seq] = flight
    add(flight, 1)
  }

  /// The sender's device; nil when the row is not on its way.
  mutating func answer(_ seq: UInt64) -> Kid? {
    guard let flight = flights.removeValue(forKey: seq) else { return nil }
    add(flight, -1)
    return flight.sender
  }

  private mutating func add(_ flight: Flight, _ sign: Int) {
    if flight.isLarge { largeByteCount += sign * flight.bytes } else { byteCount += sign * flight.bytes }
  }
}
