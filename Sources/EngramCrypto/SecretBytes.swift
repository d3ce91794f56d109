internal import CSodium
internal import Glibc
internal import Synchronization

/// A file of secrets that could not be read; `errno` of the call, `EFBIG` when it is too large.
package struct UnreadableSecret: Error, Equatable, Sendable {
  package let errno: Int32
}

/// Secret bytes in guarded, locked memory (`sodium_malloc`): never swapped, wiped when freed, and followed by
/// a guard page. Not copyable, so a secret has one owner and one end.
package struct SecretBytes: ~Copyable, @unchecked Sendable {
  // @unchecked: the memory is written only inside initialisers, and read-only afterwards.
  private let base: UnsafeMutableRawPointer
  package let count: Int
  private let isBrief: Bool

  /// Fills `count` bytes through `body`, the only time they are writable.
  package init(count: Int, filling body: (UnsafeMutableRawBufferPointer) -> Void) {
    Sodium.start()
    guard let memory = sodium_malloc(max(count, 1)) else {
      preconditionFailure("guarded memory is not available (RLIMIT_MEMLOCK)")
    }
    base = memory
    self.count = count
    isBrief = false
    body(UnsafeMutableRawBufferPointer(start: memory, count: count))
    sodium_mprotect_readonly(memory)
  }

  /// For secrets of one message, at most `GuardedSlots.slotBytes`: locked and wiped as others, but a place in
  /// pages that several share. A mapping of its own, with its guard pages, costs as much as a signature.
  package init(brief count: Int, filling body: (UnsafeMutableRawBufferPointer) -> Void) {
    precondition(count <= GuardedSlots.slotBytes, "a brief secret is small")
    base = GuardedSlots.shared.take()
    self.count = count
    isBrief = true
    body(UnsafeMutableRawBufferPointer(start: base, count: count))
  }

  /// Moves bytes in and wipes the source.
  package init(consuming source: inout [UInt8]) {
    self.init(count: source.count) { target in
      source.withUnsafeBytes { target.copyMemory(from: $0) }
    }
    wipe(&source)
  }

  /// Reads a small file straight into guarded memory.
  package static func read(
    path: String, bytesMax: Int = 64 << 10
  ) throws(UnreadableSecret) -> SecretBytes {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw UnreadableSecret(errno: Glibc.errno) }
    defer { close(file) }
    var filled = 0
    var failure: Int32 = 0
    // One byte more than is allowed tells a file that is too large.
    let block = SecretBytes(count: bytesMax + 1) { target in
      while filled < target.count, let base = target.baseAddress {
        let count = Glibc.read(file, base + filled, target.count - filled)
        if count < 0, Glibc.errno == EINTR { continue }
        if count < 0 { failure = Glibc.errno }
        guard count > 0 else { return }
        filled += count
      }
    }
    guard failure == 0 else { throw UnreadableSecret(errno: failure) }
    guard filled <= bytesMax else { throw UnreadableSecret(errno: EFBIG) }
    return block.withUnsafeBytes { source in
      SecretBytes(count: filled) {
        $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<filled]))
      }
    }
  }

  package static func random(_ count: Int) -> SecretBytes {
    SecretBytes(count: count) { randombytes_buf($0.sodiumBytes, $0.count) }
  }

  package func copy() -> SecretBytes {
    SecretBytes(count: count) { $0.copyMemory(from: UnsafeRawBufferPointer(start: base, count: count)) }
  }

  package borrowing func withUnsafeBytes<R: ~Copyable>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows
    -> R
  {
    try body(UnsafeRawBufferPointer(start: base, count: count))
  }

  deinit {
    if isBrief { GuardedSlots.shared.give(base) } else { sodium_free(base) }
  }
}

/// Small pieces of guarded memory that are used again and again. What was given back is wiped at once.
final class GuardedSlots: Sendable {
  static let shared = GuardedSlots()
  /// The largest brief secret is what a wrap holds.
  static let slotBytes = 128
  private static let slotsPerSlab = 64

  // @unchecked: a piece belongs to the list or to the one who took it, never to both.
  private struct Slot: @unchecked Sendable {
    let start: UnsafeMutableRawPointer
  }

  private let free = Mutex<[Slot]>([])

  func take() -> UnsafeMutableRawPointer {
    let slot = free.withLock { free in
      if let slot = free.popLast() { return slot }
      Sodium.start()
      // Never freed: there are as many slabs as there were secrets of messages at the same time.
      guard let slab = sodium_malloc(Self.slotBytes * Self.slotsPerSlab) else {
        preconditionFailure("guarded memory is not available (RLIMIT_MEMLOCK)")
      }
      free = (1..<Self.slotsPerSlab).map { Slot(start: slab + $0 * Self.slotBytes) }
      return Slot(start: slab)
    }
    return slot.start
  }

  func give(_ start: UnsafeMutableRawPointer) {
    sodium_memzero(start, Self.slotBytes)
    let slot = Slot(start: start)
    free.withLock { $0.append(slot) }
  }
}

/// Overwrites an array in place; for the few moments in which a secret passes through one.
package func wipe(_ bytes: inout [UInt8]) {
  bytes.withUnsafeMutableBytes { if let base = $0.baseAddress { sodium_memzero(base, $0.count) } }
}
