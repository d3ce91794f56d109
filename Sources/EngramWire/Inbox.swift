internal import NIOCore
internal import Synchronization

/// Messages between the event loop and one asynchronous reader, bounded by telling the event loop when to
/// stop.
final class Inbox: Sendable {
  /// What a queued message costs beside its bytes, so that empty messages are bounded as well.
  private static let messageOverhead = 64

  private struct State {
    var queue = CircularBuffer<[UInt8]>()
    var bytes = 0
    var reader: CheckedContinuation<[UInt8]?, Never>?
    var isFull = false
    var isFinished = false
    var demand: (@Sendable () -> Void)?
  }

  private let state = Mutex(State())
  private let bytesMax: Int

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  /// Sets what is called, on the reader's thread, when a full inbox is half empty again.
  func onDemand(_ call: @escaping @Sendable () -> Void) {
    state.withLock { $0.demand = call }
  }

  /// Adds a message; false when no more should come until demand is called.
  func offer(_ message: [UInt8]) -> Bool {
    let (reader, isFull) = state.withLock { state -> (CheckedContinuation<[UInt8]?, Never>?, Bool) in
      if let reader = state.reader {
        state.reader = nil
        return (reader, false)
      }
      state.queue.append(message)
      state.bytes += message.count + Self.messageOverhead
      state.isFull = state.bytes >= bytesMax
      return (nil, state.isFull)
    }
    reader?.resume(returning: message)
    return !isFull
  }

  /// Ends the messages; those in the queue can still be read.
  func finish() {
    let reader = state.withLock { state in
      state.isFinished = true
      state.demand = nil
      defer { state.reader = nil }
      return state.reader
    }
    reader?.resume(returning: nil)
  }

  /// The next message; `nil` at the end or when the reading task is cancelled.
  func next() async -> [UInt8]? {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let (answer, demand) = state.withLock { Self.take(&$0, continuation, bytesMax) }
        if let answer { continuation.resume(returning: answer.message) }
        demand?()
      }
    } onCancel: {
      let reader = state.withLock { state in
        defer { state.reader = nil }
        return state.reader
      }
      reader?.resume(returning: nil)
    }
  }

  private struct Answer {
    let message: [UInt8]?
  }

  /// What the reader gets at once, if anything, and the demand that its taking caused.
  private static func take(
    _ state: inout State, _ continuation: CheckedContinuation<[UInt8]?, Never>, _ bytesMax: Int
  ) -> (Answer?, (@Sendable () -> Void)?) {
    guard let message = state.queue.popFirst() else {
      // A second reader would lose the first one's place, so it ends at once.
      if state.isFinished || Task.isCancelled || state.reader != nil { return (Answer(message: nil), nil) }
      state.reader = continuation
      return (nil, nil)
    }
    state.bytes -= message.count + messageOverhead
    guard state.isFull && state.bytes <= bytesMax / 2 else { return (Answer(message: message), nil) }
    state.isFull = false
    return (Answer(message: message), state.demand)
  }
}
