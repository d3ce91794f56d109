/// Fencing tokens: `epoch u32 | counter u32`. The epoch is stored and raised at every start, so tokens grow for
/// as long as the node exists. When the counter has used half its range the next epoch is reserved in the
/// store, and taken over when the counter is used up.
struct LeaseTokens: Equatable, Sendable {
  private(set) var epoch: UInt32
  private var counter: UInt32 = 0
  private var reserved: UInt32?

  /// - Parameter epoch: stored, and greater than every one that was stored before.
  init(epoch: UInt32) { self.epoch = epoch }

  /// For tests: continues at a given counter.
  init(epoch: UInt32, counter: UInt32) { (self.epoch, self.counter) = (epoch, counter) }

  /// nil when every token of the epoch is used and no further epoch was reserved: better no lease than one
  /// whose token was seen before.
  mutating func next() -> UInt64? {
    if counter == .max {
      guard let reserved else { return nil }
      (epoch, counter, self.reserved) = (reserved, 0, nil)
    }
    counter += 1
    return UInt64(epoch) << 32 | UInt64(counter)
  }

  /// The epoch to be stored now, if any.
  var wanted: UInt32? {
    reserved == nil && counter >= UInt32.max / 2 && epoch < .max ? epoch + 1 : nil
  }

  mutating func reserve(_ epoch: UInt32) {
    if epoch > self.epoch { reserved = epoch }
  }
}
