import EngramCore
import EngramCrypto
import Synchronization

@testable import EngramClient

extension FakeNode {
  /// `DELETE …/messages/{message id}`: what still waits in this node's own mailboxes.
  func cancel(_ message: String, _ request: NodeRequest) -> NodeReply {
    guard let kid = kid(of: request) else { return problem(401, .sessionExpired) }
    guard drop(message, by: kid, home: self) > 0 else { return problem(409, .notFound) }
    return NodeReply(status: 204, body: [])
  }

  /// Takes a message of one device out of every mailbox here, and signs for each that it was cancelled.
  /// - Returns: how many copies went.
  @discardableResult
  func drop(_ message: String, by sender: Kid, home: FakeNode) -> Int {
    let dropped = state.withLock { state -> [(Kid, EnvelopeHeader, EnvelopeID)] in
      var dropped: [(Kid, EnvelopeHeader, EnvelopeID)] = []
      for (kid, items) in state.boxes {
        state.boxes[kid] = items.filter { item in
          guard item.kind == .envelope, let envelope = try? UnverifiedEnvelope(parsing: item.payload),
            envelope.header.senderKid == sender, envelope.header.messageID.description == message
          else { return true }
          dropped.append((kid, envelope.header, EnvelopeDigests(of: envelope).id))
          return false
        }
      }
      return dropped
    }
    for (kid, header, id) in dropped {
      let recipient = header.recipients.first { $0.kid == kid }
      let body = ReceiptBody(
        role: home === self ? .homeNode : .recipientNode, issuerName: name.text, issuerKey: key.publicKey,
        envelope: id, sender: header.sender, senderKid: sender, messageID: header.messageID,
        recipient: recipient?.address, recipientKid: kid, state: .cancelled, atMs: clock.nowMs)
      home.deposit(.receipt, receiptRow([signReceipts([body], with: key)[0]]), nil, for: sender)
    }
    return dropped.count
  }
}
