internal import EngramCore

/// Received messages, one by one; cancel the task that reads it to end it.
public struct MessageStream: AsyncSequence, Sendable {
  public typealias Element = ReceivedMessage
  let client: EngramClient

  public func makeAsyncIterator() -> Iterator { Iterator(follower: Follower(client)) }

  public struct Iterator: AsyncIteratorProtocol {
    let follower: Follower

    public mutating func next() async throws -> ReceivedMessage? { try await follower.next() }
  }
}

/// Keeps one live connection and what it brought. Ends with its last reference.
final class Follower: Sendable {
  private let queue = MessageQueue()
  private let task: Task<Void, Never>

  init(_ client: EngramClient) {
    task = Task { [queue] in await LiveReader(client: client, queue: queue).run() }
  }

  deinit { task.cancel() }

  func next() async throws -> ReceivedMessage? {
    try await withTaskCancellationHandler {
      try await queue.next()
    } onCancel: {
      task.cancel()
      Task { await queue.finish(nil) }
    }
  }
}

/// Messages between the connection and the reader. Bounded by credit: the node sends no more than was
/// granted.
actor MessageQueue {
  private var messages: [ReceivedMessage] = []
  private var first = 0
  private var reader: CheckedContinuation<ReceivedMessage?, any Error>?
  private var isFinished = false
  private var failure: EngramError?
  private var onTaken: (@Sendable (Int) -> Void)?

  /// `body` hears how many messages were taken, one call per message.
  func whenTaken(_ body: (@Sendable (Int) -> Void)?) { onTaken = body }

  func add(_ new: [ReceivedMessage]) {
    messages += new
    guard let waiting = reader, first < messages.count else { return }
    reader = nil
    waiting.resume(returning: take())
  }

  func next() async throws -> ReceivedMessage? {
    if first < messages.count { return take() }
    if let failure { throw failure }
    if isFinished { return nil }
    return try await withCheckedThrowingContinuation { continuation in
      // A second reader would have no message of its own to wait for.
      reader?.resume(returning: nil)
      reader = continuation
    }
  }

  func finish(_ error: EngramError?) {
    guard !isFinished else { return }
    (isFinished, failure) = (true, error)
    let waiting = reader
    reader = nil
    if let error { waiting?.resume(throwing: error) } else { waiting?.resume(returning: nil) }
  }

  private func take() -> ReceivedMessage {
    defer {
      first += 1
      if first == messages.count { (messages, first) = ([], 0) }
      onTaken?(1)
    }
    return messages[first]
  }
}
