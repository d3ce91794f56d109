internal import EngramClientStore
internal import EngramCore
internal import Synchronization

/// The connection that settlements travel over, if there is one.
final class LinkSlot: Sendable {
  private let slot = Mutex<LiveLink?>(nil)
  var link: LiveLink? {
    get { slot.withLock { $0 } }
    set { slot.withLock { $0 = newValue } }
  }
}

/// What is written here about the end of leased messages, many in one transaction.
enum WordStep: Sendable {
  /// Signs and keeps this device's word, unless there is one already.
  case sign(EnvelopeID, ReceiptState, ErrorCode)
  /// The node has the word.
  case settled(EnvelopeID, receipt: [UInt8])
  /// The node did not take it.
  case revoked(EnvelopeID, receipt: [UInt8])
}

/// A device's signed word about a message.
struct SignedWord: Sendable {
  let receipt: [UInt8]
  /// Signed for whoever asked now, and not by another consumer of this home before.
  let isOurs: Bool
}

extension ClientCore {
  /// - Returns: per step the word that stands; nil where there is none to be had.
  func write(_ steps: [WordStep]) async throws -> [SignedWord?] {
    let inbound = Inbound(account: account, device: device, credentials: credentials, nowMs: nowMs())
    return try await commit { rows in
      try steps.map { step in
        switch step {
        case .sign(let id, let state, let code):
          guard let row = try rows.unfinished(id) else {
            return try rows.inboxState(id)?.receipt.map { SignedWord(receipt: $0, isOurs: false) }
          }
          let receipt = inbound.sign(state, code, id, row.sender, row.senderKid, row.messageID)
          try rows.completeLeased(id, receipt: receipt)
          return SignedWord(receipt: receipt, isOurs: true)
        case .settled(let id, let receipt):
          try rows.settleLeased(id, receipt: receipt)
          return nil
        case .revoked(let id, let receipt):
          try rows.revokeLeased(id, receipt: receipt)
          return nil
        }
      }
    }
  }
}
