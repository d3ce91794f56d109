import EngramCore
import EngramCrypto
import EngramNode
import NIOCore
import NIOPosix

/// The node's completions as async calls.
extension Edge {
  func openSession(_ token: String) async -> Result<SessionGrant, ErrorCode> {
    await withCheckedContinuation { continuation in
      node.openSession(token: token) { continuation.resume(returning: $0) }
    }
  }

  func register(_ request: [UInt8]) async -> Result<[UInt8], ErrorCode> {
    await withCheckedContinuation { continuation in
      node.register(request) { continuation.resume(returning: $0) }
    }
  }

  func directoryAnswer(_ address: Address) async -> Result<[UInt8], ErrorCode> {
    await withCheckedContinuation { continuation in
      node.directoryAnswer(address) { continuation.resume(returning: $0) }
    }
  }

  /// On the thread pool: each acknowledgement of an envelope costs a signature check.
  func acknowledge(_ acks: [MailboxAck], _ session: ClientSession) async -> [ItemOutcome] {
    await withCheckedContinuation { continuation in
      blocking.submit { [node] state in
        guard state == .active else {
          return continuation.resume(returning: acks.map { _ in ItemOutcome(.later, code: .shuttingDown) })
        }
        node.acknowledge(acks, session) { continuation.resume(returning: $0) }
      }
    }
  }

  /// Verifies on the event loops, then accepts in one commit.
  func accept(
    _ envelopes: [ArraySlice<UInt8>], from session: ClientSession, on loop: any EventLoop
  ) async -> [ItemOutcome] {
    await withCheckedContinuation { continuation in
      lanes.verify(envelopes, from: .client(session), on: loop) { [node] verdicts in
        node.accept(verdicts, from: session) { continuation.resume(returning: $0) }
      }
    }
  }

  /// Reads a mailbox on the thread pool. Senders' certificates are included.
  func items(
    _ session: ClientSession, after: UInt64, maxCount: Int
  ) async -> Result<[MailboxItem], ErrorCode> {
    await withCheckedContinuation { continuation in
      blocking.submit { [node] state in
        guard state == .active else { return continuation.resume(returning: .failure(.shuttingDown)) }
        var known = KnownSenders()
        let result: Result<[MailboxItem], ErrorCode>
        do throws(ErrorCode) {
          result = .success(
            try node.items(
              session, after: after, maxCount: maxCount, maxBytes: HTTPLimits.itemsBytesMax,
              knownSenders: &known))
        } catch { result = .failure(error) }
        continuation.resume(returning: result)
      }
    }
  }
}
