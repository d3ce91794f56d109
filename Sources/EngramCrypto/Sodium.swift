internal import CSodium

/// Starts libsodium once per process. Every entry into the library that needs randomness or CPU dispatch goes
/// through a type that touched this first.
package enum Sodium {
  private static let started: Bool = sodium_init() >= 0

  /// Must be called before any other use; cheap afterwards.
  package static func start() {
    precondition(started, "libsodium could not be initialised")
  }
}

/// Fills `count` bytes from the operating system's generator.
package func randomBytes(_ count: Int) -> [UInt8] {
  Sodium.start()
  return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
    if let base = buffer.baseAddress { randombytes_buf(base, count) }
    filled = count
  }
}

/// Compares secrets of equal length without an early exit.
package func constantTimeEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
  a.count == b.count && sodium_memcmp(a, b, a.count) == 0
}

extension UnsafeRawBufferPointer {
  /// The address as libsodium wants it. An empty buffer has none, and libsodium's headers forbid a null
  /// pointer even for length 0, so those get a dummy that is never read.
  var sodiumBytes: UnsafePointer<UInt8> {
    bindMemory(to: UInt8.self).baseAddress ?? UnsafePointer(emptyInput)
  }
}

extension UnsafeMutableRawBufferPointer {
  var sodiumBytes: UnsafeMutablePointer<UInt8> { bindMemory(to: UInt8.self).baseAddress ?? emptyInput }
}

// Written never, read never: it only gives an empty input an address.
private nonisolated(unsafe) let emptyInput = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)
