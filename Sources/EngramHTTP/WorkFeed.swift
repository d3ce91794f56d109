import EngramCore
import EngramNode
import NIOCore
import NIOPosix

/// Pushes leased work to one realtime connection, from its `consume` on. Decides when to fetch: there may be
/// work, the socket takes bytes, and no fetch is on its way. What may be in the client's hands is the node's
/// to bound, by the prefetch. Lives on the connection's event loop.
struct WorkFeed {
  /// nil until the node has made it.
  private(set) var consumer: Consumer?
  private var hasWork = true
  private var isReading = false
  private var isWritable: Bool

  init(isWritable: Bool) { self.isWritable = isWritable }

  mutating func begin(_ consumer: Consumer) { self.consumer = consumer }
  mutating func noteWork() { hasWork = true }
  mutating func setWritable(_ value: Bool) { isWritable = value }

  /// The consumer to fetch from now, if any.
  mutating func nextFetch() -> Consumer? {
    guard hasWork, !isReading, isWritable, let consumer else { return nil }
    (hasWork, isReading) = (false, true)
    return consumer
  }

  /// A fetch that found something is followed by another, since a bound may have ended it.
  mutating func finishFetch(foundSome: Bool) {
    isReading = false
    if foundSome { hasWork = true }
  }
}

/// What a fetch brought, with the encoded frame, made on the pool's thread too.
struct FetchedWork: Sendable {
  let count: Int
  let known: KnownSenders
  let frame: ByteBuffer
}

func fetchWork(_ consumer: Consumer, known: KnownSenders) -> Result<FetchedWork, ErrorCode> {
  var known = known
  do throws(ErrorCode) {
    let items = try consumer.take(
      maxCount: HTTPLimits.itemsPerReadMax, maxBytes: HTTPLimits.itemsBytesMax, knownSenders: &known)
    let frame = items.isEmpty ? ByteBuffer() : ByteBuffer(bytes: RealtimeFrame.items(items).encoded())
    return .success(FetchedWork(count: items.count, known: known, frame: frame))
  } catch { return .failure(error) }
}
