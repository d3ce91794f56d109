internal import EngramCore

/// One open WebSocket: matches outcomes to the requests they answer.
actor LiveLink {
  private let socket: RealtimeSocket
  private var lastRequest: UInt32 = 0
  private var pending: [UInt32: CheckedContinuation<[ItemOutcome], any Error>] = [:]
  private var isClosed = false

  init(_ socket: RealtimeSocket) { self.socket = socket }

  nonisolated var messages: AsyncStream<[UInt8]> { socket.messages }

  func acknowledge(_ acks: [MailboxAck]) async throws -> [ItemOutcome] {
    try await request(count: acks.count) { .ack(request: $0, acks: acks) }
  }

  func submit(_ envelopes: [[UInt8]]) async throws -> [ItemOutcome] {
    try await request(count: envelopes.count) { .send(request: $0, envelopes: envelopes.map { $0[...] }) }
  }

  func settle(_ settlements: [Settlement]) async throws -> [ItemOutcome] {
    try await request(count: settlements.count) { .settle(request: $0, settlements: settlements) }
  }

  func consume(_ request: ConsumeRequest) async throws {
    try await socket.send(RealtimeFrame.consume(request).encoded())
  }

  func grant(_ credit: Int) async throws {
    guard credit > 0 else { return }
    try await socket.send(RealtimeFrame.credit(UInt32(credit)).encoded())
  }

  /// An answer came for a request of ours.
  func complete(_ request: UInt32, _ outcomes: [ItemOutcome]) {
    pending.removeValue(forKey: request)?.resume(returning: outcomes)
  }

  /// Ends everything that waits.
  func close() async {
    isClosed = true
    for waiting in pending.values { waiting.resume(throwing: Self.ended) }
    pending.removeAll()
    await socket.close()
  }

  private static var ended: EngramError {
    EngramError(.unreachable, name: "unreachable", "the connection to the node has ended")
  }

  private func request(
    count: Int, _ frame: (UInt32) -> RealtimeFrame
  ) async throws -> [ItemOutcome] {
    guard !isClosed else { throw Self.ended }
    lastRequest &+= 1
    let id = lastRequest
    let bytes = frame(id).encoded()
    let outcomes = try await withCheckedThrowingContinuation { continuation in
      pending[id] = continuation
      Task {
        do { try await socket.send(bytes) } catch { fail(id, error) }
      }
    }
    guard outcomes.count == count else { throw EngramError(.untrusted, .malformed) }
    return outcomes
  }

  private func fail(_ id: UInt32, _ error: any Error) {
    pending.removeValue(forKey: id)?.resume(throwing: error)
  }
}
