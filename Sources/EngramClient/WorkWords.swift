internal import EngramClientStore
internal import EngramCore
internal import EngramCrypto
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
      var words = WordBatch(inbound: inbound, count: steps.count)
      for (place, step) in steps.enumerated() { try words.take(step, at: place, in: rows) }
      try words.sign(in: rows)
      return words.answers
    }
  }
}

/// The words of one transaction, signed together.
private struct WordBatch {
  let inbound: Inbound
  private(set) var answers: [SignedWord?]
  private var unsigned: [(place: Int, body: ReceiptBody)] = []
  /// What is said of these is to be signed before anything else is done about them.
  private var waiting: Set<EnvelopeID> = []

  init(inbound: Inbound, count: Int) {
    self.inbound = inbound
    answers = Array(repeating: nil, count: count)
  }

  mutating func take(_ step: WordStep, at place: Int, in rows: ClientTransaction) throws {
    if waiting.contains(step.id) { try sign(in: rows) }
    switch step {
    case .sign(let id, let state, let code):
      if let row = try rows.unfinished(id) {
        let body = inbound.statement(state, code, id, row.sender, row.senderKid, row.messageID)
        unsigned.append((place, body))
        waiting.insert(id)
      } else {
        answers[place] = try rows.inboxState(id)?.receipt.map { SignedWord(receipt: $0, isOurs: false) }
      }
    case .settled(let id, let receipt): try rows.settleLeased(id, receipt: receipt)
    case .revoked(let id, let receipt): try rows.revokeLeased(id, receipt: receipt)
    }
  }

  mutating func sign(in rows: ClientTransaction) throws {
    let receipts = signDeviceReceipts(unsigned.map(\.body), with: inbound.device)
    for (word, receipt) in zip(unsigned, receipts) {
      try rows.completeLeased(word.body.envelope, receipt: receipt)
      answers[word.place] = SignedWord(receipt: receipt, isOurs: true)
    }
    unsigned.removeAll()
    waiting.removeAll()
  }
}

extension WordStep {
  fileprivate var id: EnvelopeID {
    switch self {
    case .sign(let id, _, _), .settled(let id, _), .revoked(let id, _): id
    }
  }
}
